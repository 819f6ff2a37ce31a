//! The thread that keeps the ledger's appointments: it sleeps until the exact instant of the next one.
//!
//! A timed wait on a condition variable ends within tens of microseconds of its instant; an async
//! runtime's timer rounds to a millisecond.
use super::Shared;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tallygate_core::Time;

#[cfg(all(test, tallygate_loom))]
mod loom_tests;

/// When the thread is to wake.
#[derive(Debug)]
pub(super) struct Alarm {
    /// The instant in nanoseconds. Written under the lock; read without it to see that it need not be moved.
    next: AtomicU64,
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Default for Alarm {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(NEVER),
            stopped: Mutex::new(false),
            changed: Condvar::default(),
        }
    }
}

const NEVER: u64 = u64::MAX;

/// How often the thread looks after idle counters, the wall clock and the disk when nothing else is due.
const ROUND: Duration = Duration::from_millis(250);

impl Alarm {
    /// Wakes the thread at `time` if it would sleep longer. To be called with the books locked: the thread
    /// forgets its instant before it locks them, so an instant passed over here is found there.
    pub(super) fn set(&self, time: Time) {
        if time.as_nanos() < self.next.load(Ordering::SeqCst) {
            let _state = self.stopped.lock();
            self.next.store(time.as_nanos(), Ordering::SeqCst);
            self.changed.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_one();
    }

    /// Sleeps until `left` of the instant that is set answers that it is time, and forgets the instant; whether
    /// the store is still there.
    fn sleep(&self, left: impl Fn(Option<Time>) -> Option<Instant>) -> bool {
        let mut stopped = self.stopped.lock();
        while !*stopped {
            let Some(until) = left(self.next()) else {
                self.next.store(NEVER, Ordering::SeqCst);
                return true;
            };
            stopped = self.changed.wait_until(stopped, until);
        }
        false
    }

    fn next(&self) -> Option<Time> {
        let nanos = self.next.load(Ordering::SeqCst);
        (nanos != NEVER).then(|| Time::from_nanos(nanos))
    }
}

/// Starts the thread; it ends with the store.
pub(super) fn keep(shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = Arc::downgrade(shared);
    std::thread::Builder::new()
        .name("tallygate-alarm".to_owned())
        .spawn(move || run(&shared))
        .expect("invariant: the machine can start a thread")
}

fn run(shared: &Weak<Shared>) {
    let mut round = Instant::now() + ROUND;
    while let Some(shared) = shared.upgrade() {
        if !shared.alarm.sleep(|next| shared.until(next, round)) {
            return;
        }
        shared.tick();
        if Instant::now() >= round {
            shared.follow_wall();
            shared.look_after_disk();
            shared.operate(|books, now| books.ledger.sweep(now));
            round = Instant::now() + ROUND;
        }
    }
}

impl Shared {
    /// Until when to sleep for `next` and the coming round; none: it is time for one of them.
    fn until(&self, next: Option<Time>, round: Instant) -> Option<Instant> {
        let next = next.and_then(|next| self.clock.instant(next));
        let until = next.map_or(round, |next| next.min(round));
        (Instant::now() < until).then_some(until)
    }
}
