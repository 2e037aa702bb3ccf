//! The command `phone` in the hands of somebody who does not know it yet: what is wrong is said, and what to do.

use crate::command::{command, end_gracefully, run, serve, text};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

/// The code, and the message without its beginning.
fn fails(folder: &Path, args: &[&str]) -> (i32, String) {
    let out = run(folder, args);
    assert_eq!(text(&out.stdout), "", "{args:?}");
    let said = text(&out.stderr).strip_prefix("error: ").unwrap_or_else(|| panic!("{args:?}: no error"));
    (out.status.code().unwrap(), said.to_owned())
}

#[test]
fn wrong_usage_has_a_code_of_its_own_and_says_what_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (args, wanted) in [
        ("issue", "--out <FILE>"),
        ("issue ./anna", "--out ./anna says where the phone goes, --profile ./anna from which profile"),
        ("issue --out a.json anna", "`anna` stands there without an option"),
        ("issue --out a.json --fault glass", "`phone list --faults` lists them"),
        ("issue --out a.json --fault slow", "`slow` is no fault; it is written slow=US"),
        ("issue --out a.json --expiry 2030", "a month is YYYY-MM"),
        ("issue --out a.json --effective 2030-02-30", "a day of the calendar is YYYY-MM-DD"),
        ("issue --out a.json --network TOOLONG", "a network has four letters or digits"),
        ("issue --out a.json --operator 3", "--network <NAME>"),
        ("issue --out a.json --network CITY --no-domain", "cannot be used with '--no-domain'"),
        ("issue --out a.json --add --force", "cannot be used with '--force'"),
        ("list --faults --profiles", "cannot be used with '--profiles'"),
        ("show", "<FILE>"),
        ("serve a.json", "--vpcd [<HOST:PORT>]|--tcp <ADDRESS:PORT>"),
        ("serve a.json --tcp 127.0.0.1:0 --vpcd", "cannot be used with '--vpcd"),
        ("serve --vpcd a.json", "write the phone first: phone serve FILE --vpcd"),
        ("serve a.json --vpcd badhost:port", "it has the form HOST:PORT, as 127.0.0.1:35963"),
        ("serve a.json --tcp 127.0.0.1:0 --wait 3", "cannot be used with '--wait"),
        ("serve a.json --tcp localhost:1", "an IP address of this computer and a port, as 127.0.0.1:35000"),
        ("serve a.json --pn532 127.0.0.1:0 --noise 2", "a number from 0 to 1"),
        ("apdu", "unrecognized subcommand"),
    ] {
        let (code, said) = fails(folder, &args.split(' ').collect::<Vec<_>>());
        assert_eq!(code, 2, "{args}: {said}");
        assert!(said.contains(wanted), "{args}: {said}");
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "nothing was made");
    let help = run(folder, &["--help"]);
    let help = text(&help.stdout);
    assert!(help.contains("Exit codes") && help.contains("phone serve anna.json"), "{help}");
}

#[test]
fn a_failure_says_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("empty.json"), "{}").unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();
    assert!(run(folder, &["issue", "--out", "a.json", "--authorities", "au"]).status.success());
    for (args, wanted) in [
        ("issue --out a.json", "a.json is there already; give --add or --force"),
        ("issue --out b.json --add", "b.json is not there; leave --add out"),
        ("issue --out a.json --add --authorities au", "is there twice; a phone has each identifier once"),
        ("issue --out empty.json --add", "empty.json: no phone's file"),
        ("issue --out folder", "folder is a folder; give a file in it"),
        ("issue --out nowhere/b.json", "there is no folder nowhere for nowhere/b.json"),
        ("issue --out empty.json/b.json", "there is no folder empty.json for"),
        ("issue --out b.json --authorities a.json", "a.json is a file; --authorities takes a folder"),
        ("issue --out b.json --authority nobody.json", "nobody.json: No such file"),
        ("issue --out b.json --authority empty.json", "empty.json: no authority of a suite known here"),
        ("issue --out b.json --profile sm2 --network CITY", "only a token of the house has a network"),
        ("issue --out b.json --profile sm2 --no-domain", "only a token of the house has a network"),
        ("issue --out b.json --expiry 2020-01", "--fault expired makes a phone that is over"),
        ("list nowhere", "nowhere: No such file"),
        ("list a.json", "a.json is no folder; `phone show a.json` shows a phone"),
        ("show nobody.json", "nobody.json: No such file"),
        ("serve nobody.json --vpcd", "nobody.json: No such file"),
        ("serve empty.json --vpcd", "empty.json: no phone's file"),
        ("serve a.json --vpcd --script nobody.toml", "nobody.toml: No such file"),
        ("serve a.json --tcp 192.0.2.1:0", "give an address of this computer"),
        ("serve a.json --pn532-target nowhere", "give a serial port, as /dev/ttyUSB0, or HOST:PORT"),
    ] {
        let (code, said) = fails(folder, &args.split(' ').collect::<Vec<_>>());
        assert_eq!(code, 1, "{args}: {said}");
        assert!(said.contains(wanted), "{args}: {said}");
    }
    assert!(!folder.join("b.json").exists());
}

