//! The command `phone` in the hands of somebody who does not know it yet: what is wrong is said, and what to do.

use crate::command::{command, end_gracefully, run, text};
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
