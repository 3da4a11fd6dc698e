//! Any bytes as the beginning of a connection that a proxy has to introduce.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::proxy_header(bytes);
});
