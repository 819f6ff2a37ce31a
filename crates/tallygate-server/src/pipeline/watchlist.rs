//! The reservations of the decision API that may pass a threshold when they end: whom they count for, and how much is held.
//!
//! A store keeps amounts and no labels, so it is remembered here, by the node that was asked.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use tallygate_core::{Amounts, ReservationId, Time};

use super::watch::Watched;

/// Reservations that are remembered at once; of one more nothing is remembered.
const MOST: usize = 100_000;

/// What is remembered.
#[derive(Default)]
pub(crate) struct Watchlist(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    open: HashMap<ReservationId, Holding>,
    by_deadline: BTreeSet<(Time, ReservationId)>,
}

/// An open reservation.
#[derive(Debug, Clone)]
pub(crate) struct Holding {
    /// Whom it counts for.
    pub(crate) watched: Watched,
    /// How much it holds.
    pub(crate) reserved: Amounts,
    /// Its deadline.
    pub(crate) expires_at: Time,
}

impl Watchlist {
    /// Remembers one until its deadline.
    pub(crate) fn remember(&self, id: ReservationId, holding: Holding, now: Time) {
        let mut all = self.0.lock();
        all.forget_overdue(now);
        all.forget(id);
        if all.open.len() < MOST {
            all.by_deadline.insert((holding.expires_at, id));
            all.open.insert(id, holding);
        }
    }

    /// What is known of one.
    pub(crate) fn find(&self, id: ReservationId) -> Option<Holding> {
        self.0.lock().open.get(&id).cloned()
    }

    /// One has ended; what was known of it.
    pub(crate) fn forget(&self, id: ReservationId) -> Option<Holding> {
        self.0.lock().forget(id)
    }
}

impl Remembered {
    fn forget(&mut self, id: ReservationId) -> Option<Holding> {
        let holding = self.open.remove(&id)?;
        self.by_deadline.remove(&(holding.expires_at, id));
        Some(holding)
    }

    fn forget_overdue(&mut self, now: Time) {
        while let Some((_, id)) = self
            .by_deadline
            .first()
            .copied()
            .filter(|(at, _)| *at < now)
        {
            self.forget(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Holding, MOST, Watchlist};
    use crate::pipeline::Watched;
    use tallygate_core::{Amounts, ReservationId, Time};

    fn holding(expires_at: u64) -> Holding {
        Holding {
            watched: Watched::of(&[("user", "ann")]),
            reserved: Amounts::ZERO,
            expires_at: Time::from_secs(expires_at),
        }
    }

    #[test]
    fn as_many_are_remembered_as_may_and_none_past_its_deadline() {
        let list = Watchlist::default();
        let id = |number: usize| ReservationId::from_bits(number as u128);
        for number in 0..=MOST {
            list.remember(id(number), holding(1 + number as u64), Time::ZERO);
        }
        assert!(list.find(id(MOST - 1)).is_some() && list.find(id(MOST)).is_none());
        // Remembered again it takes no second place.
        list.remember(id(0), holding(5), Time::ZERO);
        assert!(list.find(id(0)).is_some());
        list.remember(id(MOST), holding(7), Time::from_secs(6));
        assert!(list.find(id(4)).is_none() && list.find(id(0)).is_none());
        assert!(list.forget(id(MOST)).is_some() && list.forget(id(MOST)).is_none());
    }
}
