//! Configurations: whatever the bytes, either a configuration or problems that say something.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tallygate_server::config::fuzz(data));
