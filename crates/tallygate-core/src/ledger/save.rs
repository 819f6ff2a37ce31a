//! A ledger as bytes: all that outlives the process. Callers in line do not, nor what is made of the rest.
//!
//! The same state gives the same bytes. Layout, numbers as in [`crate::codec`], times in ns from the ledger's:
//!
//! ```text
//! version (1 byte), time, wall clock's lead, seed and naming secret (16 bytes each), number of the last charge
//! policy
//! rules ever: for each 0 if it has gone, or 1 + its place in the policy and
//!   windows: when the first turns, then each
//!   accounts, a list for each of 64 tables in the order of their hashes, each: 1 if reservations are open on it, hash (12 bytes), counters;
//!     of one with reservations also the history of each bucket
//! places of reservations: for each 0 if it is free, or the reservation; the free places in the order of their being freed
//! receipts, the oldest first
//! ```
use super::Ledger;
use super::hold::Hold;
use super::journal::{write_secret, write_version};
use crate::account::{Account, Motion};
use crate::codec::{put, put_length, put_signed, put_time};
use crate::meter::Meter;
use crate::num;
use crate::slot::Slot;

/// What is told of a reservation in its first byte; none of it: a free place.
pub(crate) const OPEN: u8 = 1;
pub(crate) const WITH_NAME: u8 = 2;
pub(crate) const REPLAYED: u8 = 4;
/// Since version 2.
pub(crate) const TIED: u8 = 8;

impl Ledger {
    /// Writes the ledger to the end of `out`, for [`Ledger::load`]. The bytes contain the seed that ids are made with: they are to
    /// be kept from others. Call [`Ledger::drain_journal`] just before; records drained after it follow the save.
    pub fn save(&self, out: &mut Vec<u8>) {
        write_version(out);
        put(out, self.now.as_nanos());
        put_signed(out, self.offset);
        write_secret(self.seed, out);
        write_secret(self.salt, out);
        put(out, self.seq);
        self.policy.write(out);
        self.save_rules(out);
        self.save_holds(out);
        self.receipts.write(self.now, out);
    }

    fn save_rules(&self, out: &mut Vec<u8>) {
        let mut order = vec![0usize; self.slots.len()];
        for (at, slot) in self.active.iter().enumerate() {
            if let Some(place) = order.get_mut(num::index(*slot)) {
                *place = at.saturating_add(1);
            }
        }
        put_length(out, self.slots.len());
        for (slot, order) in self.slots.iter().zip(order) {
            match slot {
                None => put(out, 0),
                Some(slot) => {
                    put_length(out, order);
                    self.save_rule(slot, out);
                }
            }
        }
    }

    fn save_rule(&self, slot: &Slot, out: &mut Vec<u8>) {
        slot.write_windows(self.now, out);
        for accounts in slot.accounts.sorted() {
            put_length(out, accounts.len());
            for account in accounts {
                self.save_account(slot, account, out);
            }
        }
    }

    fn save_account(&self, slot: &Slot, account: &Account, out: &mut Vec<u8>) {
        let motion = account.motion().and_then(|at| self.motions.get(at));
        let motion = motion.filter(|motion| motion.open > 0);
        out.push(u8::from(motion.is_some()));
        account.key(0).write_hash(out);
        for (_, state) in slot.rule.limits.iter().zip(account.states()) {
            state.write(self.now, out);
        }
        if let Some(motion) = motion {
            save_histories(slot, motion, out);
        }
    }

    fn save_holds(&self, out: &mut Vec<u8>) {
        let (places, free) = self.holds.parts();
        put_length(out, places.len());
        for place in places {
            match place {
                None => out.push(0),
                Some(hold) => self.save_hold(hold, out),
            }
        }
        free.iter().for_each(|at| put(out, num::wide32(*at)));
    }

    fn save_hold(&self, hold: &Hold, out: &mut Vec<u8>) {
        let name = hold.name.map_or(0, |_| WITH_NAME);
        let replayed = if hold.replayed { REPLAYED } else { 0 };
        let tied = if hold.tied { TIED } else { 0 };
        out.push(OPEN | name | replayed | tied);
        out.extend_from_slice(&hold.tag.to_le_bytes());
        put(out, hold.seq);
        put_time(out, hold.admitted, self.now);
        put_time(out, hold.deadline, self.now);
        hold.demand.write(out);
        hold.keys.write(out);
        if let Some(name) = hold.name {
            out.extend_from_slice(&name.to_le_bytes());
        }
        put_length(out, hold.extensions.len());
        for part in &hold.extensions {
            put(out, part.seq);
            put_time(out, part.at, self.now);
            part.more.write(out);
        }
    }
}

/// What settlements to come need to know of the buckets.
fn save_histories(slot: &Slot, motion: &Motion, out: &mut Vec<u8>) {
    for (limit, track) in slot.rule.limits.iter().zip(&motion.tracks) {
        if let Meter::Bucket(_) = limit.meter {
            track.history().write(out);
        }
    }
}
