//! The server's clock, as far as its answers tell.
use super::sheet::{instant, micros};
use parking_lot::Mutex;
use std::time::Duration;
use tallygate_core::Time;
use tokio::time::Instant;

/// What the server's clock shows: never ahead of it, and behind by no more than an answer takes.
#[derive(Debug, Default)]
pub(crate) struct ServerClock(Mutex<Option<Sample>>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    shown: u64,
}

impl ServerClock {
    /// The time, by the best sample so far.
    pub(crate) fn now(&self) -> Time {
        let sample = *self.0.lock();
        instant(sample.map_or(0, |sample| sample.at(Instant::now())))
    }

    /// Learns that the clock showed `shown` when it answered a question of `sent`.
    pub(crate) fn learn(&self, shown: Time, sent: Instant) {
        let now = Instant::now();
        let fresh = Sample {
            at: now,
            shown: micros(shown),
        };
        let mut sample = self.0.lock();
        let known = sample.map_or(0, |sample| sample.at(now));
        // A clock that is further on than the answer can have been on its way was set back.
        let latest = fresh.shown + length(now.duration_since(sent));
        if known < fresh.shown || known > latest {
            *sample = Some(fresh);
        }
    }

    /// How long until it shows `time`.
    pub(crate) fn until(&self, time: Time) -> Duration {
        time.since(self.now()).into()
    }
}

impl Sample {
    fn at(self, now: Instant) -> u64 {
        self.shown + length(now.saturating_duration_since(self.at))
    }
}

fn length(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX / 4)
}
