//! The provider's clock: the machine's, or one that a test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An instant, in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At(u64);

impl At {
    /// The instant `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// This instant moved on by `span`; stays at the end of time when it would pass it.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos_of(span)))
    }

    /// The span since `earlier`; zero when that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Nanoseconds of a span, cut off at 584 years.
pub(crate) fn nanos_of(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the provider reads the time. It never goes back.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Machine { started: Instant, epoch_nanos: u64 },
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock: wall time at this call, moved on by the monotonic clock.
    pub fn machine() -> Self {
        let epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(Source::Machine {
            started: Instant::now(),
            epoch_nanos: nanos_of(epoch),
        })
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: At) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.0))))
    }

    /// The time now.
    pub fn now(&self) -> At {
        match &self.0 {
            Source::Machine {
                started,
                epoch_nanos,
            } => At(epoch_nanos.saturating_add(nanos_of(started.elapsed()))),
            Source::Manual(nanos) => At(nanos.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock, and every clone of it, on by `span`. The machine's clock takes no notice.
    pub fn advance(&self, span: Duration) {
        if let Source::Manual(nanos) = &self.0 {
            nanos.fetch_add(nanos_of(span), Ordering::SeqCst);
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::machine()
    }
}
