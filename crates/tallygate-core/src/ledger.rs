//! The ledger: every counter, every reservation and every waiting line, behind one `&mut`.
//!
//! One decision looks at all limits first and then charges all of them or none. Each operation is told the
//! time; what has become due by then (deadlines, turns in a line) takes effect before it.
mod admit;
mod hold;
mod holds;
mod journal;
mod judge;
mod line;
mod load;
mod namesakes;
mod parting;
mod receipts;
mod redo;
mod reload;
mod save;
mod timers;
mod vigil;

use crate::account::{Key, Motions};
use crate::decision::{Decision, FullError, Standing};
use crate::metric::Amounts;
use crate::policy::{AS_ASKED, Policy};
use crate::slot::{Slot, standing};
use crate::time::{Span, Time};
use holds::Holds;
use journal::Journal;
use line::{Answer, Waiter};
use namesakes::Namesakes;
use parting::Parting;
use receipts::Receipts;
use siphasher::sip128::{Hasher128, SipHasher13};
use slab::Slab;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hasher;
use timers::Timers;
use vigil::Vigil;

pub(crate) use judge::note_largest;

pub use hold::{ExtendError, MAX_EXTENSIONS, Used};
pub use line::{Entry, Patience, Ticket, WaitsFor};

/// How much a ledger may keep. Each bound is refused with a [`FullError`] that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Accounts (one a rule and value of its labels) not at their initial state.
    pub counters: usize,
    /// Open reservations.
    pub reservations: usize,
    /// Callers in line.
    pub waiters: usize,
    /// Ended reservations whose receipt is kept for repeats; past it the oldest are forgotten.
    pub receipts: usize,
    /// How long a receipt is kept.
    pub receipt_ttl: Span,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            counters: 20_000_000,
            reservations: 1_000_000,
            waiters: 10_000,
            receipts: 65_536,
            receipt_ttl: Span::from_secs(600),
        }
    }
}

/// A demand and whose it is.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The counters it is charged to: [`Ledger::resolve`].
    pub keys: &'a Keys,
    /// How much.
    pub demand: &'a Amounts,
    /// How long the reservation stands unsettled.
    pub ttl: Span,
    /// A second ask with the same number gets the first one's reservation: [`Ledger::idempotency`].
    pub idempotency: Option<u128>,
}

/// The counters a subject is charged to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(pub(crate) SmallVec<[Key; 4]>);

/// Every counter, reservation and waiting line.
#[derive(Debug)]
pub struct Ledger {
    /// The rules by number; the number of a rule that has gone is not used again.
    slots: Vec<Option<Slot>>,
    /// What is in force.
    policy: Policy,
    /// Its rules, in its order.
    active: Vec<u32>,
    motions: Motions,
    holds: Holds,
    waiters: Slab<Waiter>,
    timers: Timers,
    receipts: Receipts,
    namesakes: Namesakes,
    vigil: Vigil,
    answers: Vec<(Ticket, Answer)>,
    /// Whose answers are to say why before the operation ends.
    partings: Vec<Parting>,
    /// The lines to be served before the operation ends, that of the oldest caller first.
    agenda: BinaryHeap<Reverse<(u64, Key, usize)>>,
    counters: usize,
    swept: usize,
    /// Whether any rule in force is a shadow.
    shadows: bool,
    seq: u64,
    now: Time,
    offset: i64,
    seed: [u64; 2],
    /// What ids are made with: the seed, until [`Ledger::name_anew`].
    salt: [u64; 2],
    bounds: Bounds,
    journal: Option<Box<Journal>>,
}

impl Ledger {
    /// A ledger with fresh counters. `seed` must be random: names of counters and reservations are made with it.
    #[must_use]
    pub fn new(policy: &Policy, bounds: Bounds, seed: [u64; 2]) -> Self {
        let mut ledger = Self::empty(policy.clone(), bounds, seed);
        ledger.replace_policy(policy, Time::ZERO);
        ledger
    }

    /// A ledger that has no rule yet.
    fn empty(policy: Policy, bounds: Bounds, seed: [u64; 2]) -> Self {
        Self {
            slots: Vec::new(),
            policy,
            active: Vec::new(),
            motions: Motions::default(),
            holds: Holds::default(),
            waiters: Slab::new(),
            timers: Timers::default(),
            receipts: Receipts::default(),
            namesakes: Namesakes::default(),
            vigil: Vigil::default(),
            answers: Vec::new(),
            partings: Vec::new(),
            agenda: BinaryHeap::new(),
            counters: 0,
            swept: 0,
            shadows: false,
            seq: 0,
            now: Time::ZERO,
            offset: 0,
            seed,
            salt: seed,
            bounds,
            journal: None,
        }
    }

    /// The counters of the limits that apply to a subject, in the order of the rules.
    #[must_use]
    pub fn resolve(&self, subject: &[(&str, &str)]) -> Keys {
        let key = |place: usize| {
            let at = *self.active.get(place)?;
            Some(self.slot(at)?.key(at, subject, self.seed))
        };
        let mut keys = Keys::default();
        self.policy
            .each_applying(subject, |place, _| keys.0.extend(key(place)));
        keys
    }

