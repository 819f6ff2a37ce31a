//! The ledger of usage: what became of each call goes to a task that keeps it on a shelf. No call waits for that.
//!
//! ```text
//! Account (gateway) ┐
//! Refusal (a limit) ├─record─► queue ─► Writer ─about once a second─► Shelf
//! Reservations (API)┘
//! ```
//! Records are made in this module alone. None holds a text of a prompt or an answer, or a key.

mod entry;
mod expiry;
mod recorder;
mod reservations;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use entry::{Entry, Reserved, Subject, Use};
pub(crate) use expiry::watch_expiry;
pub(crate) use recorder::{LedgerLog, Recorder, recorder};
pub(crate) use writer::Writer;
