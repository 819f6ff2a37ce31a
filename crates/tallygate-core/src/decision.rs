//! What comes out: admissions, denials, receipts.
use crate::id::ReservationId;
use crate::metric::{Amounts, Metric};
use crate::policy::LimitInfo;
use crate::time::Time;
use std::sync::Arc;
use std::time::Duration;

/// The answer to "may this call go now?".
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Yes: the demand is held on every limit that applies.
    Admit(Admission),
    /// Not now; no counter was changed.
    Deny(Denial),
    /// No wait would help; no counter was changed.
    Never(Never),
}

/// A demand admitted and held.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// Names the reservation in settle, cancel and extend.
    pub id: ReservationId,
    /// When the reservation ends if nobody settles it.
    pub expires_at: Time,
    /// What is held.
    pub reserved: Amounts,
    /// Where each limit that applies stands with this reservation held.
    pub standings: Vec<Standing>,
    /// The shadow limits that would have denied it.
    pub shadowed: Vec<Arc<LimitInfo>>,
    /// How long it waited in line.
    pub waited: Duration,
    /// Whether this is the answer to an earlier call with the same idempotency key.
    pub replay: Replay,
}

/// Whether an admission is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// Admitted by this call.
    Fresh,
    /// Admitted by an earlier call with the same idempotency key, still open.
    Open,
    /// Admitted by an earlier call with the same idempotency key, ended since.
    Ended(Outcome),
}

/// Where one counter stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The limit it counts for.
    pub limit: Arc<LimitInfo>,
    /// How much of the limit is taken now, in the metric's unit.
    pub used: u64,
    /// How much could be taken now.
    pub remaining: u64,
    /// How far the counter is below zero because more was used than held.
    pub debt: u64,
    /// Until the counter is back at its initial state if nothing else comes.
    pub reset: Duration,
}

/// Who blocked, and when to come again.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    /// The limits without room.
    pub blocked_by: Vec<Standing>,
    /// Until the earliest instant at which this demand could be admitted if nothing else came.
    pub retry_after: Duration,
    /// The same as an instant.
    pub retry_at: Time,
}

/// The demand is larger than a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Never {
    /// The limits it can never fit.
    pub blocked_by: Vec<Standing>,
    /// The largest amount each of the blocking metrics could ever be admitted with.
    pub largest: Vec<(Metric, u64)>,
}

/// The answer to extend.
#[derive(Debug, Clone, PartialEq)]
pub enum Extended {
    /// The hold now has these amounts and this deadline.
    Granted {
        /// When the reservation ends if nobody settles it.
        expires_at: Time,
        /// All that is held now.
        reserved: Amounts,
    },
    /// Not now; the reservation stands as it was.
    Deny(Denial),
    /// No wait would help; the reservation stands as it was.
    Never(Never),
}

/// How a reservation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The real use was charged.
    Settled,
    /// All was given back.
    Cancelled,
    /// The deadline passed; the held amounts are kept as used.
    Expired,
}

/// What the end of a reservation did. Two receipts are equal that say the same, whenever they are told.
#[derive(Debug, Clone, Copy)]
pub struct Receipt {
    /// How it ended.
    pub outcome: Outcome,
    /// What was charged.
    pub charged: Amounts,
    /// What was held and not used.
    pub returned: Amounts,
    /// How far below zero the furthest counter of each metric stood after it.
    pub debt: Amounts,
    /// Whether it is told for the first time, as far as is known: who keeps accounts of what was used need not note a repeat.
    pub told: Told,
}

/// Whether the end of a reservation is news to whoever asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Told {
    /// It has taken effect now, or it is not known that anybody was told before.
    #[default]
    First,
    /// It had taken effect before.
    Again,
}

impl Receipt {
    /// Whether the end had taken effect before.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.told == Told::Again
    }

    /// The same, told to somebody who asks again.
    #[must_use]
    pub fn again(self) -> Self {
        Self {
            told: Told::Again,
            ..self
        }
    }
}

impl PartialEq for Receipt {
    fn eq(&self, other: &Self) -> bool {
        let said = |receipt: &Self| {
            let amounts = (receipt.charged, receipt.returned, receipt.debt);
            (receipt.outcome, amounts)
        };
        said(self) == said(other)
    }
}

impl Eq for Receipt {}

impl Receipt {
    /// All amounts it tells.
    pub(crate) fn amounts_mut(&mut self) -> [&mut Amounts; 3] {
        [&mut self.charged, &mut self.returned, &mut self.debt]
    }
}

/// Why a reservation could not be settled, cancelled or extended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// No reservation of this name is known: never made, or ended too long ago.
    #[error("the reservation is unknown")]
    Unknown,
    /// It ended otherwise before; that outcome stands.
    #[error("the reservation has ended already")]
    Ended(Box<Receipt>),
}

/// Why a demand could not be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FullError {
    /// All counters the ledger may keep are in use.
    #[error("no room for another counter: {0} are in use")]
    Counters(usize),
    /// All reservations the ledger may keep are open.
    #[error("no room for another reservation: {0} are open")]
    Reservations(usize),
    /// The waiting line is at its bound.
    #[error("no room in the waiting line: {0} are waiting")]
    Waiters(usize),
}
