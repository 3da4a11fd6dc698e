//! Any name, id and data through the encoder and back out of an event stream parser.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::run("encode", input));
