//! Any bytes as requests, cut anywhere.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: (&[u8], u8)| {
    checks::guard(input.0, input.1.into());
});
