//! The receipts of ended reservations, kept a while for repeats.
use super::Bounds;
use crate::decision::Receipt;
use crate::id::ReservationId;
use crate::num;
use crate::time::Time;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// The receipts by reservation and the reservations by idempotency key.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    ended: HashTable<Ended>,
    order: VecDeque<(Time, ReservationId)>,
    named: HashTable<(u128, ReservationId)>,
}

#[derive(Debug)]
struct Ended {
    id: ReservationId,
    receipt: Receipt,
    name: Option<u128>,
}

impl Receipts {
    /// The receipt of an ended reservation.
    pub(crate) fn find(&self, id: ReservationId) -> Option<&Receipt> {
        let ended = self.ended.find(id.parts().1, |ended| ended.id == id);
        ended.map(|ended| &ended.receipt)
    }

    /// The reservation made under an idempotency key.
    pub(crate) fn named(&self, name: u128) -> Option<ReservationId> {
        let found = self
            .named
            .find(num::low64(name), |(known, _)| *known == name);
        found.map(|(_, id)| *id)
    }

    /// Remembers a reservation under its idempotency key.
    pub(crate) fn name(&mut self, name: u128, id: ReservationId) {
        self.named
            .insert_unique(num::low64(name), (name, id), |(name, _)| num::low64(*name));
    }

    /// Keeps a receipt, and forgets those past the bounds.
    pub(crate) fn keep(
        &mut self,
        id: ReservationId,
        receipt: Receipt,
        name: Option<u128>,
        now: Time,
    ) {
        let ended = Ended { id, receipt, name };
        self.ended
            .insert_unique(id.parts().1, ended, |ended| ended.id.parts().1);
        self.order.push_back((now, id));
    }

    /// Forgets the receipts past the bounds.
    pub(crate) fn trim(&mut self, bounds: &Bounds, now: Time) {
        while let Some((at, id)) = self.order.front().copied() {
            if self.order.len() <= bounds.receipts && now < at.plus(bounds.receipt_ttl) {
                break;
            }
            self.order.pop_front();
            self.forget(id);
        }
    }

    fn forget(&mut self, id: ReservationId) {
        let Ok(entry) = self.ended.find_entry(id.parts().1, |ended| ended.id == id) else {
            return;
        };
        let (ended, _) = entry.remove();
        if let Some(name) = ended.name
            && let Ok(entry) = self
                .named
                .find_entry(num::low64(name), |(known, _)| *known == name)
        {
            entry.remove();
        }
    }
}
