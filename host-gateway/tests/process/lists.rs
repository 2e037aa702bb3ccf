//! What gates are sent: their configuration, revocations and CA keys.

use super::*;

#[test]
fn the_configuration_that_is_shown_is_a_file_to_be_changed_and_set() {
    let house = House::new();
    // Nobody runs: the command takes the folder itself.
    let shown = house.says(&["gate-config", "show"]);
    std::fs::write(house.path("g.toml"), shown.replace("\"5m\"", "\"90s\"")).unwrap();
    let said = house.says(&["gate-config", "set", "g.toml"]);
    assert_eq!(
        said.trim(),
        "the configuration is set, with other passback; published as version 1 of epoch 1"
    );

    let _gateway = house.serve();
    let shown = house.says(&["gate-config", "show"]);
    assert!(shown.contains("passback = \"1m 30s\"") && !shown.contains("relay"), "{shown}");
    let timed = format!("{shown}\n[relay]\noverhead_us = 2000\ngrace_us = 300\ncap_us = 10000\n");
    std::fs::write(house.path("g.toml"), &timed).unwrap();
    let said = house.says(&["gate-config", "check", "g.toml"]);
    assert!(said.starts_with("g.toml is sound: gates take it; applications: 4, cards are timed"), "{said}");
    assert_eq!(house.says(&["gate-config", "show"]), shown, "a check changes nothing");
    let said = house.says(&["gate-config", "set", "g.toml", "--user", "anna"]);
    assert!(said.contains("with other relay; published as version 2 of epoch 1"), "{said}");
    let set = house.json(&["gate-config", "show", "--json"]);
    assert_eq!(set["relay"], serde_json::json!({ "overhead_us": 2000, "grace_us": 300, "cap_us": 10000 }));
    assert!(house.says(&["gate-config", "set", "g.toml"]).contains("this one already; no gate's list"));

    std::fs::write(house.path("g.toml"), timed.replace("tap_limit", "tap_limits")).unwrap();
    for command in ["check", "set"] {
        let told = house.refuses(&["gate-config", command, "g.toml"]);
        assert!(told.starts_with("error: g.toml:6:1: unknown field `tap_limits`"), "{told}");
        let told = house.refuses(&["gate-config", command, "nowhere.toml"]);
        assert!(told.contains("nowhere.toml: "), "{told}");
    }
    assert_eq!(house.json(&["gate-config", "show", "--json"]), set);
}

#[test]
fn an_issuer_is_revoked_listed_and_lifted() {
    let house = House::new();
    // A driven clock begins at the time in the store.
    house.gate("1");
    let _gateway = house.serve();
    let which = ["--rid", "a000000333", "--index", "08", "--serial", "00012F"];
    let add =
        [&["revocation", "add", "--note", "by the scheme's letter", "--user", "anna"], &which[..]].concat();
    let out = house.run(&add);
    let (said, warned) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(said.starts_with("issuer certificate 00012F under CA key A000000333 08 is revoked; published"));
    assert!(out.status.success() && warned.contains("gates have no such CA key"), "{warned}");
    assert!(house.says(&add).contains("is already revoked; no gate's list changes"));
    let list = house.json(&["revocation", "list", "--json"]);
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!((&list[0]["serial"], &list[0]["by"]), (&"00012F".into(), &"anna".into()));
    assert_eq!(list[0]["note"], "by the scheme's letter");
    assert!(house.says(&["revocation", "list"]).starts_with("revocations: 1 of 64"));
    let remove = [&["revocation", "remove"], &which[..]].concat();
    assert!(house.says(&remove).contains("is no longer revoked; published"));
    assert!(house.says(&remove).contains("was not revoked; no gate's list changes"));
    assert_eq!(house.json(&["revocation", "list", "--json"]), serde_json::json!([]));
    let misused = house.run(&["revocation", "add", "--rid", "A0", "--index", "08", "--serial", "00012F"]);
    assert_eq!(misused.status.code(), Some(2));
}

