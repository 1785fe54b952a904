//! See `bodies/redactor.rs`.

#![no_main]

#[path = "../bodies/redactor.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| body::run(bytes));
