//! Any text as tables `[[room]]`, and any room.
#![no_main]

#[path = "../checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::run("room_tables", input));
