//! Any bytes as a streamed body, cut into chunks whose sizes are the first eight bytes.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::run("lines", input));
