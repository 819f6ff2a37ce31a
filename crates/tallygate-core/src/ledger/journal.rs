//! The journal: a record of each change, so that a saved ledger can be brought up to where it was.
//!
//! A record says what was done, not what was asked: redoing one judges nothing, and runs nothing that is due by
//! itself. What changes no counter and no name is not written: denials, looks, callers in line.
//!
//! Layout, numbers as in [`crate::codec`]. Every drained part begins with an opening; any number of parts may be put together.
//!
//! ```text
//! opening    0, version (1 byte), time (ns), number of the last charge
//! any other  its tag, ns since the record before, then by tag:
//!   charge     1  place, charges since the one before, ns to the deadline, demand, keys
//!   named      2  the same, then the idempotency name (16 bytes)
//!   spend      3  demand, keys
//!   extension  4  place, charges since the one before, amounts
//!   deadline   5  place, ns to the deadline
//!   settle     6  place, what was used
//!   cancel     7  place
//!   expiry     8  place
//!   withdrawal 9  place
//!   told      10  place: another caller with its idempotency key was told of it
//!   wall      11  the wall clock's lead (ns)
//!   policy    12  its rules
//!   sweep     13  rule, table: accounts that were as good as fresh went
//!   naming    14  a secret (16 bytes) that later ids are made with
//!   tie       15  place: it ends with the process; since version 2
//! ```
use super::hold::End;
use super::{Ask, Keys, Ledger};
use crate::codec::{JournalError, Reader, put, put_length, put_signed};
use crate::counter::Moment;
use crate::metric::Amounts;
use crate::num;
use crate::policy::Policy;
use crate::time::Time;

/// The version of records and saved ledgers that are written.
const VERSION: u8 = 2;

/// Writes the version.
pub(crate) fn write_version(out: &mut Vec<u8>) {
    out.push(VERSION);
}

/// Reads the version. An earlier one has less to say, in the same words.
pub(crate) fn read_version(from: &mut Reader<'_>) -> Result<(), JournalError> {
    match from.byte()? {
        1..=VERSION => Ok(()),
        other => Err(JournalError::Version(other)),
    }
}

pub(crate) const OPENING: u8 = 0;
pub(crate) const CHARGE: u8 = 1;
pub(crate) const NAMED: u8 = 2;
pub(crate) const SPEND: u8 = 3;
pub(crate) const EXTENSION: u8 = 4;
pub(crate) const DEADLINE: u8 = 5;
pub(crate) const SETTLE: u8 = 6;
pub(crate) const CANCEL: u8 = 7;
pub(crate) const EXPIRY: u8 = 8;
pub(crate) const WITHDRAWAL: u8 = 9;
pub(crate) const TOLD: u8 = 10;
pub(crate) const WALL: u8 = 11;
pub(crate) const POLICY: u8 = 12;
pub(crate) const SWEEP: u8 = 13;
pub(crate) const NAMING: u8 = 14;
pub(crate) const TIE: u8 = 15;

/// The records that were not drained yet.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    bytes: Vec<u8>,
    /// When the last record was written.
    at: Time,
    /// The number of the last charge it knows of.
    seq: u64,
}

impl Ledger {
    /// Writes a record of each change from now on. A ledger made anew must be saved first: records follow a save.
    pub fn keep_journal(&mut self) {
        self.journal.get_or_insert_default();
    }

    /// Moves the records since the last call to the end of `out`. Records drained before a [`Ledger::save`] are in the save; those
    /// drained after it follow it, provided that this is called just before it.
    pub fn drain_journal(&mut self, out: &mut Vec<u8>) {
        if let Some(journal) = &mut self.journal {
            out.append(&mut journal.bytes);
        }
    }

    /// How many bytes [`Ledger::drain_journal`] would hand out.
    #[must_use]
    pub fn journal_length(&self) -> usize {
        let journal = self.journal.as_ref();
        journal.map_or(0, |journal| journal.bytes.len())
    }

    /// Writes a record, if a journal is kept.
    #[inline]
    fn record(&mut self, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(journal) = &mut self.journal {
            journal.begin(tag, self.now, self.seq);
            write(&mut journal.bytes);
        }
    }

