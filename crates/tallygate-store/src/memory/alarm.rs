//! The thread that keeps the ledger's appointments: it sleeps until the exact instant of the next one.
//!
//! A timed wait on a condition variable ends within tens of microseconds of its instant; an async
//! runtime's timer rounds to a millisecond.
use super::Shared;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tallygate_core::Time;

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
            changed: Condvar::new(),
        }
    }
}

const NEVER: u64 = u64::MAX;

/// How often the thread looks after idle counters and the wall clock when nothing else is due.
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

    fn next(&self) -> Option<Time> {
        let nanos = self.next.load(Ordering::SeqCst);
        (nanos != NEVER).then(|| Time::from_nanos(nanos))
    }
}

/// Starts the thread; it ends with the store.
pub(super) fn keep(shared: &Arc<Shared>) {
    let shared = Arc::downgrade(shared);
    std::thread::Builder::new()
        .name("tallygate-alarm".to_owned())
        .spawn(move || run(&shared))
        .expect("invariant: the machine can start a thread");
}

fn run(shared: &Weak<Shared>) {
    let mut round = Instant::now() + ROUND;
    while let Some(shared) = shared.upgrade() {
        if !sleep(&shared, round) {
            return;
        }
        shared.tick();
        if Instant::now() >= round {
            shared.look_around();
            round = Instant::now() + ROUND;
        }
    }
}

/// Sleeps until the alarm or `round`; whether the store is still there.
fn sleep(shared: &Shared, round: Instant) -> bool {
    let alarm = &shared.alarm;
    let mut stopped = alarm.stopped.lock();
    loop {
        if *stopped {
            return false;
        }
        let next = alarm.next().and_then(|next| shared.clock.instant(next));
        let until = next.map_or(round, |next| next.min(round));
        if Instant::now() >= until {
            alarm.next.store(NEVER, Ordering::SeqCst);
            return true;
        }
        alarm.changed.wait_until(&mut stopped, until);
    }
}

impl Shared {
    fn look_around(&self) {
        let offset = self.clock.wall_offset();
        let mut books = self.books.lock();
        if offset.abs() > STEP {
            books.ledger.set_wall_offset(offset);
        }
        books.ledger.sweep(self.clock.now());
        self.close(books);
    }
}

/// A wall clock that is off by less than this, in nanoseconds, is taken as right.
const STEP: i64 = 1_000_000;
