//! Streams of every dialect: the same events and bytes however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tallygate_tokens::fuzz::sse(data));
