//! Requests of every endpoint: a count lies within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tallygate_tokens::fuzz::sizing(data));
