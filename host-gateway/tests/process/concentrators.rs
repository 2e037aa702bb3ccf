//! The guide's own script against a running gateway.

use super::{House, entries, mode_of};
use std::process::{Command, Output};
use wavepass_gateway::serve::Running;

/// The script of docs/operating.md.
fn script() -> &'static str {
    let guide = include_str!("../../../docs/operating.md");
    let (_, script) = guide.split_once("```python\n").unwrap();
    script.split_once("```").unwrap().0
}

impl House {
    /// Runs the script on a file of entries.
    fn sign(&self, entries: &str) -> Output {
        let url = format!("http://{}/v1/taps/batches", Running::read(self.dir.path()).unwrap().http);
        let mut python = Command::new("python3");
        python.current_dir(self.dir.path()).args(["sign.py", "tram-depot.json", &url, entries]);
        python.output().expect("python3 is installed")
    }

    fn signed(&self, entries: &str) -> String {
        let out = self.sign(entries);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn not_taken(&self, entries: &str) -> String {
        let out = self.sign(entries);
        assert!(!out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        String::from_utf8(out.stderr).unwrap()
    }
}

#[test]
fn the_guide_s_script_signs_a_batch_that_a_running_gateway_takes() {
    let house = House::new();
    let (mut own, mut other) = (house.gate("1"), house.gate("5"));
    let gateway = house.serve();
    let add = ["concentrator", "add", "tram depot", "--gates", "1,2,7-9", "--out", "tram-depot.json"];
    let said = house.says(&add);
    assert!(said.contains("for gates 1-2,7-9; tram-depot.json holds its key"), "{said}");
    assert_eq!(mode_of(&house.path("tram-depot.json")), 0o600);
    assert!(!house.run(&add).status.success(), "a key file is made once");
    let refused = house.run(&["concentrator", "add", "other", "--gates", "1", "--out", "-"]);
    assert!(!refused.status.success() && !house.path("-").exists());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--out - is not standard output"));
    std::fs::write(house.path("sign.py"), script()).unwrap();
    house.write_entries("taps.jsonl", &entries(&mut own, 2));
    house.write_entries("other.jsonl", &entries(&mut other, 1));

    let verdicts = |word: &str| format!(r#""verdicts":[{{"verdict":"{word}"}},{{"verdict":"{word}"}}]"#);
    let answer = house.signed("taps.jsonl");
    assert!(answer.contains(&verdicts("accepted")), "{answer}");
    let answer = house.signed("taps.jsonl");
    assert!(answer.contains(&verdicts("repeated")), "{answer}");
    let told = house.not_taken("other.jsonl");
    assert!(told.contains("403") && told.contains("other_gate"), "{told}");
    // Blank lines are passed over; whatever else is wrong is one line.
    let taps = std::fs::read_to_string(house.path("taps.jsonl")).unwrap();
    std::fs::write(house.path("blank.jsonl"), format!("\n{taps}\n  \n")).unwrap();
    let answer = house.signed("blank.jsonl");
    assert!(answer.contains(&verdicts("repeated")), "{answer}");
    std::fs::write(house.path("bad.jsonl"), format!("{taps}\n{{\"seal\":1}}\n")).unwrap();
    assert_eq!(house.not_taken("bad.jsonl"), "bad.jsonl, line 4: not {\"sealed\":\"…\"}\n");
    assert_eq!(house.not_taken("nowhere.jsonl"), "nowhere.jsonl: No such file or directory\n");
    house.says(&["concentrator", "retire", "tram depot"]);
    let told = house.not_taken("taps.jsonl");
    assert!(told.contains("401") && told.contains("retired_key"), "{told}");
    let running = Running::read(house.dir.path()).unwrap();
    assert!(gateway.end());
    // The address of a gateway that has gone is read from a copy.
    std::fs::write(house.path("gateway.json"), serde_json::to_vec(&running).unwrap()).unwrap();
    let told = house.not_taken("taps.jsonl");
    assert!(told.contains("refused") && told.lines().count() == 1, "{told}");
    let log = house.log();
    for reason in ["other_gate", "retired_key"] {
        let line = format!("concentrator=\"tram depot\" reason=\"{reason}\" peer=\"127.0.0.1:");
        assert!(log.contains(&line), "{reason}: {log}");
    }
    // Nothing of the key is in the log.
    let file = std::fs::read_to_string(house.path("tram-depot.json")).unwrap();
    let key = file.split("\"key\": \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(key.len() == 44 && !house.log().contains(key));
}
