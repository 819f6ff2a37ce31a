//! Whose the reservations of the decision API are, and those that an earlier process left open, until they end.
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
    found: Found,
}

/// Who else may know of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nobody: it was made here.
    Here,
    /// It was made here, and there is a memo of it: who takes that records how it ended.
    Shared,
    /// It is in a memo of an earlier process. How it stands is not known yet: it may have ended, and lack its record.
    Left,
}

impl Open {
    /// When it is looked at.
    fn due(&self) -> Time {
        match self.found {
            Found::Left => Time::ZERO,
            Found::Here | Found::Shared => self.expires_at,
        }
    }
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
        self.add(
            id,
            Open {
                entry: Box::new(entry),
                expires_at,
                found: Found::Here,
            },
        );
    }

    /// Remembers one of an earlier process. It is overdue until [`Self::extend`] says how it stands.
    pub(super) fn resume(&self, id: ReservationId, expires_at: Time, entry: Entry) {
        self.add(
            id,
            Open {
                entry: Box::new(entry),
                expires_at,
                found: Found::Left,
            },
        );
    }

    fn add(&self, id: ReservationId, open: Open) {
        let mut all = self.0.lock();
        if all.open.len() < MOST_OPEN && !all.ended.contains(&id) {
            all.forget(id);
            all.by_deadline.insert((open.due(), id));
            all.open.insert(id, open);
        }
    }

    /// There is a memo of it.
    pub(super) fn share(&self, id: ReservationId) {
        let mut all = self.0.lock();
        let open = all.open.get_mut(&id);
        if let Some(open) = open.filter(|open| open.found == Found::Here) {
            open.found = Found::Shared;
        }
    }

    /// Who else may know of it, and its deadline; `None` if it is not remembered.
    pub(super) fn found(&self, id: ReservationId) -> Option<(Found, Time)> {
        let all = self.0.lock();
        all.open.get(&id).map(|open| (open.found, open.expires_at))
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
        let open = all.open.get_mut(&id)?;
        let before = open.due();
        open.expires_at = expires_at;
        if open.found == Found::Left {
            open.found = Found::Shared;
        }
        open.entry.hold(reserved);
        let entry = Entry::clone(&open.entry);
        all.by_deadline.remove(&(before, id));
        all.by_deadline.insert((expires_at, id));
        Some(entry)
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
        self.by_deadline.remove(&(open.due(), id));
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
