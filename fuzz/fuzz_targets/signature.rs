#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = wavepass_fuzz_targets::TARGETS.iter().find(|t| t.name == "signature").expect("a target");
    (target.run)(data);
});
