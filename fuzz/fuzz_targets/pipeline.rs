#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| dynvis_fuzz::pipeline(text));
