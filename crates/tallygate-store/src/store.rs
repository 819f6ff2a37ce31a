//! What every store does.
use crate::redis::Regime;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Amounts, Decision, Extended, FullError, Outcome, Policy, Receipt, ReservationId, Standing,
    Stated, Time,
};

pub use tallygate_core::WaitsFor;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A question to a store: may this subject use this much now?
#[derive(Debug, Clone, Copy)]
pub struct Reserve<'a> {
    /// Who asks: pairs of label and value. The caller adds what limits count apart by (model, upstream, …).
    pub subject: &'a [(&'a str, &'a str)],
    /// How much is asked for.
    pub demand: Amounts,
    /// How long the reservation stands unsettled.
    pub ttl: Duration,
    /// How long to wait in line; zero: answer at once.
    pub max_wait: Duration,
    /// For what it waits.
    pub waits_for: WaitsFor,
    /// A second call with the same key and subject gets the first one's reservation.
    pub idempotency_key: Option<&'a str>,
    /// Who will end it.
    pub settled_by: SettledBy,
}

/// Who will settle, cancel and extend a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SettledBy {
    /// Whoever is told its id: it is known to all that share the store.
    #[default]
    AnyNode,
    /// The store that was asked, and no other: it may be decided here, out of what was leased before, and in a folder it does not
    /// outlive the process.
    ThisNode,
}

/// What a call really used. Concurrency is freed whatever is said here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Exactly this, of every metric.
    Exact(Amounts),
    /// Exactly this of the metrics that are stated; of the others, what was held.
    Stated(Stated),
    /// At least this: nothing held is returned, and what is above the hold is charged.
    AtLeast(Amounts),
}

/// Where counters live. Every operation takes effect once, whatever is repeated or raced, and none before its
/// future is polled.
pub trait Store: Send + Sync {
    /// Decides, and holds what is admitted; waits in line up to `max_wait`.
    ///
    /// # Errors
    /// When the store is full or cannot be reached.
    ///
    /// # Cancel safety
    /// A dropped future leaves the line and holds nothing.
    fn reserve<'a>(&'a self, ask: Reserve<'a>) -> BoxFuture<'a, Result<Decision, StoreError>>;

    /// Replaces the held amounts by the real ones. A repeat answers the first receipt.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise. [`SettleError::Kept`] while the store takes nothing: it will
    /// hear of it.
    ///
    /// # Cancel safety
    /// Once polled, it is carried out though the future be dropped.
    fn settle<'a>(
        &'a self,
        id: ReservationId,
        usage: Settlement,
    ) -> BoxFuture<'a, Result<Receipt, SettleError>>;

    /// Gives all back. A repeat answers the first receipt.
    ///
    /// # Errors
    /// As [`Self::settle`].
    ///
    /// # Cancel safety
    /// As [`Self::settle`].
    fn cancel<'a>(&'a self, id: ReservationId) -> BoxFuture<'a, Result<Receipt, SettleError>>;

    /// Adds to the hold, moves the deadline to `ttl` from now, or both; all or nothing.
    ///
    /// # Errors
    /// When the reservation is unknown or has ended.
    fn extend<'a>(
        &'a self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Extended, SettleError>>;

    /// Where every limit of a subject stands. Changes nothing.
    ///
    /// # Errors
    /// When the store cannot be reached.
    fn peek<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Vec<Standing>, StoreError>>;

    /// Puts another policy in force; counters of unchanged limits are untouched. Callers in line are asked
    /// again; rules that are new need not bind them.
    ///
    /// Its metrics are those before, with new ones behind them: whoever has a reservation open states amounts by their places.
    /// What a store has kept over a restart goes by their names, so that they may be others then.
    ///
    /// # Errors
    /// When the store cannot be reached, or keeps what goes by the places of its metrics and they are others.
    fn replace_policy(&self, policy: Arc<Policy>) -> Result<(), StoreError>;

    /// How full the store is.
    fn stats(&self) -> StoreStats;

    /// Whether the store can be reached, as far as is known without asking it. A store inside the process always can, and
    /// one with a folder unless that takes no writes.
    fn health(&self) -> StoreHealth {
        StoreHealth::Up
    }

    /// What leases have saved the store. A store inside the process has nothing to save.
    fn leases(&self) -> LeaseStats {
        LeaseStats::default()
    }

    /// How each limit of a subject is decided just now, by its name, in the order of [`Store::peek`]. Nothing where there is but
    /// one way.
    fn regimes(&self, subject: &[(&str, &str)]) -> Vec<(Arc<str>, Regime)> {
        let _ = subject;
        Vec::new()
    }

    /// Gives back what others could use, before the last of this store is dropped. A store inside the process has nothing.
    ///
    /// # Cancel safety
    /// What was not given back is free for others a little later.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// What came of the times when the store was out of reach. A store inside the process has none.
    fn outage(&self) -> OutageStats {
        OutageStats::default()
    }

    /// The store's time.
    fn now(&self) -> Time;
}

