//! Any bytes as a streamed body, cut into chunks whose sizes are the first eight bytes.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (sizes, body) = bytes.split_at(bytes.len().min(8));
    checks::lines(body, sizes, 20);
});
