//! Any bytes as the beginning of a connection that a proxy has to introduce.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::run("proxy_header", input));