/// How much was decided out of shares that a store had set aside for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseStats {
    /// Decisions made here since the store was opened.
    pub decisions: u64,
    /// Counters (one a rule and value of its labels) of which this process holds a share now.
    pub accounts: usize,
    /// Calls to the store since it was opened, of any kind.
    pub calls: u64,
}

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStats {
    /// Subjects with a counter that is not at its initial state (or was not, when last looked at).
    pub counters: usize,
    /// Open reservations that hold something.
    pub reservations: usize,
    /// Callers waiting in line.
    pub waiters: usize,
}

/// Whether a store can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StoreHealth {
    /// It answered when it was last asked.
    #[default]
    Up,
    /// It did not; limits do what their `store_down` says.
    Down {
        /// What was seen, without secrets.
        reason: String,
    },
}

impl StoreHealth {
    /// What is to be told of a store that is down: that its folder takes no writes, that it refuses where it answered (with a
    /// code as `OOM`), or else that it cannot be reached.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Up => None,
            Self::Down { reason } => Some(trouble(reason)),
        }
    }
}

/// What a reason comes to: a folder that takes no writes, a server that answered, or one that did not.
fn trouble(reason: &str) -> &'static str {
    match answer(reason) {
        _ if reason.starts_with("folder ") => "the data folder cannot be written to",
        Some(_) => "the store refuses",
        None => "the store cannot be reached",
    }
}

/// The code of what a server said, behind its host and port: a word in capitals.
fn answer(reason: &str) -> Option<&str> {
    let said = reason.split_once(": ").map_or(reason, |(_, said)| said);
    let code = said.split(' ').next().unwrap_or_default();
    let is_code = code.len() >= 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    is_code.then_some(code)
}

/// What came of the times when a store was out of reach: totals since it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutageStats {
    /// Admissions that no limit counts: all limits that applied were `open`.
    pub uncounted: u64,
    /// Admissions from shares that were leased before, while the store was away.
    pub alone: u64,
    /// Calls that were sent again because no answer came.
    pub resent: u64,
    /// Settlements, cancellations and withdrawals that are kept now, to be delivered when the store is back.
    pub kept: usize,
    /// Settlements that were kept and have been delivered since.
    pub settled: u64,
    /// Cancellations that were.
    pub cancelled: u64,
    /// What the receipts of both say was charged.
    pub charged: Amounts,
    /// What they say was held and not used.
    pub returned: Amounts,
    /// What they say of debt, added up.
    pub debt: Amounts,
    /// Those that came too late: the reservation had ended otherwise, or is not known any more.
    pub overtaken: u64,
    /// Those that were dropped because too many were kept, damaged on disk, or refused by the store for a day.
    pub lost: u64,
    /// Why what is kept is not on disk just now, though it should be.
    pub unsaved: Option<String>,
    /// Operations that were refused because a counter cannot be read.
    pub unreadable: u64,
    /// What was said to the last of them.
    pub unreadable_last: Option<String>,
    /// How many times calls were given up because the store was away or refused; one that was sent again and answered is none.
    pub outages: u64,
    /// What was seen when a call failed last.
    pub outage_last: Option<String>,
}