#[test]
fn a_scheme_s_ca_key_is_added_with_its_check_value_and_the_own_bank_s_stays() {
    let (rid, modulus) = ([0xA0, 0, 0, 3, 0x33], "C7".repeat(144));
    let value = wavepass_protocol::rsa::ca_check_value(&rid, 8, &[0xC7; 144], &[3]);
    let value: String = value.iter().map(|b| format!("{b:02X}")).collect();
    let entry = format!(
        "[[ca_key]]\nrid = \"A000000333\"\nindex = \"08\"\nmodulus = \"{modulus}\"\nexponent = \"03\"\n"
    );
    let house = House::new();
    // A driven clock begins at the time in the store.
    house.gate("1");
    let _gateway = house.serve();
    let good = format!("{entry}check_value = \"{value}\"\nexpires = \"2040-12-31\"\n");
    std::fs::write(house.path("wrong.toml"), good.replace("C7C7\"", "C7C5\"")).unwrap();
    let told = house.refuses(&["ca-key", "add", "wrong.toml"]);
    assert!(told.starts_with("error: wrong.toml:1:1: CA key 1: the check value is not the key's"), "{told}");
    std::fs::write(house.path("past.toml"), good.replace("2040", "2020")).unwrap();
    assert!(house.refuses(&["ca-key", "add", "past.toml"]).contains("its last day, 2020-12-31, is past"));
    std::fs::write(house.path("keys.toml"), &good).unwrap();
    let said = house.says(&["ca-key", "add", "keys.toml"]);
    assert!(said.starts_with("added: CA key A000000333 08 (rsa); published as version "), "{said}");
    assert!(house.says(&["ca-key", "add", "keys.toml"]).contains("is there already; no gate's list"));
    let list = house.json(&["ca-key", "list", "--json"]);
    let rows: Vec<_> = list.as_array().unwrap().iter().map(|row| (&row["rid"], &row["own"])).collect();
    assert_eq!(rows, [(&"A000000333".into(), &false.into()), (&"F057415645".into(), &true.into())]);
    assert_eq!((&list[0]["bits"], &list[0]["expires"]), (&1152.into(), &"2040-12-31".into()));
    assert_eq!(list[0]["check_value"], value);

    // A transcript states neither check value nor last day.
    let transcript = serde_json::json!({
        "ca_keys": [{ "rid": "A000000333", "index": "08", "modulus": modulus, "exponent": "03" }],
        "date": "2026-11-23",
        "exchange": [],
    });
    std::fs::write(house.path("t.json"), transcript.to_string()).unwrap();
    assert!(house.refuses(&["ca-key", "add", "t.json"]).contains(&value));
    let stated = ["ca-key", "add", "t.json", "--check-value", &value, "--expires", "2041-12-31"];
    assert!(house.says(&stated).starts_with("added: "));
    assert_eq!(house.json(&["ca-key", "list", "--json"])[0]["expires"], "2041-12-31");

    // Another key in the own bank's place, and one of the same index with another suite.
    let point = |rid: [u8; 5], index: u8, suite: &str, y: &str, key: &[u8]| {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02X}")).collect::<String>();
        let value = hex(&wavepass_protocol::rsa::ca_check_value(&rid, index, key, &[]));
        format!(
            "[[ca_key]]\nrid = \"{}\"\nindex = \"{index:02X}\"\nsuite = \"{suite}\"\nx = \"{}\"\n{y}\
             check_value = \"{value}\"\nexpires = \"2040-12-31\"\n",
            hex(&rid),
            "11".repeat(32)
        )
    };
    let own = u8::from_str_radix(list[1]["index"].as_str().unwrap(), 16).unwrap();
    let other = point([0xF0, 0x57, 0x41, 0x56, 0x45], own, "p256", "", &[0x11; 32]);
    std::fs::write(house.path("own.toml"), other).unwrap();
    assert!(house.refuses(&["ca-key", "add", "own.toml"]).contains("this place is the own bank's"));
    let y = format!("y = \"{}\"\n", "11".repeat(32));
    std::fs::write(house.path("sm2.toml"), point(rid, 8, "sm2", &y, &[0x11; 64])).unwrap();
    house.says(&["ca-key", "add", "sm2.toml"]);

    let remove = ["ca-key", "remove", "--rid", "A000000333", "--index", "08"];
    assert!(house.refuses(&remove).contains("say which with --suite"));
    house.says(&[&remove[..], &["--suite", "sm2"]].concat());
    assert!(house.says(&remove).starts_with("removed: CA key A000000333 08 (rsa); published"));
    assert!(house.refuses(&remove).contains("there is no such CA key A000000333 08"));
    let own = house.json(&["ca-key", "list", "--json"])[0].clone();
    let (rid, index) = (own["rid"].as_str().unwrap(), own["index"].as_str().unwrap());
    let told = house.refuses(&["ca-key", "remove", "--rid", rid, "--index", index]);
    assert!(told.contains("the last CA key stays"), "{told}");
}
