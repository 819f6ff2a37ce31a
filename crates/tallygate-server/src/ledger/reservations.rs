//! Whose the reservations of the decision API are, until they end.
//!
//! A store keeps amounts and no labels, so who reserved is remembered here, by the node that was asked, and in a memo on the shelf
//! where others look for it: another node, or the next process.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use tallygate_core::{Amounts, ReservationId, Time};

use super::Entry;

/// Reservations that are remembered at once; of one more nothing is remembered.
pub(super) const MOST_OPEN: usize = 100_000;

/// Ends that are remembered, so that a repeated one is not recorded again.
const MOST_ENDED: usize = 100_000;

/// What is remembered.
#[derive(Default)]
pub(super) struct Reservations(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    open: HashMap<ReservationId, Open>,
    by_deadline: BTreeSet<(Time, ReservationId)>,
    ended: HashSet<ReservationId>,
    ended_in_order: VecDeque<ReservationId>,
}

struct Open {
    entry: Box<Entry>,
    expires_at: Time,
    /// Whether there is a memo of it: who takes that records how it ended.
    is_shared: bool,
}

/// What is known of a reservation that ends.
pub(super) enum Known {
    /// Who made it.
    Open(Box<Entry>),
    /// That it has ended before, and was recorded.
    Ended,
    /// Nothing: it was made elsewhere.
    Nothing,
}

impl Reservations {
    /// Remembers who made a reservation.
    pub(super) fn remember(&self, id: ReservationId, expires_at: Time, entry: Entry) {
        let mut all = self.0.lock();
        if all.open.len() < MOST_OPEN && !all.ended.contains(&id) {
            all.forget(id);
            all.by_deadline.insert((expires_at, id));
            let open = Open {
                entry: Box::new(entry),
                expires_at,
                is_shared: false,
            };
            all.open.insert(id, open);
        }
    }

    /// There is a memo of it.
    pub(super) fn share(&self, id: ReservationId) {
        if let Some(open) = self.0.lock().open.get_mut(&id) {
            open.is_shared = true;
        }
    }

    /// Whether there is.
    pub(super) fn is_shared(&self, id: ReservationId) -> bool {
        let all = self.0.lock();
        all.open.get(&id).is_some_and(|open| open.is_shared)
    }

    /// Whether it is remembered, or that it has ended.
    pub(super) fn knows(&self, id: ReservationId) -> bool {
        let all = self.0.lock();
        all.open.contains_key(&id) || all.ended.contains(&id)
    }

    /// Another deadline, or more that is held. Answers what is remembered then.
    pub(super) fn extend(
        &self,
        id: ReservationId,
        expires_at: Time,
        reserved: &Amounts,
    ) -> Option<Entry> {
        let mut all = self.0.lock();
        let before = all.open.get(&id)?.expires_at;
        all.by_deadline.remove(&(before, id));
        all.by_deadline.insert((expires_at, id));
        let open = all.open.get_mut(&id)?;
        open.expires_at = expires_at;
        open.entry.hold(reserved);
        Some(Entry::clone(&open.entry))
    }

    /// What is known of a reservation that ends now. Asked again it is [`Known::Ended`].
    pub(super) fn end(&self, id: ReservationId) -> Known {
        let mut all = self.0.lock();
        let known = all.forget(id);
        if !all.note_end(id) {
            return Known::Ended;
        }
        known.map_or(Known::Nothing, Known::Open)
    }

    /// Forgets one that ended elsewhere.
    pub(super) fn leave(&self, id: ReservationId) {
        self.0.lock().forget(id);
    }

    /// Some whose deadline is before `now`.
    pub(super) fn overdue(&self, now: Time, most: usize) -> Vec<ReservationId> {
        let all = self.0.lock();
        let due = all.by_deadline.iter().take_while(|(at, _)| *at < now);
        due.take(most).map(|(_, id)| *id).collect()
    }
}

impl Remembered {
    fn forget(&mut self, id: ReservationId) -> Option<Box<Entry>> {
        let open = self.open.remove(&id)?;
        self.by_deadline.remove(&(open.expires_at, id));
        Some(open.entry)
    }

    /// False if it was noted before.
    fn note_end(&mut self, id: ReservationId) -> bool {
        if !self.ended.insert(id) {
            return false;
        }
        self.ended_in_order.push_back(id);
        if self.ended_in_order.len() > MOST_ENDED
            && let Some(oldest) = self.ended_in_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        true
    }
}
