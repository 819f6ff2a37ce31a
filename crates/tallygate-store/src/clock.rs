//! What time it is.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tallygate_core::{Span, Time};

/// A store's clock: it never goes back, whatever happens to the machine's wall clock.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The wall clock at its making, and a monotonic clock since.
    System {
        /// When it was made, by the monotonic clock.
        started: Instant,
        /// When it was made, by the wall clock.
        wall: Time,
    },
    /// A clock that stands until it is moved, shared by its clones.
    Manual(Arc<Hands>),
}

/// What a manual clock shows.
#[derive(Debug)]
pub struct Hands {
    nanos: AtomicU64,
    lead: AtomicI64,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::System {
            started: Instant::now(),
            wall: wall(),
        }
    }

    /// The machine's clock as it is now, but not before `time`: what this clock said once it never takes back. A manual clock
    /// stays as it is.
    pub(crate) fn resumed(self, time: Time) -> Self {
        match self {
            Self::Manual(hands) => Self::Manual(hands),
            Self::System { .. } => Self::System {
                started: Instant::now(),
                wall: wall().max(time),
            },
        }
    }

    /// A clock that stands at `start` until [`Self::pass`].
    #[must_use]
    pub fn manual(start: Time) -> Self {
        Self::Manual(Arc::new(Hands {
            nanos: AtomicU64::new(start.as_nanos()),
            lead: AtomicI64::new(0),
        }))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        match self {
            Self::System { started, wall } => wall.plus(Span::from(started.elapsed())),
            Self::Manual(hands) => Time::from_nanos(hands.nanos.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock; the system's passes by itself.
    pub fn pass(&self, length: Duration) {
        if let Self::Manual(hands) = self {
            let nanos = Span::from(length).as_nanos();
            hands.nanos.fetch_add(nanos, Ordering::SeqCst);
        }
    }

    /// Steps the wall clock beside a manual clock by so many nanoseconds, as an administrator would; the
    /// clock itself goes on as before.
    pub fn step_wall(&self, nanos: i64) {
        if let Self::Manual(hands) = self {
            hands.lead.fetch_add(nanos, Ordering::SeqCst);
        }
    }

    /// How far the wall clock is ahead of this one, in nanoseconds of whole milliseconds.
    pub(crate) fn wall_lead(&self) -> i64 {
        let lead = self.wall_offset();
        lead - lead % MILLISECOND
    }

    /// How far the wall clock is ahead of this one, in nanoseconds: not zero once it was stepped.
    pub(crate) fn wall_offset(&self) -> i64 {
        match self {
            Self::Manual(hands) => hands.lead.load(Ordering::SeqCst),
            Self::System { .. } => {
                let (wall, own) = (wall(), self.now());
                let ahead = i64::try_from(wall.since(own).as_nanos()).unwrap_or(i64::MAX);
                let behind = i64::try_from(own.since(wall).as_nanos()).unwrap_or(i64::MAX);
                ahead.saturating_sub(behind)
            }
        }
    }

    /// The monotonic instant at which it will be `time`.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        match self {
            Self::Manual(_) => None,
            Self::System { started, wall } => started.checked_add(time.since(*wall).into()),
        }
    }
}

const MILLISECOND: i64 = 1_000_000;

fn wall() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Time::from_nanos(since.map_or(0, |length| Span::from(length).as_nanos()))
}
