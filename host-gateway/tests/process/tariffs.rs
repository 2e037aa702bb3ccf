//! Tariffs: tried, checked, compared, imported and published.

use super::*;

#[test]
fn tariffs_are_tried_checked_compared_and_imported_without_a_store() {
    let house = House::new();
    let city = include_str!("../../tariffs/wavepass-city.toml");
    let write = |name: &str, text: &str| {
        std::fs::write(house.path(name), text).unwrap();
        house.path(name).display().to_string()
    };
    let old = write("old.toml", city);
    let new = write("new.toml", &city.replace("base_fen = 200", "base_fen = 300"));
    let taps = write(
        "taps.jsonl",
        "{\"token\":\"t\",\"time\":\"2026-11-23T08:00:00+08:00\",\"station\":\"HB\",\"kind\":\"entry\"}\n\
         {\"token\":\"t\",\"time\":\"2026-11-23T08:20:00+08:00\",\"station\":\"QS\",\"kind\":\"exit\"}\n",
    );
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&house.says(args)).unwrap() };
    let priced = json(&["price", "--tariff", &old, "--taps", &taps, "--json"]);
    assert_eq!(priced[0]["charge_fen"], 200);
    let found = json(&["tariff", "diff", &old, &new, "--taps", &taps, "--json"]);
    assert_eq!((&found["total"]["change_fen"], &found["days"][0]["new_fen"]), (&100.into(), &300.into()));
    assert!(house.says(&["tariff", "check", &old]).contains("24 stations, no fault"));
    let bad =
        write("bad.toml", &city.replace("\"CNY\"", "\"EUR\"").replace("every_m = 8_000", "every_m = 0"));
    let refused = house.run(&["tariff", "check", &old, &bad]);
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr.contains(&format!("{bad}:9: currency")) && stderr.contains("every_m is 0"), "{stderr}");

    let feed = concat!(env!("CARGO_MANIFEST_DIR"), "/gtfs/tests/feed");
    let out = house.path("imported.toml").display().to_string();
    let import = ["tariff", "import-gtfs", feed, "--out", &out, "--effective-from", "2026-12-01"];
    assert!(house.says(&import).contains("timeframes.txt is not taken"));
    assert!(house.says(&["tariff", "check", &out]).contains("from 2026-12-01: 5 stations, no fault"));
    let again = house.run(&import);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"));
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_a_failure_and_a_reader_that_left_is_none() {
    let house = House::new();
    std::fs::write(house.path("city.toml"), include_str!("../../tariffs/wavepass-city.toml")).unwrap();
    let check = |to: Stdio| {
        let mut command = house.command(&["tariff", "check", "city.toml"]);
        command.stdout(to).stderr(Stdio::piped()).output().unwrap()
    };
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let failed = check(full.into());
    let stderr = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr.starts_with("error: standard output: No space left on device"), "{stderr}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(check(writer.into()).status.code(), Some(0));
}

#[test]
fn a_tariff_that_cannot_be_used_keeps_the_gateway_from_starting() {
    let house = House::new();
    let serve = |tariff: &str| {
        house.run(&[
            "serve",
            "--listen-link",
            "127.0.0.1:0",
            "--listen-http",
            "127.0.0.1:0",
            "--tariff",
            tariff,
        ])
    };
    std::fs::write(house.path("broken.toml"), "version = 3\nnetwork = {").unwrap();
    for (tariff, told) in [("missing.toml", "missing.toml"), ("broken.toml", "broken.toml:")] {
        let refused = serve(tariff);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{stderr}");
        assert!(stderr.contains(told), "{stderr}");
    }
}

#[test]
fn a_tariff_is_tried_on_a_closed_day_of_the_gateway_s_own_alone() {
    let house = House::new();
    std::fs::write(house.path("city.toml"), include_str!("../../tariffs/wavepass-city.toml")).unwrap();
    let args = ["tariff", "diff", "city.toml", "--day", "2026-11-23"];
    assert!(house.refuses(&args).contains("tariff"), "none is published");
    let gateway = house.serve();
    // It is the gateway that answers: its clock was never told the time.
    assert!(house.refuses(&args).contains("clock"));
    for misused in [&[&args[..], &["--taps", "taps.jsonl"]].concat()[..], &args[..3]] {
        assert_eq!(house.run(misused).status.code(), Some(2), "{misused:?}");
    }
    gateway.kill();
}
