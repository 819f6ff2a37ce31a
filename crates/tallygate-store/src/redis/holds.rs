//! The reservations that this process made and has not seen the end of.
use super::record::Held;
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use tallygate_core::{ReservationId, Time};

/// What is known of open reservations here; the truth is in the store.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<ReservationId, Arc<Held>>,
    /// Deadlines, also of some that have ended otherwise since.
    ends: BinaryHeap<Reverse<(Time, u128)>>,
    /// How many hold nothing of anything: notes under an idempotency key.
    empty: usize,
}

/// How many overtaken deadlines are kept before they are thrown out.
const SPARE: usize = 1024;

impl Holds {
    /// Remembers a reservation as it is now.
    pub(crate) fn keep(&self, id: ReservationId, held: Arc<Held>, now: Time) {
        let mut known = self.0.lock();
        known.sweep(now);
        known.ends.push(Reverse((held.deadline, id.bits())));
        known.put(id, held);
    }

    pub(crate) fn get(&self, id: ReservationId) -> Option<Arc<Held>> {
        self.0.lock().by_id.get(&id).cloned()
    }

    pub(crate) fn forget(&self, id: ReservationId) {
        self.0.lock().take(id);
    }

    /// How many are open and hold something.
    pub(crate) fn count(&self, now: Time) -> usize {
        let mut known = self.0.lock();
        known.sweep(now);
        known.by_id.len() - known.empty
    }
}

impl Known {
    fn put(&mut self, id: ReservationId, held: Arc<Held>) {
        self.empty += usize::from(held.is_empty());
        let former = self.by_id.insert(id, held);
        self.empty -= former.map_or(0, |former| usize::from(former.is_empty()));
    }

    fn take(&mut self, id: ReservationId) {
        let gone = self.by_id.remove(&id);
        self.empty -= gone.map_or(0, |gone| usize::from(gone.is_empty()));
    }

    /// Forgets those whose deadline has passed.
    fn sweep(&mut self, now: Time) {
        while let Some(Reverse((at, id))) = self.ends.peek().copied() {
            if at > now {
                break;
            }
            self.ends.pop();
            let id = ReservationId::from_bits(id);
            if self.by_id.get(&id).is_some_and(|held| held.deadline <= now) {
                self.take(id);
            }
        }
        if self.ends.len() > 2 * self.by_id.len() + SPARE {
            let by_id = &self.by_id;
            self.ends.retain(|Reverse((at, id))| {
                let held = by_id.get(&ReservationId::from_bits(*id));
                held.is_some_and(|held| held.deadline == *at)
            });
        }
    }
}
