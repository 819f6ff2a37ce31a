//! The oracle: the log of all that was charged, replayed in exact rationals.
//!
//! It keeps every charge for ever, at the moment of its reservation, with the amount now known to be right, and
//! works out where a counter stands by replaying the log. Nothing here is shared with the engine's arithmetic.
mod book;
mod lines;
mod tally;

pub(crate) use book::{Book, CounterName, Refusal, State};
pub(crate) use lines::{Queued, blocking, contested};
pub(crate) use tally::Fit;
