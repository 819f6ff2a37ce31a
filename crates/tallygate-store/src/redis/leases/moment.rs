//! Now: on this process's own clock, and on the store's.
use std::time::Duration;
use tallygate_core::Time;

/// An instant in microseconds on a clock of this process that never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(pub(crate) u64);

/// The same instant on two clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Here: lengths are measured by it.
    pub(crate) here: Moment,
    /// At the store, as far as its answers tell: windows and deadlines are of it.
    pub(crate) there: Time,
}

impl Moment {
    /// After everything.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn plus(self, length: Duration) -> Self {
        Self(self.0.saturating_add(micros(length)))
    }

    /// The length since then; nothing if that is yet to come.
    pub(crate) fn since(self, then: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(then.0))
    }
}

/// A length in whole microseconds, rounded down.
pub(crate) fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}
