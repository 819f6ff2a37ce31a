//! Doing again what records say was done.
use super::hold::{End, Used};
use super::journal::{
    CANCEL, CHARGE, DEADLINE, EXPIRY, EXTENSION, NAMED, NAMING, OPENING, POLICY, SETTLE, SPEND,
    SWEEP, TIE, TOLD, WALL, WITHDRAWAL, read_version,
};
use super::judge::Places;
use super::{Ask, Keys, Ledger};
use crate::codec::{JournalError, Reader};
use crate::metric::Amounts;
use crate::num;
use crate::policy::Policy;
use crate::time::{Span, Time};

/// Records being read.
struct Redo<'a> {
    from: Reader<'a>,
    /// When the last record was written.
    at: Time,
    /// The number of the last charge.
    seq: u64,
}

impl Ledger {
    /// Does again what records say, on the ledger that [`Ledger::load`] made of the save they follow or on which the records
    /// before them were redone. Judges nothing and lets nothing happen by itself: what has become due since is done by the first operation
    /// after it. Nothing is recorded anew.
    ///
    /// # Errors
    /// When the records are not readable or do not follow; part of them may have been redone then, and the ledger is to be
    /// thrown away.
    pub fn redo(&mut self, records: &[u8]) -> Result<(), JournalError> {
        let journal = self.journal.take();
        let done = self.redo_all(records);
        self.journal = journal;
        done
    }

    fn redo_all(&mut self, records: &[u8]) -> Result<(), JournalError> {
        let mut redo = Redo {
            from: Reader::new(records),
            at: self.now,
            seq: self.seq,
        };
        if records.first().is_some_and(|tag| *tag != OPENING) {
            return Err(redo.from.damaged("opening of records"));
        }
        while !redo.from.is_empty() {
            match redo.from.byte()? {
                OPENING => self.seq = redo.open(self.now)?,
                tag => self.redo_one(tag, &mut redo)?,
            }
        }
        Ok(())
    }

    fn redo_one(&mut self, tag: u8, redo: &mut Redo<'_>) -> Result<(), JournalError> {
        self.now = redo.moment()?;
        match tag {
            CHARGE | NAMED => self.redo_charge(tag, redo),
            SPEND => self.redo_spend(redo),
            EXTENSION => self.redo_extension(redo),
            DEADLINE => {
                let at = self.place(redo)?;
                let left = Span::from_nanos(redo.from.number()?);
                self.postpone(at, self.now.plus(left));
                Ok(())
            }
            SETTLE | CANCEL | EXPIRY | WITHDRAWAL => self.redo_end(tag, redo),
            TOLD => {
                let at = self.place(redo)?;
                self.note_told(at);
                Ok(())
            }
            TIE => {
                let at = self.place(redo)?;
                self.tie(at);
                Ok(())
            }
            WALL => {
                let lead = redo.from.signed()?;
                self.step_wall(lead);
                Ok(())
            }
            POLICY => {
                let policy = Policy::read(&mut redo.from)?;
                self.put_in_force(&policy);
                Ok(())
            }
            SWEEP => self.redo_sweep(redo),
            NAMING => {
                self.salt = read_secret(&mut redo.from)?;
                Ok(())
            }
            _ => Err(redo.from.damaged("record")),
        }
    }

    fn redo_charge(&mut self, tag: u8, redo: &mut Redo<'_>) -> Result<(), JournalError> {
        let place = redo.from.number()?;
        if place != num::length(self.holds.next()) {
            return Err(redo.from.stray("another place"));
        }
        let seq = redo.number()?;
        let ttl = Span::from_nanos(redo.from.number()?);
        let (demand, keys) = self.read_demand(redo)?;
        let idempotency = match tag {
            NAMED => Some(u128::from_le_bytes(redo.from.fixed()?)),
            _ => None,
        };
        if idempotency.is_some_and(|name| self.receipts.named(name).is_some()) {
            return Err(redo.from.stray("an idempotency name that is not in use"));
        }
        let ask = Ask {
            keys: &keys,
            demand: &demand,
            ttl,
            idempotency,
        };
        self.seq = seq;
        let places = self.find_all(&keys);
        self.charge(&ask, &places, None);
        Ok(())
    }