    #[inline]
    pub(crate) fn record_charge(&mut self, at: usize, ask: &Ask<'_>, moment: Moment) {
        if let Some(journal) = &mut self.journal {
            journal.charge(at, ask, moment);
        }
    }

    #[inline]
    pub(crate) fn record_extension(&mut self, at: usize, more: &Amounts, seq: u64) {
        if let Some(journal) = &mut self.journal {
            journal.extension((at, more), seq, self.now);
        }
    }

    #[inline]
    pub(crate) fn record_spend(&mut self, keys: &Keys, demand: &Amounts) {
        self.record(SPEND, |out| write_demand((keys, demand), out));
    }

    #[inline]
    pub(crate) fn record_end(&mut self, at: usize, end: &End) {
        if let Some(journal) = &mut self.journal {
            journal.begin(tag_of(end), self.now, self.seq);
            put_length(&mut journal.bytes, at);
            if let End::Settled(used) = end {
                used.write(&mut journal.bytes);
            }
        }
    }

    pub(crate) fn record_deadline(&mut self, at: usize, deadline: Time) {
        let left = deadline.since(self.now).as_nanos();
        self.record(DEADLINE, |out| {
            put_length(out, at);
            put(out, left);
        });
    }

    pub(crate) fn record_told(&mut self, at: usize) {
        self.record(TOLD, |out| put_length(out, at));
    }

    pub(crate) fn record_tie(&mut self, at: usize) {
        self.record(TIE, |out| put_length(out, at));
    }

    pub(crate) fn record_wall(&mut self, lead: i64) {
        self.record(WALL, |out| put_signed(out, lead));
    }

    pub(crate) fn record_policy(&mut self, policy: &Policy) {
        self.record(POLICY, |out| policy.write(out));
    }

    pub(crate) fn record_sweep(&mut self, slot: u32, table: usize) {
        self.record(SWEEP, |out| {
            put(out, num::wide32(slot));
            put_length(out, table);
        });
    }

    pub(crate) fn record_naming(&mut self) {
        let salt = self.salt;
        self.record(NAMING, |out| write_secret(salt, out));
    }
}

impl Journal {
    /// Begins a record, with an opening before it if it is the first; the last charge was number `seq`.
    fn begin(&mut self, tag: u8, now: Time, seq: u64) {
        if self.bytes.is_empty() {
            self.bytes.push(OPENING);
            write_version(&mut self.bytes);
            put(&mut self.bytes, now.as_nanos());
            put(&mut self.bytes, seq);
            (self.at, self.seq) = (now, seq);
        }
        self.bytes.push(tag);
        put(&mut self.bytes, now.since(self.at).as_nanos());
        self.at = now;
    }

    fn charge(&mut self, at: usize, ask: &Ask<'_>, moment: Moment) {
        let tag = ask.idempotency.map_or(CHARGE, |_| NAMED);
        self.begin(tag, moment.at, moment.seq.saturating_sub(1));
        put_length(&mut self.bytes, at);
        self.number(moment.seq);
        let out = &mut self.bytes;
        put(out, moment.deadline.since(moment.at).as_nanos());
        write_demand((ask.keys, ask.demand), out);
        if let Some(name) = ask.idempotency {
            out.extend_from_slice(&name.to_le_bytes());
        }
    }

    fn extension(&mut self, (at, more): (usize, &Amounts), seq: u64, now: Time) {
        self.begin(EXTENSION, now, seq.saturating_sub(1));
        put_length(&mut self.bytes, at);
        self.number(seq);
        more.write(&mut self.bytes);
    }

    /// Writes the number of a charge.
    fn number(&mut self, seq: u64) {
        put(&mut self.bytes, seq.saturating_sub(self.seq));
        self.seq = seq;
    }
}

fn tag_of(end: &End) -> u8 {
    match end {
        End::Settled(_) => SETTLE,
        End::Cancelled => CANCEL,
        End::Expired => EXPIRY,
        End::Withdrawn => WITHDRAWAL,
    }
}

fn write_demand((keys, demand): (&Keys, &Amounts), out: &mut Vec<u8>) {
    demand.write(out);
    keys.write(out);
}

/// Writes two numbers that stand for a secret.
pub(crate) fn write_secret(secret: [u64; 2], out: &mut Vec<u8>) {
    secret
        .iter()
        .for_each(|half| out.extend_from_slice(&half.to_le_bytes()));
}
