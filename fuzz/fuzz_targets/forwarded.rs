//! Any bytes as the headers in which proxies name a client.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::run("forwarded", input));