    fn redo_spend(&mut self, redo: &mut Redo<'_>) -> Result<(), JournalError> {
        let (demand, keys) = self.read_demand(redo)?;
        let places = self.find_all(&keys);
        self.spend_all(&keys, places, &demand);
        Ok(())
    }

    fn redo_extension(&mut self, redo: &mut Redo<'_>) -> Result<(), JournalError> {
        let at = self.place(redo)?;
        self.seq = redo.number()?;
        let more = Amounts::read(&mut redo.from)?;
        let Some(hold) = self.holds.get(at).filter(|hold| hold.may_grow()) else {
            return Err(redo.from.stray("a reservation extended less often"));
        };
        let keys = hold.keys.clone();
        let places = self.find_all(&keys);
        self.grow(at, &places, &more);
        Ok(())
    }

    fn redo_end(&mut self, tag: u8, redo: &mut Redo<'_>) -> Result<(), JournalError> {
        let at = self.place(redo)?;
        let end = match tag {
            SETTLE => End::Settled(Used::read(&mut redo.from)?),
            CANCEL => End::Cancelled,
            EXPIRY => End::Expired,
            _ => End::Withdrawn,
        };
        self.end(at, &end);
        Ok(())
    }

    fn redo_sweep(&mut self, redo: &mut Redo<'_>) -> Result<(), JournalError> {
        let slot = redo.from.number32()?;
        let table = redo.from.number32()?;
        if self.slot(slot).is_none() {
            return Err(redo.from.stray("a rule in force"));
        }
        self.sweep_table(slot, num::index(table));
        Ok(())
    }

    /// A demand and the accounts it was charged to.
    fn read_demand(&self, redo: &mut Redo<'_>) -> Result<(Amounts, Keys), JournalError> {
        let demand = Amounts::read(&mut redo.from)?;
        let keys = Keys::read(&mut redo.from)?;
        match self.knows(&keys) {
            true => Ok((demand, keys)),
            false => Err(redo.from.stray("a known rule")),
        }
    }

    /// Whether these are accounts of rules that are in force or were.
    pub(crate) fn knows(&self, keys: &Keys) -> bool {
        let mut keys = keys.0.iter();
        keys.all(|key| num::index(key.slot) < self.slots.len())
    }

    /// The place of an open reservation.
    fn place(&self, redo: &mut Redo<'_>) -> Result<usize, JournalError> {
        let at = num::index(redo.from.number32()?);
        match self.holds.get(at) {
            Some(_) => Ok(at),
            None => Err(redo.from.stray("an open reservation")),
        }
    }

    /// Where the accounts of these keys stand, the calendar being looked up as a decision does.
    fn find_all(&mut self, keys: &Keys) -> Places {
        self.refresh(keys);
        let find = |key: &crate::account::Key| self.slot(key.slot)?.accounts.find(*key);
        keys.0.iter().map(find).collect()
    }
}

impl Redo<'_> {
    /// Reads an opening, on a ledger that is at `now`: the number of the last charge.
    fn open(&mut self, now: Time) -> Result<u64, JournalError> {
        read_version(&mut self.from)?;
        self.at = Time::from_nanos(self.from.number()?);
        let seq = self.from.number()?;
        if self.at < now || seq < self.seq {
            return Err(self.from.stray("a later time"));
        }
        self.seq = seq;
        Ok(seq)
    }

    /// When the next record was written.
    fn moment(&mut self) -> Result<Time, JournalError> {
        let nanos = self.at.as_nanos().checked_add(self.from.number()?);
        let nanos = nanos.ok_or_else(|| self.from.damaged("time"))?;
        self.at = Time::from_nanos(nanos);
        Ok(self.at)
    }

    /// The number of the next charge.
    fn number(&mut self) -> Result<u64, JournalError> {
        let more = self.from.number()?;
        let seq = self.seq.checked_add(more).filter(|_| more > 0);
        self.seq = seq.ok_or_else(|| self.from.damaged("number of a charge"))?;
        Ok(self.seq)
    }
}

/// Two numbers that stand for a secret.
pub(crate) fn read_secret(from: &mut Reader<'_>) -> Result<[u64; 2], JournalError> {
    let first = u64::from_le_bytes(from.fixed()?);
    Ok([first, u64::from_le_bytes(from.fixed()?)])
}