/// Why a store did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A bound of the store is reached.
    #[error(transparent)]
    Full(#[from] FullError),
    /// The store cannot be reached or takes nothing now, and its limits are closed.
    #[error("{}: {reason}", trouble(.reason))]
    Down {
        /// What was seen.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The names of the user's own metrics are not those before, with new ones behind them.
    #[error(
        "metrics can be added while the store is open, and not renamed or taken out: open it anew"
    )]
    Metrics,
}

impl StoreError {
    /// What is wrong with a store that is down, in a few words without the names of hosts: a server's own code says why it refuses.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let Self::Down { reason, .. } = self else {
            return None;
        };
        let trouble = trouble(reason);
        Some(match answer(reason) {
            Some(code) if !reason.starts_with("folder ") => format!("{trouble} ({code})"),
            _ => trouble.to_owned(),
        })
    }
}

/// Why a reservation could not be ended or extended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// No reservation of this name is known: never made, or ended too long ago.
    #[error("the reservation is unknown")]
    Unknown,
    /// It ended otherwise before; that outcome stands.
    #[error("the reservation has ended already")]
    Standing(Box<Receipt>),
    /// It was extended as often as a reservation may be.
    #[error("the reservation was extended too often")]
    TooOften,
    /// The store takes nothing now: it cannot be reached, it refuses (it is out of memory, or may not run scripts), or its folder
    /// cannot be written to. The end is kept and delivered once when it does, and need not be asked for again.
    #[error("the store does not take it now: the reservation's end is kept and will be delivered")]
    Kept {
        /// How the reservation will have ended, unless its deadline passes first.
        outcome: Outcome,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{StoreError, StoreHealth};

    #[test]
    fn an_error_says_whether_the_store_answered_and_what() {
        for (reason, says, briefly) in [
            (
                "h:1: OOM command not allowed",
                "the store refuses: h:1: OOM",
                "the store refuses (OOM)",
            ),
            (
                "h:1: READONLY You can't write",
                "the store refuses: h:1",
                "the store refuses (READONLY)",
            ),
            (
                "h:1: NOPERM no permissions",
                "the store refuses: h:1",
                "the store refuses (NOPERM)",
            ),
            (
                "h:1: LOADING Redis is loading",
                "the store refuses: h:1",
                "the store refuses (LOADING)",
            ),
            (
                "h:1: no answer within 250ms",
                "the store cannot be reached: h:1",
                "the store cannot be reached",
            ),
            (
                "folder ./data: No space left",
                "the data folder cannot be written to: ",
                "the data folder cannot be written to",
            ),
        ] {
            let error = StoreError::Down {
                reason: reason.to_owned(),
                retry_after: Duration::ZERO,
            };
            assert!(error.to_string().starts_with(says), "{error}");
            assert_eq!(error.trouble().as_deref(), Some(briefly));
        }
        assert_eq!(StoreError::Metrics.trouble(), None);
    }

    #[test]
    fn who_answers_refuses_and_who_does_not_cannot_be_reached() {
        let told = |reason: &str| {
            let reason = reason.to_owned();
            StoreHealth::Down { reason }.trouble()
        };
        for reason in [
            "10.0.0.9:6379: OOM command not allowed",
            "h:1: NOREPLICAS Not enough good replicas to write.",
            "[::1]:6379: WRONGPASS invalid username-password pair",
        ] {
            assert_eq!(told(reason), Some("the store refuses"), "{reason}");
        }
        for reason in [
            "h:1: no answer within 250ms",
            "h:1: Connection refused (os error 111)",
            "no answer from 10.0.0.9:6379 within 250ms",
            "",
        ] {
            assert_eq!(
                told(reason),
                Some("the store cannot be reached"),
                "{reason}"
            );
        }
        assert_eq!(StoreHealth::Up.trouble(), None);
    }
}
