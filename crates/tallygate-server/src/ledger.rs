//! The ledger of usage: what became of each call goes to a task that keeps it on a shelf. No call waits for that, but the end of a
//! reservation of the decision API is answered when it is as safe as a folder promises.
//!
//! ```text
//! Account (gateway) ┐
//! Refusal (a limit) ├─record─► queue ─► Writer ─in a moment─► Shelf
//! Reservations (API)┘
//! ```
//! Whose a call is stands on the shelf until its record does, so that whoever comes after a killed process can make that.
//!
//! Records are made in this module alone. None holds a text of a prompt or an answer, or a key.

mod ends;
mod entry;
mod expiry;
#[cfg(test)]
mod left_tests;
mod memo;
mod promise;
mod recorder;
mod reservations;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use ends::End;
pub(crate) use entry::{Entry, Reserved, Subject, Use};
pub(crate) use expiry::watch_expiry;
pub(crate) use promise::Promise;
pub(crate) use recorder::{Kept, LedgerLog, Recorder, recorder};
pub(crate) use writer::Writer;
