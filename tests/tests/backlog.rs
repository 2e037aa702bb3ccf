//! Gates return with their journals full while riders tap at others: a small form of `cargo x bench host --backlog`.

use serde_json::Value;
use std::process::Command;

#[test]
fn a_backlog_is_drained_and_counted_once_beside_gates_that_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let figures = folder.path().join("figures.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench-host"));
    // The bench itself refuses figures of taps that are missing or that the store has twice.
    let done = bench.args(["--backlog", "40:30:5", "--json"]).arg(&figures).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let figures: Value = serde_json::from_slice(&std::fs::read(figures).unwrap()).unwrap();
    for store in ["sqlite", "postgres"] {
        let told = &figures[store]["backlog"];
        assert_eq!((&told["gates"], &told["entries"]), (&40.into(), &1_200.into()), "{told}");
        let live = [&told["live_ms_without_backlog"], &told["live_ms"]];
        let taps: u64 = live.iter().filter_map(|waits| waits["taps"].as_u64()).sum();
        assert_eq!(told["taps_in_store"].as_u64(), Some(1_200 + taps), "{told}");
        for figure in
            [&told["seconds"], &told["entries_per_second"], &told["ratio"]["p50"], &told["ratio"]["p99"]]
        {
            assert!(figure.as_f64().is_some_and(|figure| figure > 0.0), "{told}");
        }
        for waits in live {
            let of = |name: &str| waits[name].as_f64().unwrap();
            assert!(of("p50") > 0.0 && of("p50") <= of("p95") && of("p95") <= of("p99"), "{told}");
            assert!(of("p99") <= of("max"), "{told}");
        }
    }
}
