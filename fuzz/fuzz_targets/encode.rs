//! Any name, id and data through the encoder and back out of an event stream parser.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|event: (Option<&str>, &str, &str)| {
    let (name, id, data) = event;
    checks::encode_then_parse(name, id, data);
});
