//! What outlives the process: the store, its copies, and who owns it.

use super::*;

#[test]
fn a_driven_clock_begins_where_the_store_stopped() {
    let house = House::new();
    house.gate("1");
    let _gateway = house.serve();
    let running = Running::read(house.dir.path()).unwrap();
    let token = std::fs::read_to_string(house.path("admin-token")).unwrap();
    let url = format!("http://{}/v1/clock", running.http);
    let mut answer =
        ureq::get(url).header("authorization", format!("Bearer {}", token.trim())).call().unwrap();
    let clock: serde_json::Value =
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    // 2025-01-01: the gate was added by the system's clock.
    assert!(clock["now_ms"].as_u64().unwrap() > 1_735_689_600_000, "{clock}");
}

#[test]
fn a_database_is_copied_while_it_is_served_and_put_back_only_where_there_is_none() {
    let house = House::new();
    let mut gate = house.gate("1");
    let gateway = house.serve();
    house.write_entries("first", &entries(&mut gate, 3));
    house.says(&["import", "first"]);
    if postgres().is_some() {
        assert!(house.refuses(&["backup", "--out", "copy.db"]).contains("pg_dump"));
        assert!(house.refuses(&["restore", "copy.db"]).contains("pg_restore"));
        assert!(!house.path("copy.db").exists(), "nothing is left of what was not made");
        return;
    }
    assert!(house.says(&["backup", "--out", "copy.db"]).contains("checked"));
    assert_eq!(mode_of(&house.path("copy.db")), 0o600);
    assert!(house.refuses(&["backup", "--out", "copy.db"]).contains("exists already"));
    house.write_entries("second", &entries(&mut gate, 2));
    house.says(&["import", "second"]);
    assert!(house.refuses(&["restore", "copy.db"]).contains("wavepass.db exists already"));
    gateway.kill();

    for (name, bytes, why) in
        [("noise", &b"no database"[..], "no sound copy"), ("empty", b"", "not a database")]
    {
        std::fs::write(house.path(name), bytes).unwrap();
        let refused = house.refuses(&["--data", "elsewhere", "--keys", "keys", "restore", name]);
        assert!(refused.contains(why), "{refused}");
        assert!(!house.path("elsewhere/wavepass.db").exists());
    }
    let elsewhere = ["--data", "elsewhere", "--keys", "keys"];
    let back = house.says(&[&elsewhere[..], &["restore", "copy.db", "--json"]].concat());
    let back: serde_json::Value = serde_json::from_str(&back).unwrap();
    assert_eq!(back["list_epoch"], 2);
    assert!(!house.path("elsewhere/wavepass.db.restoring").exists());
    // The three that the copy has are there, the two after it come for the first time.
    let again = house.says(&[&elsewhere[..], &["import", "first"]].concat());
    assert!(again.contains("3 repeated"), "{again}");
    let again = house.says(&[&elsewhere[..], &["import", "second"]].concat());
    assert!(again.contains("2 accepted"), "{again}");

    // A command that only looks does not put an empty one in its place, which would be in the way of the copy.
    std::fs::remove_file(house.path("elsewhere/wavepass.db")).unwrap();
    let refused = house.refuses(&[&elsewhere[..], &["report"]].concat());
    assert!(refused.contains("elsewhere/wavepass.db is gone: put a copy back"), "{refused}");
    house.says(&[&elsewhere[..], &["restore", "copy.db"]].concat());
    let again = house.says(&[&elsewhere[..], &["import", "first"]].concat());
    assert!(again.contains("3 repeated"), "{again}");
}

#[test]
fn a_second_gateway_on_the_same_folder_is_refused_by_name() {
    let house = House::new();
    let gateway = house.serve();
    let second = house.run(&["serve", "--listen-link", "127.0.0.1:0", "--listen-http", "127.0.0.1:0"]);
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        message.contains("is in use by another process") && message.contains(&gateway.child.id().to_string()),
        "{message}"
    );
}

#[test]
fn what_was_accepted_survives_a_kill_and_counts_once() {
    let house = House::new();
    let mut gate = house.gate("1");
    let all = entries(&mut gate, 200);
    house.write_entries("all.jsonl", &all);
    let mut accepted = 0;
    for round in 0..4usize {
        let gateway = house.serve();
        house.write_entries("part.jsonl", &all[..(round + 1) * 50]);
        let said = house.says(&["import", "part.jsonl"]);
        assert!(said.contains("50 accepted"), "{said}");
        accepted += 50;
        gateway.kill();
    }
    // The killed gateway leaves its address behind, and no lock.
    assert_eq!(house.says(&["import", "all.jsonl"]).trim(), format!("200 entries: {accepted} repeated"));
}
