//! The receipts of ended reservations, kept a while for repeats.
//!
//! They stand in a ring in the order of their ending, so that keeping one writes where the last write was; a small
//! index finds them by name.
use super::Bounds;
use crate::codec::{JournalError, Reader, put_length, put_time};
use crate::decision::{Outcome, Receipt, Told};
use crate::id::ReservationId;
use crate::metric::Amounts;
use crate::num;
use crate::time::Time;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// The receipts by reservation and the reservations by idempotency key.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    ring: VecDeque<Ended>,
    /// How many were forgotten: the number of the ring's first.
    forgotten: u64,
    /// Numbers of receipts, with the low half of the reservation's id, by that half.
    index: HashTable<(u64, u64)>,
    named: HashTable<(u128, ReservationId)>,
}

#[derive(Debug)]
struct Ended {
    id: ReservationId,
    receipt: Receipt,
    name: Option<u128>,
    at: Time,
}

const SETTLED: u8 = 0;
const CANCELLED: u8 = 1;
const EXPIRED: u8 = 2;

impl Receipts {
    /// The receipt of an ended reservation.
    pub(crate) fn find(&self, id: ReservationId) -> Option<&Receipt> {
        let tag = id.parts().1;
        let is = |(known, number): &(u64, u64)| {
            *known == tag && self.get(*number).is_some_and(|ended| ended.id == id)
        };
        let (_, number) = self.index.find(tag, is)?;
        self.get(*number).map(|ended| &ended.receipt)
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
        let hash = |(name, _): &(u128, ReservationId)| num::low64(*name);
        self.named.insert_unique(num::low64(name), (name, id), hash);
    }

    /// Forgets an idempotency key.
    pub(crate) fn unname(&mut self, name: u128) {
        let is = |(known, _): &(u128, ReservationId)| *known == name;
        if let Ok(entry) = self.named.find_entry(num::low64(name), is) {
            entry.remove();
        }
    }

    /// Keeps the receipt of a reservation that was made under `name`.
    pub(crate) fn keep(
        &mut self,
        id: ReservationId,
        receipt: Receipt,
        name: Option<u128>,
        at: Time,
    ) {
        let number = self.forgotten.saturating_add(num::length(self.ring.len()));
        let tag = id.parts().1;
        self.index
            .insert_unique(tag, (tag, number), |(tag, _)| *tag);
        self.ring.push_back(Ended {
            id,
            receipt,
            name,
            at,
        });
    }

    /// All receipts that are kept.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Receipt> {
        self.ring.iter_mut().map(|ended| &mut ended.receipt)
    }

    /// Forgets the receipts past the bounds.
    pub(crate) fn trim(&mut self, bounds: &Bounds, now: Time) {
        while let Some(first) = self.ring.front() {
            if self.ring.len() <= bounds.receipts && now < first.at.plus(bounds.receipt_ttl) {
                break;
            }
            self.forget_first();
        }
    }

    /// Writes the receipts, the oldest first.
    pub(crate) fn write(&self, now: Time, out: &mut Vec<u8>) {
        put_length(out, self.ring.len());
        for ended in &self.ring {
            out.push(match ended.receipt.outcome {
                Outcome::Settled => SETTLED,
                Outcome::Cancelled => CANCELLED,
                Outcome::Expired => EXPIRED,
            });
            out.extend_from_slice(&ended.id.bits().to_le_bytes());
            put_time(out, ended.at, now);
            ended.receipt.charged.write(out);
            ended.receipt.returned.write(out);
            ended.receipt.debt.write(out);
            out.push(u8::from(ended.name.is_some()));
            if let Some(name) = ended.name {
                out.extend_from_slice(&name.to_le_bytes());
            }
        }
    }

    /// Adds the receipts that were written.
    pub(crate) fn read(&mut self, now: Time, from: &mut Reader<'_>) -> Result<(), JournalError> {
        for _ in 0..from.number()? {
            let outcome = match from.byte()? {
                SETTLED => Outcome::Settled,
                CANCELLED => Outcome::Cancelled,
                EXPIRED => Outcome::Expired,
                _ => return Err(from.damaged("outcome")),
            };
            let id = ReservationId::from_bits(u128::from_le_bytes(from.fixed()?));
            let at = from.time(now)?;
            let receipt = Receipt {
                outcome,
                charged: Amounts::read(from)?,
                returned: Amounts::read(from)?,
                debt: Amounts::read(from)?,
                told: Told::First,
            };
            let name = match from.byte()? {
                0 => None,
                1 => Some(u128::from_le_bytes(from.fixed()?)),
                _ => return Err(from.damaged("idempotency name")),
            };
            if let Some(name) = name {
                self.name_once(name, id, from)?;
            }
            self.keep(id, receipt, name, at);
        }
        Ok(())
    }

    /// Remembers a reservation that was written under its idempotency key.
    pub(crate) fn name_once(
        &mut self,
        name: u128,
        id: ReservationId,
        from: &Reader<'_>,
    ) -> Result<(), JournalError> {
        match self.named(name) {
            Some(_) => Err(from.damaged("idempotency name of one reservation")),
            None => {
                self.name(name, id);
                Ok(())
            }
        }
    }

    fn get(&self, number: u64) -> Option<&Ended> {
        let at = number.checked_sub(self.forgotten)?;
        self.ring.get(usize::try_from(at).ok()?)
    }

    fn forget_first(&mut self) {
        let Some(gone) = self.ring.pop_front() else {
            return;
        };
        let number = self.forgotten;
        self.forgotten = number.saturating_add(1);
        let tag = gone.id.parts().1;
        if let Ok(entry) = self.index.find_entry(tag, |entry| *entry == (tag, number)) {
            entry.remove();
        }
        if let Some(name) = gone.name {
            self.unname(name);
        }
    }
}
