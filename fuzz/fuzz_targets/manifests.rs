#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dynvis_fuzz::manifests(bytes));
