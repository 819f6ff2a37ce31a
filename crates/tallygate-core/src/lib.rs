//! The pure engine of Tallygate: limits, counters, reservations and waiting lines.
//!
//! Nothing here reads a clock, does IO, is async or random: every operation is a function of the
//! state, its input and the time it is told.
#![deny(clippy::as_conversions, clippy::float_arithmetic)]
// Tests may add up plainly: an overflow there is a panic.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod account;
mod calendar;
mod codec;
mod counter;
mod decision;
pub mod fuzz;
mod history;
mod id;
mod infima;
mod ledger;
mod meter;
mod metric;
mod num;
mod policy;
mod rate;
pub mod remote;
mod ring;
mod shape;
mod slot;
mod table;
pub mod text;
mod time;

pub use codec::JournalError;
pub use decision::{
    Admission, Decision, Denial, EndError, Extended, FullError, Never, Outcome, Receipt, Replay,
    Standing, Told,
};
pub use id::{ParseIdError, ReservationId};
pub use ledger::{
    Ask, Bounds, Entry, ExtendError, Keys, Ledger, MAX_EXTENSIONS, Patience, Ticket, Used, WaitsFor,
};
pub use metric::{Amounts, MAX_AMOUNT, METRICS, Metric, MetricError, Metrics, Stated};
pub use policy::{
    AS_ASKED, DOWNGRADED, LimitInfo, MAX_REFILL, MAX_RULES, MAX_WINDOW, Pattern, Policy,
    PolicyError, Rule,
};
pub use shape::{Calendar, Mode, Shape, StoreDown};
pub use time::{Span, Time};
