//! Whose the reservations of the decision API are, until they end.
//!
//! A store keeps amounts and no labels, so who reserved is remembered here, by the node that was asked. What ends at
//! another node, or after a restart, is recorded there with what is known at its end: the labels of whoever ends it.

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
            let entry = Box::new(entry);
            all.forget(id);
            all.by_deadline.insert((expires_at, id));
            all.open.insert(id, Open { entry, expires_at });
        }
    }

    /// Another deadline, or more that is held.
    pub(super) fn extend(&self, id: ReservationId, expires_at: Time, reserved: &Amounts) {
        let mut all = self.0.lock();
        if let Some(mut entry) = all.forget(id) {
            entry.hold(reserved);
            all.by_deadline.insert((expires_at, id));
            all.open.insert(id, Open { entry, expires_at });
        }
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
