//! Saved ledgers and records: read, written again and used.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tallygate_core::fuzz::ledger(data));
