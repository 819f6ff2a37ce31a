//! Answers of every dialect: amounts stay within what a counter can hold.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tallygate_tokens::fuzz::usage(data));
