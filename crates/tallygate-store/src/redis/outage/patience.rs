//! Sending again what was not answered.
use crate::redis::found::RedisFindings;
use crate::redis::link::{Call, LinkError, Notice, Route};
use crate::redis::names::Tag;
use crate::redis::pump::Carrier;
use crate::store::BoxFuture;
use parking_lot::Mutex;
use redis::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// A way to the script on which a call that failed is sent again, until its route has failed for as long as the total
/// deadline or a circuit is open. Every operation takes effect once, so one that was lost on its way back does no harm.
pub(super) struct Patient {
    carrier: Arc<dyn Carrier>,
    deadline: Duration,
    circuits: watch::Receiver<usize>,
    trouble: Arc<Trouble>,
    /// Since when a route fails: calls that queue behind one that was given up do not each wait as long again.
    failing: Mutex<HashMap<Route, Instant>>,
}

/// What went wrong last, until something goes well.
#[derive(Debug)]
pub(super) struct Trouble {
    is_known: AtomicBool,
    /// Whether a call was given up since something went well.
    is_felt: AtomicBool,
    reason: Mutex<String>,
    resent: AtomicU64,
    outages: AtomicU64,
    /// Rung when there is trouble.
    bell: Arc<Notify>,
}

/// Pauses before another try: what was redirected in vain or met a server that restarts is well again soon, or not.
const PAUSES: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

impl Patient {
    pub(super) fn new(carrier: Arc<dyn Carrier>, deadline: Duration, bell: Arc<Notify>) -> Self {
        let trouble = Trouble {
            is_known: AtomicBool::new(false),
            is_felt: AtomicBool::new(false),
            reason: Mutex::default(),
            resent: AtomicU64::new(0),
            outages: AtomicU64::new(0),
            bell,
        };
        Self {
            circuits: carrier.open_circuits(),
            carrier,
            deadline,
            trouble: Arc::new(trouble),
            failing: Mutex::default(),
        }
    }

    pub(super) fn trouble(&self) -> Arc<Trouble> {
        self.trouble.clone()
    }

    async fn call_again(&self, call: &Call) -> Result<Vec<Value>, LinkError> {
        loop {
            let answer = self.carrier.call(call).await;
            let Err(error) = answer else {
                self.went_well(call);
                return answer;
            };
            self.trouble.note(&error);
            match error {
                LinkError::Down { retry_after, .. } if self.has_patience(call) => {
                    self.trouble.resent.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(retry_after.clamp(PAUSES[0], PAUSES[1])).await;
                }
                error => {
                    self.trouble.give_up();
                    return Err(error);
                }
            }
        }
    }

    fn has_patience(&self, call: &Call) -> bool {
        if *self.circuits.borrow() > 0 {
            return false;
        }
        let now = Instant::now();
        let mut failing = self.failing.lock();
        let since = failing.entry(self.carrier.route(call.tag)).or_insert(now);
        now.duration_since(*since) < self.deadline
    }

    fn went_well(&self, call: &Call) {
        if self.trouble.is_known() {
            self.trouble.forget();
        }
        let mut failing = self.failing.lock();
        if !failing.is_empty() {
            failing.remove(&self.carrier.route(call.tag));
        }
    }
}

impl Carrier for Patient {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Vec<Value>, LinkError>> {
        Box::pin(self.call_again(call))
    }

    fn route(&self, tag: Tag) -> Route {
        self.carrier.route(tag)
    }

    fn is_cluster(&self) -> bool {
        self.carrier.is_cluster()
    }

    fn subscribe(&self, channels: Vec<String>) -> mpsc::Receiver<Notice> {
        self.carrier.subscribe(channels)
    }

    fn findings(&self) -> &RedisFindings {
        self.carrier.findings()
    }

    fn open_circuits(&self) -> watch::Receiver<usize> {
        self.circuits.clone()
    }
}

impl Trouble {
    /// What was seen, if the last call failed.
    pub(super) fn last(&self) -> Option<String> {
        self.is_known().then(|| self.latest())
    }

    /// Whether the last call failed.
    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    /// What was seen when a call failed last, however long ago.
    pub(super) fn latest(&self) -> String {
        self.reason.lock().clone()
    }

    /// The same, or `unknown` where no call has failed yet.
    pub(super) fn latest_or(&self, unknown: &str) -> String {
        let latest = self.latest();
        match latest.is_empty() {
            true => unknown.to_owned(),
            false => latest,
        }
    }

    pub(super) fn resent(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }

    /// How many times calls were given up, with something that went well between each time and the next.
    pub(super) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    fn give_up(&self) {
        if !self.is_felt.swap(true, Ordering::Relaxed) {
            self.outages.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note(&self, error: &LinkError) {
        *self.reason.lock() = error.to_string();
        if !self.is_known.swap(true, Ordering::Relaxed) {
            self.bell.notify_one();
        }
    }

    fn forget(&self) {
        self.is_known.store(false, Ordering::Relaxed);
        self.is_felt.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