    /// The number of an idempotency key of a subject, in whatever order its labels come: the same key of another
    /// subject is another number. That a call is not downgraded is said only where there is a ladder, and is no matter.
    #[must_use]
    pub fn idempotency(&self, key: &str, subject: &[(&str, &str)]) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.seed[1], self.seed[0]);
        let named = subject.iter().filter(|label| **label != AS_ASKED);
        let mut pairs: SmallVec<[(&str, &str); 8]> = named.copied().collect();
        pairs.sort_unstable();
        for (label, value) in pairs {
            hasher.write(label.as_bytes());
            hasher.write_u8(0xFF);
            hasher.write(value.as_bytes());
            hasher.write_u8(0xFE);
        }
        hasher.write(key.as_bytes());
        hasher.finish128().as_u128()
    }

    /// Where every limit of these counters stands. Changes nothing that can be seen.
    pub fn peek(&mut self, keys: &Keys, now: Time) -> Vec<Standing> {
        self.advance(now);
        self.standings(keys)
    }

    fn standings(&mut self, keys: &Keys) -> Vec<Standing> {
        self.refresh(keys);
        let mut standings = Vec::new();
        for key in &keys.0 {
            let Some(slot) = self.slot(key.slot) else {
                continue;
            };
            let account = slot.accounts.lookup(*key);
            let motion = account.and_then(|account| self.motions.get(account.motion()?));
            for (at, limit) in slot.rule.limits.iter().enumerate() {
                let gate = slot.gate(limit, at, self.now);
                let state = slot.state(account, at);
                let track = motion.and_then(|motion| motion.tracks.get(at));
                standings.push(standing(
                    limit,
                    gate.used(&state),
                    gate.reset(&state, track),
                ));
            }
        }
        standings
    }

    /// Lets everything that is due by `now` take effect: deadlines, turns in lines, waits that are over.
    /// Answers the ledger's time: `now`, or a later one that it was told before.
    #[inline]
    pub fn advance(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        if self.timers.due(self.now) {
            self.run_timers();
        }
        self.now
    }

    /// When [`Self::advance`] has something to do next, if nothing else comes.
    pub fn next_event(&mut self) -> Option<Time> {
        while let Some((at, event)) = self.timers.first() {
            if self.is_live(at, event) {
                return Some(at);
            }
            self.timers.pop();
        }
        None
    }

    /// Takes the answers to callers in line that have become known; an error when a caller's turn came while a
    /// bound of the ledger was reached.
    pub fn take_answers(&mut self) -> Vec<(Ticket, Result<Decision, FullError>)> {
        std::mem::take(&mut self.answers)
    }

    /// Sets the wall clock's lead over the ledger's clock, in nanoseconds: calendar windows follow it,
    /// but never back.
    pub fn set_wall_offset(&mut self, nanos: i64) {
        if self.offset != nanos {
            self.step_wall(nanos);
            self.call_all();
            // A nanosecond has gone by: what has become due with it comes before anybody is told anything.
            self.run_due();
            self.serve_agenda();
        }
    }

    fn step_wall(&mut self, lead: i64) {
        self.record_wall(lead);
        // Looked up before and after, so that it does not matter who looks when.
        self.refresh_all();
        self.offset = lead;
        // A nanosecond apart, what was charged before the step can be told from what comes after it.
        self.now = self.now.plus(Span::from_nanos(1));
        self.slots.iter_mut().flatten().for_each(Slot::turn);
        self.refresh_all();
    }

    /// Brings the calendar windows of all rules to the present.
    fn refresh_all(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            slot.refresh(self.now, self.offset);
        }
    }

    /// Drops some accounts that are as good as fresh; answers how many. Called now and then, it finds all.
    pub fn sweep(&mut self, now: Time) -> usize {
        self.advance(now);
        self.swept = self.swept.wrapping_add(1);
        let Some(turn) = self.swept.checked_rem(self.active.len()) else {
            return 0;
        };
        let at = self.active.get(turn).copied().unwrap_or(0);
        let slot = self.slots.get_mut(crate::num::index(at));
        let Some(table) = slot
            .and_then(Option::as_mut)
            .map(|slot| slot.accounts.turn())
        else {
            return 0;
        };
        let gone = self.sweep_table(at, table);
        if gone > 0 {
            self.record_sweep(at, table);
        }
        gone
    }

    /// Drops the accounts of one table of a rule that are as good as fresh; answers how many.
    fn sweep_table(&mut self, at: u32, table: usize) -> usize {
        let slot = self.slots.get_mut(crate::num::index(at));
        let gone = slot
            .and_then(Option::as_mut)
            .map_or(0, |slot| slot.sweep(table, (self.now, self.offset)));
        self.counters = self.counters.saturating_sub(gone);
        gone
    }

    /// The latest time it was told.
    #[must_use]
    pub fn now(&self) -> Time {
        self.now
    }

    /// Makes the ids of reservations to come with another secret, which must be random. To be called after a crash that may have
    /// lost records: else an id that was told to a caller and lost could be given again, to another one.
    pub fn name_anew(&mut self, secret: [u64; 2]) {
        self.salt = secret;
        self.record_naming();
    }

    /// Accounts not at their initial state (or were not, when last looked at).
    #[must_use]
    pub fn counters(&self) -> usize {
        self.counters
    }

    /// Open reservations.
    #[must_use]
    pub fn open(&self) -> usize {
        self.holds.len()
    }

    /// Open reservations that hold something.
    #[must_use]
    pub fn holding(&self) -> usize {
        self.holds.holding()
    }

    /// Callers in line.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(crate::num::index(at))?.as_ref()
    }

    fn next_seq(&mut self) -> u64 {
        self.seq = self.seq.saturating_add(1);
        self.seq
    }

    fn full_of_counters(&self, more: usize) -> Result<(), FullError> {
        match self.counters.saturating_add(more) > self.bounds.counters {
            true => Err(FullError::Counters(self.counters)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
