//! Reservations: open, extended, ended.
use super::judge::{Claim, Places};
use super::timers::Event;
use super::{Ask, Keys, Ledger};
use crate::account::Key;
use crate::counter::{Held, Moment};
use crate::decision::{Decision, EndError, Extended, FullError, Outcome, Receipt, Told};
use crate::id::ReservationId;
use crate::metric::{Amounts, Metric, Stated};
use crate::num;
use crate::time::{Span, Time};
use siphasher::sip::SipHasher13;
use std::cmp::Reverse;
use std::hash::Hasher;

/// How many times a reservation may be extended by amounts.
pub const MAX_EXTENSIONS: usize = 256;

/// What a call really used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Used {
    /// Exactly this.
    Exactly(Amounts),
    /// Exactly this of the metrics that are stated; of the others, what was held.
    Stated(Stated),
    /// At least this: nothing held is returned, and what is above the hold is charged.
    AtLeast(Amounts),
}

/// How a reservation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Settled(Used),
    Cancelled,
    /// Its deadline has passed: its amounts are kept as used.
    Expired,
    /// It is cancelled, and its idempotency key is as good as new.
    Withdrawn,
}

/// An open reservation.
#[derive(Debug)]
pub(crate) struct Hold {
    /// The part of its id that nobody can guess.
    pub(crate) tag: u64,
    pub(crate) seq: u64,
    pub(crate) admitted: Time,
    pub(crate) deadline: Time,
    pub(crate) demand: Amounts,
    pub(crate) keys: Keys,
    pub(crate) name: Option<u128>,
    /// Whether another caller with the same idempotency key was told of it.
    pub(crate) replayed: bool,
    /// Whether nobody can end it once the process that made it is gone.
    pub(crate) tied: bool,
    pub(crate) extensions: Vec<Extension>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension {
    pub(crate) seq: u64,
    pub(crate) at: Time,
    pub(crate) more: Amounts,
}

/// The part of an id that nobody can guess.
pub(crate) fn tag_of(seq: u64, salt: [u64; 2]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(salt[0], salt[1]);
    hasher.write_u64(seq);
    hasher.finish()
}

impl Hold {
    pub(crate) fn new(ask: &Ask<'_>, moment: Moment, tag: u64) -> Self {
        Self {
            tag,
            seq: moment.seq,
            admitted: moment.at,
            deadline: moment.deadline,
            demand: *ask.demand,
            keys: ask.keys.clone(),
            name: ask.idempotency,
            replayed: false,
            tied: false,
            extensions: Vec::new(),
        }
    }

    /// All that it holds.
    pub(crate) fn total(&self) -> Amounts {
        let add =
            |sum: Amounts, extension: &Extension| sum.zip(&extension.more, u64::saturating_add);
        self.extensions.iter().fold(self.demand, add)
    }

    /// Whether it holds nothing of anything.
    pub(crate) fn is_empty(&self) -> bool {
        let mut parts = self.parts();
        parts.all(|(_, amounts)| *amounts == Amounts::ZERO)
    }

    /// What it took at each of its moments.
    pub(crate) fn amounts_mut(&mut self) -> impl Iterator<Item = &mut Amounts> {
        let later = self.extensions.iter_mut().map(|part| &mut part.more);
        std::iter::once(&mut self.demand).chain(later)
    }

    /// Its id, if it stands at this place.
    pub(crate) fn id(&self, at: usize) -> ReservationId {
        let high = (num::length(at) << 32) | u64::from(num::low32(self.seq));
        ReservationId::from_parts(high, self.tag)
    }

    /// Whether it may be extended by amounts once more.
    pub(crate) fn may_grow(&self) -> bool {
        self.extensions.len() < MAX_EXTENSIONS
    }

    /// The moments it was charged at, with what was held then.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Moment, &Amounts)> {
        let first = (self.moment(self.seq, self.admitted), &self.demand);
        let later = self.extensions.iter();
        std::iter::once(first).chain(later.map(|part| (self.moment(part.seq, part.at), &part.more)))
    }

    fn moment(&self, seq: u64, at: Time) -> Moment {
        Moment {
            seq,
            at,
            deadline: self.deadline,
        }
    }
}

