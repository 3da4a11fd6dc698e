//! Any bytes as `Idempotency-Key` headers.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::run("idempotency_key", input));
