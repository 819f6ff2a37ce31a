//! How long the stages of a request take.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::observe::{Observer, Stage};

/// Times one request's stages, with one look at the clock a stage.
pub(crate) struct Laps {
    observer: Arc<Observer>,
    since: Instant,
}

impl Laps {
    /// Begins with the first stage.
    pub(crate) fn new(observer: &Arc<Observer>) -> Self {
        Self {
            observer: Arc::clone(observer),
            since: Instant::now(),
        }
    }

    /// A stage is over, and the next one begins.
    pub(crate) fn end(&mut self, stage: Stage) {
        self.end_after(stage, Duration::ZERO);
    }

    /// A stage is over of which `waited` was spent waiting.
    pub(crate) fn end_after(&mut self, stage: Stage, waited: Duration) {
        let now = Instant::now();
        let took = now.duration_since(self.since).saturating_sub(waited);
        self.observer.stage(stage, took);
        self.since = now;
    }

    /// What was since the last stage was waiting for the network.
    pub(crate) fn skip(&mut self) {
        self.since = Instant::now();
    }
}