impl Ledger {
    /// Replaces the held amounts by the real ones, as if they had been known at admission.
    /// A repeat answers the first receipt.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub fn settle(
        &mut self,
        id: ReservationId,
        used: Used,
        now: Time,
    ) -> Result<Receipt, EndError> {
        let at = match self.open_or_ended(id, Outcome::Settled, now)? {
            Ok(at) => at,
            Err(receipt) => return Ok(receipt),
        };
        let receipt = self.end(at, &End::Settled(used));
        self.serve_agenda();
        Ok(receipt)
    }

    /// Gives all back. A repeat answers the first receipt.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub fn cancel(&mut self, id: ReservationId, now: Time) -> Result<Receipt, EndError> {
        let at = match self.open_or_ended(id, Outcome::Cancelled, now)? {
            Ok(at) => at,
            Err(receipt) => return Ok(receipt),
        };
        let receipt = self.end(at, &End::Cancelled);
        self.serve_agenda();
        Ok(receipt)
    }

    /// Adds `more` to the hold if it fits all limits, and moves the deadline to `ttl` from now if one is given.
    /// An extension belongs to a call under way and does not stand in line.
    ///
    /// # Errors
    /// When the reservation is unknown or has ended, or was extended [`MAX_EXTENSIONS`] times.
    pub fn extend(
        &mut self,
        id: ReservationId,
        more: &Amounts,
        ttl: Option<Span>,
        now: Time,
    ) -> Result<Extended, ExtendError> {
        let now = self.advance(now);
        let Some(at) = self.find(id) else {
            return Err(self.ended(id).into());
        };
        if *more != Amounts::ZERO
            && let Some(refused) = self.add_part(at, more)?
        {
            return Ok(refused);
        }
        if let Some(ttl) = ttl {
            self.postpone(at, now.plus(ttl));
        }
        let hold = self.holds.get(at).ok_or(EndError::Unknown)?;
        Ok(Extended::Granted {
            expires_at: hold.deadline,
            reserved: hold.total(),
        })
    }

    /// Cancels a reservation whose caller left before it was told of it: its idempotency key is as good
    /// as new. It stands if another caller was told of it.
    pub fn withdraw(&mut self, id: ReservationId, now: Time) {
        self.advance(now);
        let untold = |at: &usize| self.holds.get(*at).is_some_and(|hold| !hold.replayed);
        if let Some(at) = self.find(id).filter(untold) {
            self.end(at, &End::Withdrawn);
            self.serve_agenda();
        }
    }

    /// Says of an open reservation that only the process which made it can end it: it ends with the process, by
    /// [`Ledger::end_tied`]. Does nothing if it is not open.
    pub fn tie_to_process(&mut self, id: ReservationId) {
        if let Some(at) = self.find(id) {
            self.tie(at);
        }
    }

    pub(crate) fn tie(&mut self, at: usize) {
        self.record_tie(at);
        if let Some(hold) = self.holds.get_mut(at) {
            hold.tied = true;
        }
    }

    /// Ends the reservations that were tied to a process, which is gone, as their deadlines would: what they hold is kept as used,
    /// their concurrency freed. Answers how many.
    pub fn end_tied(&mut self, now: Time) -> usize {
        self.advance(now);
        let tied = self.holds.iter().filter(|(_, hold)| hold.tied);
        let tied: Vec<usize> = tied.map(|(at, _)| at).collect();
        tied.iter().for_each(|at| self.expire(*at));
        self.serve_agenda();
        tied.len()
    }

    /// The open hold of this name, of which another caller is told.
    pub(crate) fn tell_of(&mut self, id: ReservationId) -> Option<&Hold> {
        let at = self.find(id)?;
        if self.holds.get(at).is_some_and(|hold| !hold.replayed) {
            self.note_told(at);
        }
        self.holds.get(at)
    }

    /// Remembers that another caller with its idempotency key was told of a hold.
    pub(crate) fn note_told(&mut self, at: usize) {
        self.record_told(at);
        if let Some(hold) = self.holds.get_mut(at) {
            hold.replayed = true;
        }
    }

    pub(crate) fn id_of(&self, at: usize) -> Option<ReservationId> {
        self.holds.get(at).map(|hold| hold.id(at))
    }

    /// Whether the hold at this place is the one numbered `seq` and ends at `at`.
    pub(crate) fn ends_at(&self, place: usize, seq: u64, at: Time) -> bool {
        let hold = self.holds.get(place);
        hold.is_some_and(|hold| hold.seq == seq && hold.deadline == at)
    }

    /// Ends a hold whose deadline has passed.
    pub(crate) fn expire(&mut self, at: usize) {
        self.end(at, &End::Expired);
    }

    fn find(&self, id: ReservationId) -> Option<usize> {
        let (high, tag) = id.parts();
        let at = num::index(num::low32(high >> 32));
        let hold = self.holds.get(at)?;
        (hold.tag == tag && num::low32(hold.seq) == num::low32(high)).then_some(at)
    }

    fn ended(&self, id: ReservationId) -> EndError {
        let receipt = self.receipts.find(id);
        receipt.map_or(EndError::Unknown, |receipt| {
            EndError::Ended(Box::new(*receipt))
        })
    }

    /// The place of an open hold, or the receipt if it has ended as is wanted.
    fn open_or_ended(
        &mut self,
        id: ReservationId,
        wanted: Outcome,
        now: Time,
    ) -> Result<Result<usize, Receipt>, EndError> {
        self.advance(now);
        if let Some(at) = self.find(id) {
            return Ok(Ok(at));
        }
        match self.ended(id) {
            EndError::Ended(receipt) if receipt.outcome == wanted => Ok(Err(receipt.again())),
            ended => Err(ended),
        }
    }

    /// Ends a hold; the lines it makes room in are on the agenda then.
    pub(crate) fn end(&mut self, at: usize, end: &End) -> Receipt {
        self.record_end(at, end);
        let id = self.id_of(at).unwrap_or(ReservationId::from_bits(0));
        let Some(mut hold) = self.holds.remove(at) else {
            return NO_RECEIPT;
        };
        if let End::Withdrawn = end {
            self.unname(&mut hold);
        }
        let (outcome, used) = match end {
            End::Settled(used) => (Outcome::Settled, *used),
            End::Cancelled | End::Withdrawn => (Outcome::Cancelled, Used::Exactly(Amounts::ZERO)),
            End::Expired => (Outcome::Expired, Used::AtLeast(hold.total())),
        };
        let mut receipt = receipt_of(&hold, outcome, used);
        for key in &hold.keys.0 {
            self.end_on(*key, &hold, used, &mut receipt.debt);
        }
        self.vigil.note(&hold.keys);
        self.receipts.keep(id, receipt, hold.name, self.now);
        self.receipts.trim(&self.bounds, self.now);
        self.drop_overtaken();
        receipt
    }

    /// Makes the idempotency key of a hold as good as new.
    fn unname(&mut self, hold: &mut Hold) {
        if let Some(name) = hold.name.take() {
            self.receipts.unname(name);
        }
    }

    fn end_on(&mut self, key: Key, hold: &Hold, used: Used, debt: &mut Amounts) {
        let Some(Some(slot)) = self.slots.get_mut(num::index(key.slot)) else {
            return;
        };
        slot.refresh(self.now, self.offset);
        let (limits, accounts) = slot.split(self.now);
        let Some(account) = accounts.lookup_mut(key) else {
            return;
        };
        let Some(place) = account.motion() else {
            return;
        };
        let Some(motion) = self.motions.get_mut(place) else {
            return;
        };
        motion.open = motion.open.saturating_sub(1);
        let tracks = motion.tracks.iter_mut().zip(&motion.lines);
        let counters = account.states_mut().iter_mut().zip(tracks);
        for (at, ((limit, gate), (state, (track, line)))) in limits.zip(counters).enumerate() {
            for (moment, amounts) in charges(hold, limit.metric, used) {
                gate.settle(state, track, moment, amounts);
            }
            let over = gate.used(state).saturating_sub(limit.meter.largest());
            debt.set(limit.metric, debt.get(limit.metric).max(over));
            if let Some((first, _)) = line.waiters.first_key_value() {
                self.agenda.push(Reverse((*first, key, at)));
            }
        }
        self.motions.rest(account);
    }

    /// Charges an extension; answers the refusal if it does not fit.
    fn add_part(&mut self, at: usize, more: &Amounts) -> Result<Option<Extended>, ExtendError> {
        let hold = self.holds.get(at).ok_or(EndError::Unknown)?;
        if !hold.may_grow() {
            return Err(ExtendError::TooOften);
        }
        let keys = hold.keys.clone();
        let claim = Claim {
            keys: &keys,
            demand: more,
            order: 0,
        };
        let Some(places) = self.places(claim) else {
            return Ok(Some(match self.refuse(claim) {
                Decision::Never(never) => Extended::Never(never),
                Decision::Deny(denial) => Extended::Deny(denial),
                Decision::Admit(_) => return Ok(None),
            }));
        };
        self.next_seq();
        self.grow(at, &places, more);
        self.vigil.note(&keys);
        self.serve_agenda();
        Ok(None)
    }

    /// Charges more for a hold under the number that is next.
    pub(crate) fn grow(&mut self, at: usize, places: &Places, more: &Amounts) {
        let part = Extension {
            seq: self.seq,
            at: self.now,
            more: *more,
        };
        let Some(hold) = self.holds.extend(at, part) else {
            return;
        };
        let moment = hold.moment(part.seq, part.at);
        let keys = hold.keys.clone();
        self.record_extension(at, more, part.seq);
        for (key, place) in keys.0.iter().zip(places) {
            self.reserve_on(*key, *place, (more, moment), None);
            self.close_count(*key);
        }
    }

    /// An extension is part of a reservation that is counted as open already.
    fn close_count(&mut self, key: Key) {
        let slot = self
            .slots
            .get(num::index(key.slot))
            .and_then(Option::as_ref);
        let place = slot.and_then(|slot| slot.accounts.lookup(key)?.motion());
        if let Some(motion) = place.and_then(|place| self.motions.get_mut(place)) {
            motion.open = motion.open.saturating_sub(1);
        }
    }

    pub(crate) fn postpone(&mut self, at: usize, deadline: Time) {
        self.record_deadline(at, deadline);
        let Some(hold) = self.holds.get_mut(at) else {
            return;
        };
        hold.deadline = deadline;
        let moments: Vec<Moment> = hold.parts().map(|(moment, _)| moment).collect();
        let (keys, seq) = (hold.keys.clone(), hold.seq);
        self.timers.push(deadline, Event::Deadline(at, seq));
        self.drop_overtaken();
        for key in &keys.0 {
            let Some(Some(slot)) = self.slots.get(num::index(key.slot)) else {
                continue;
            };
            let place = slot
                .accounts
                .lookup(*key)
                .and_then(|account| account.motion());
            let Some(motion) = place.and_then(|place| self.motions.get_mut(place)) else {
                continue;
            };
            for ((number, limit), track) in
                slot.rule.limits.iter().enumerate().zip(&mut motion.tracks)
            {
                let gate = slot.gate(limit, number, self.now);
                moments
                    .iter()
                    .for_each(|moment| gate.postpone(track, *moment));
            }
        }
    }
}