#[test]
fn a_wrong_number_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    for (number, code, wanted) in [
        ("4111111111111111", 1, "whose tokens begin with 62990009"),
        ("411111111111111x", 2, "--token: a token has decimal digits only"),
        ("41111111", 2, "--token: a token has 13 to 19 digits, not 8"),
    ] {
        let (is, said) = fails(folder.path(), &["issue", "--out", "a.json", "--token", number]);
        assert!(is == code && said.contains(wanted) && !said.contains("4111"), "{said}");
    }
}

#[test]
fn a_profile_that_is_not_there_is_told_of_with_those_that_are_and_how_a_path_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("anna"), "about = 1\n").unwrap();
    for (name, begins, ends) in [
        ("hous", "there is no profile `hous`; built in are house, unionpay-debit,", "as ./mine.toml\n"),
        ("./bob", "there is no profile to read at `./bob` (No such file", "as ./mine.toml\n"),
        ("bob.toml", "there is no profile to read at `bob.toml` (No such file", "as ./mine.toml\n"),
        // A mistyped name is not taken for a file that happens to be there.
        ("anna", "there is no profile `anna`; built in are", "if you mean the file anna, give ./anna\n"),
        ("./anna", "./anna: line 1, column 9: invalid type", "expected a string\n"),
    ] {
        let (code, said) = fails(folder, &["issue", "--out", "a.json", "--profile", name]);
        assert!(code == 1 && said.starts_with(begins) && said.ends_with(ends), "{said}");
    }
}

#[test]
fn a_phone_that_is_served_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["issue", "--out", "a.json"]).status.success());
    let before = std::fs::read(folder.join("a.json")).unwrap();
    let mut served = serve(folder, "a.json");
    let (code, said) = fails(folder, &["issue", "--out", "a.json", "--force"]);
    assert!(code == 1 && said.contains("in use"), "{said}");
    assert_eq!(std::fs::read(folder.join("a.json")).unwrap(), before);
    end_gracefully(&served.child);
    served.child.wait().unwrap();
    assert!(run(folder, &["issue", "--out", "a.json", "--force"]).status.success());
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_virtual_reader_that_cannot_be_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["issue", "--out", "a.json"]).status.success());
    // No resolver is asked for a name of this form.
    let (code, said) = fails(folder, &["serve", "a.json", "--vpcd", "bad..host:35963"]);
    assert!(code == 1 && said.starts_with("bad..host:35963: the name has no address ("), "{said}");
    let address = nobody().to_string();
    let refused = run(folder, &["serve", "a.json", "--vpcd", &address, "--wait", "0"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.starts_with(&format!("error: no reader at {address} within 0 s (")), "{said}");
    assert!(said.contains("`systemctl start pcscd` or, without systemd, `pcscd --foreground`"), "{said}");
}

#[test]
fn a_virtual_reader_that_is_late_is_waited_for_and_may_go_later() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["issue", "--out", "a.json"]).status.success());
    let address = nobody();
    let args = ["serve", "a.json", "--vpcd", &address.to_string(), "--wait", "600"];
    let mut child = command(folder, &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = said.next().unwrap();
    assert!(line.starts_with("no reader yet (") && line.ends_with("waiting for it, 600 s at most"), "{line}");
    assert!(said.next().unwrap().starts_with("start pcscd with vpcd in it"));
    let listener = TcpListener::bind(address).unwrap();
    drop(listener.accept().unwrap());
    drop(listener);
    assert!(said.next().unwrap().starts_with("reader at 127.0.0.1:"));
    assert!(said.any(|line| line.starts_with("no reader any more (")), "it is looked for again");
    end_gracefully(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_went_away_is_no_failure_and_a_full_disk_is_one_without_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    for args in
        [&["list", "--faults", "--json"][..], &["list", "--faults"], &["list", "--profiles", "--json"]]
    {
        let (reads, writes) = std::io::pipe().unwrap();
        drop(reads);
        let out = command(folder.path(), args).stdout(writes).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), ""), "{args:?}");

        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let out = command(folder.path(), args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: standard output: No space left"), "{args:?}: {said}");
    }
}

#[test]
fn counters_that_cannot_be_read_hide_no_other_phone() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.json", "b.json"] {
        assert!(run(folder.path(), &["issue", "--out", name]).status.success());
    }
    std::fs::write(folder.path().join("a.json.state"), "x").unwrap();
    let out = run(folder.path(), &["list", "."]);
    assert!(out.status.success());
    assert!(text(&out.stdout).contains("b.json") && !text(&out.stdout).contains("a.json"));
    assert!(text(&out.stderr).contains("a.json.state"), "{}", text(&out.stderr));
}
