//! Reservations that were decided here, and are ended here.
use super::moment::Now;
use crate::redis::record::Held;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;
use tallygate_core::{Receipt, ReservationId, Span, Time};

/// How long a receipt is kept for repeats.
const RECEIPT_TTL: Duration = Duration::from_secs(120);

/// How many are; past it the oldest are forgotten.
const RECEIPTS: usize = 65_536;

/// How many overtaken deadlines are kept before they are thrown out.
const SPARE: usize = 1024;

/// An open reservation.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) held: Held,
    /// For each of its parts, for each of its accounts, which lease it is of.
    pub(crate) leases: Vec<Vec<Option<u64>>>,
    pub(crate) made: Time,
    pub(crate) manner: Manner,
}

/// What a reservation is charged to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// All its accounts.
    Counted,
    /// Those that had a share: the store could not be reached.
    Alone,
}

impl Hold {
    /// Whether account number `at` is charged for it.
    pub(crate) fn is_counted(&self, at: usize) -> bool {
        let mut leases = self.leases.iter();
        let has_share = |part: &Vec<Option<u64>>| part.get(at).is_some_and(Option::is_some);
        self.manner == Manner::Counted || leases.any(has_share)
    }
}

/// What is known of a reservation.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    Open(Hold),
    Ended(Receipt),
}

/// Those of this process.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    open: HashMap<ReservationId, Hold>,
    /// Deadlines, also of some that have ended otherwise since.
    ends: BinaryHeap<Reverse<(Time, u128)>>,
    ended: HashMap<ReservationId, Receipt>,
    endings: VecDeque<(Time, ReservationId)>,
    by_name: HashMap<[u8; 16], ReservationId>,
}

impl Holds {
    pub(crate) fn keep(&mut self, id: ReservationId, hold: Hold) {
        self.ends.push(Reverse((hold.held.deadline, id.bits())));
        if let Some(name) = hold.held.name {
            self.by_name.insert(name, id);
        }
        self.open.insert(id, hold);
    }

    pub(crate) fn get(&self, id: ReservationId) -> Option<Known> {
        let open = self.open.get(&id).cloned().map(Known::Open);
        open.or_else(|| self.ended.get(&id).copied().map(Known::Ended))
    }

    /// The open one of an idempotency key.
    pub(crate) fn named(&self, name: [u8; 16]) -> Option<(ReservationId, &Hold)> {
        let id = *self.by_name.get(&name)?;
        Some((id, self.open.get(&id)?))
    }

    pub(crate) fn end(&mut self, id: ReservationId, receipt: Receipt, now: Now) {
        if let Some(hold) = self.open.remove(&id) {
            hold.held.name.map(|name| self.by_name.remove(&name));
        }
        if self.ended.insert(id, receipt).is_none() {
            let forgotten = now.there.plus(Span::from(RECEIPT_TTL));
            self.endings.push_back((forgotten, id));
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Now) {
        while let Some((at, id)) = self.endings.front().copied() {
            if at > now.there && self.endings.len() <= RECEIPTS {
                return;
            }
            self.endings.pop_front();
            self.ended.remove(&id);
        }
    }

    /// One whose deadline has passed.
    pub(crate) fn overdue(&mut self, now: Now) -> Option<(ReservationId, Hold)> {
        while let Some(Reverse((at, id))) = self.ends.peek().copied() {
            if at > now.there {
                break;
            }
            self.ends.pop();
            let id = ReservationId::from_bits(id);
            let hold = self
                .open
                .get(&id)
                .filter(|hold| hold.held.deadline <= now.there);
            if let Some(hold) = hold {
                return Some((id, hold.clone()));
            }
        }
        self.thin_out();
        None
    }

    fn thin_out(&mut self) {
        if self.ends.len() > 2 * self.open.len() + SPARE {
            let open = &self.open;
            self.ends.retain(|Reverse((at, id))| {
                let hold = open.get(&ReservationId::from_bits(*id));
                hold.is_some_and(|hold| hold.held.deadline == *at)
            });
        }
    }

    /// When the next deadline is, at the latest.
    pub(crate) fn next_end(&self) -> Option<Time> {
        self.ends.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn count(&self) -> usize {
        self.open.len()
    }
}