/// What each moment of a hold took of a metric, and what of it was used.
fn charges(hold: &Hold, metric: Metric, used: Used) -> impl Iterator<Item = (Moment, Held)> {
    let kept = keeps(hold, metric, used);
    let truth = match used {
        Used::Exactly(amounts) | Used::AtLeast(amounts) => amounts.get(metric),
        Used::Stated(stated) => stated.get(metric).unwrap_or(0),
    };
    hold.parts()
        .enumerate()
        .map(move |(at, (moment, amounts))| {
            let held = amounts.get(metric);
            let used = match (kept, at) {
                (true, _) => held,
                (false, 0) => truth,
                (false, _) => 0,
            };
            (moment, Held { held, used })
        })
}

/// Whether the held amounts of a metric stand as they are.
fn keeps(hold: &Hold, metric: Metric, used: Used) -> bool {
    match used {
        Used::Exactly(_) => false,
        Used::Stated(stated) => stated.get(metric).is_none(),
        Used::AtLeast(amounts) => amounts.get(metric) <= hold.total().get(metric),
    }
}

fn receipt_of(hold: &Hold, outcome: Outcome, used: Used) -> Receipt {
    let held = hold.total();
    let charged = match used {
        Used::Exactly(amounts) => amounts,
        Used::Stated(stated) => stated.or(&held),
        Used::AtLeast(amounts) => amounts.zip(&held, u64::max),
    };
    let charged = charged.with(Metric::CONCURRENCY, 0);
    Receipt {
        outcome,
        charged,
        returned: held.zip(&charged, u64::saturating_sub),
        debt: Amounts::ZERO,
        told: Told::First,
    }
}

/// What comes of ending nothing.
const NO_RECEIPT: Receipt = Receipt {
    outcome: Outcome::Cancelled,
    charged: Amounts::ZERO,
    returned: Amounts::ZERO,
    debt: Amounts::ZERO,
    told: Told::First,
};

/// Why a reservation was not extended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// It is unknown or has ended.
    #[error(transparent)]
    Ended(#[from] EndError),
    /// It was extended [`MAX_EXTENSIONS`] times.
    #[error("the reservation was extended 256 times already")]
    TooOften,
    /// A bound of the ledger is reached.
    #[error(transparent)]
    Full(#[from] FullError),
}
