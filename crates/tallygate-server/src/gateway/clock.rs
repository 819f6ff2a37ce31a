//! How long an answer may take.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Which bound an answer ran over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Overdue {
    /// No head came for so long.
    #[error("the answer did not begin within {0:?}")]
    Head(Duration),
    /// Nothing came for so long.
    #[error("the upstream was silent for {0:?}")]
    Silent(Duration),
    /// All of it took too long.
    #[error("the answer took longer than {0:?}")]
    Total(Duration),
}

/// The bounds of one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerTimes {
    /// From the sending of the call to the head of the answer.
    pub(crate) head: Duration,
    /// Silence inside an answer.
    pub(crate) idle: Duration,
    /// From the sending of the call to the end of the answer.
    pub(crate) total: Duration,
}

/// Watches over one answer: one timer for both bounds, set when first waited for and moved only when it rings.
pub(super) struct AnswerClock {
    times: AnswerTimes,
    end: Instant,
    quiet_since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl AnswerClock {
    /// A clock for a call that was sent at `sent`, with an answer that began just now.
    pub(super) fn new(times: AnswerTimes, sent: Instant) -> Self {
        Self {
            times,
            end: sent + times.total,
            quiet_since: Instant::now(),
            timer: None,
        }
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.quiet_since = Instant::now();
    }

    /// Ready when a bound is passed.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Overdue> {
        let rings = self.end.min(self.quiet_since + self.times.idle);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(rings)));
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let silent = self.quiet_since + self.times.idle;
            if now >= self.end {
                return Poll::Ready(Overdue::Total(self.times.total));
            }
            if now >= silent {
                return Poll::Ready(Overdue::Silent(self.times.idle));
            }
            timer.as_mut().reset(self.end.min(silent));
        }
        Poll::Pending
    }
}
