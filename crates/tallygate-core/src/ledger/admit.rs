//! Asking and charging.
use super::hold::{Hold, tag_of};
use super::judge::{Claim, NEWCOMER, Places};
use super::timers::Event;
use super::{Ask, Keys, Ledger};
use crate::account::{Account, Key, Place};
use crate::counter::Moment;
use crate::decision::{Admission, Decision, FullError, Replay, Standing};
use crate::id::ReservationId;
use crate::meter::Meter;
use crate::metric::Amounts;
use crate::num;
use crate::slot::{gate, standing};
use crate::time::{Span, Time};
use std::time::Duration;

impl Ledger {
    /// Decides at once, and holds what is admitted.
    ///
    /// # Errors
    /// When a bound of the ledger is reached.
    pub fn reserve(&mut self, ask: &Ask<'_>, now: Time) -> Result<Decision, FullError> {
        self.advance(now);
        if let Some(replay) = self.replay(ask.idempotency, ask.keys) {
            return Ok(replay);
        }
        let claim = Claim {
            keys: ask.keys,
            demand: ask.demand,
            order: NEWCOMER,
        };
        match self.places(claim) {
            Some(places) => self.admit(ask, &places),
            None => Ok(self.refuse(claim)),
        }
    }

    /// Holds the demand of a newcomer that fits at `places`.
    pub(crate) fn admit(&mut self, ask: &Ask<'_>, places: &Places) -> Result<Decision, FullError> {
        let admission = self.hold(ask, places, Span::ZERO)?;
        if let Some(name) = ask.idempotency {
            self.tell_namesakes(name);
        }
        if ask.idempotency.is_some() || self.vigil.has_work() {
            self.serve_agenda();
        }
        Ok(Decision::Admit(admission))
    }

    /// Decides at once and charges what is admitted for good; answers the refusal, if it is one.
    /// A concurrency limit must have room, but nothing stays in flight.
    ///
    /// # Errors
    /// When a bound of the ledger is reached.
    pub fn spend(
        &mut self,
        keys: &Keys,
        demand: &Amounts,
        now: Time,
    ) -> Result<Option<Decision>, FullError> {
        self.advance(now);
        let claim = Claim {
            keys,
            demand,
            order: NEWCOMER,
        };
        let Some(places) = self.places(claim) else {
            return Ok(Some(self.refuse(claim)));
        };
        self.room_for(&places)?;
        self.spend_all(keys, places, demand);
        self.vigil.note(keys);
        if self.vigil.has_work() {
            self.serve_agenda();
        }
        Ok(None)
    }

    /// Charges a demand that nobody will settle.
    pub(crate) fn spend_all(&mut self, keys: &Keys, places: Places, demand: &Amounts) {
        self.record_spend(keys, demand);
        for (key, place) in keys.0.iter().zip(places) {
            self.spend_on(*key, place, demand);
        }
    }

    /// The answer to an ask that was admitted before under the same idempotency key.
    pub(crate) fn replay(&mut self, name: Option<u128>, keys: &Keys) -> Option<Decision> {
        let id = self.receipts.named(name?)?;
        let (replay, reserved, expires_at) = match self.tell_of(id) {
            Some(hold) => (Replay::Open, hold.total(), hold.deadline),
            None => {
                let receipt = self.receipts.find(id)?;
                let reserved = receipt.charged.zip(&receipt.returned, u64::saturating_add);
                (Replay::Ended(receipt.outcome), reserved, self.now)
            }
        };
        Some(Decision::Admit(Admission {
            id,
            expires_at,
            reserved,
            standings: self.standings(keys),
            shadowed: Vec::new(),
            waited: Duration::ZERO,
            replay,
        }))
    }

    /// Holds a demand that fits at `places`.
    pub(crate) fn hold(
        &mut self,
        ask: &Ask<'_>,
        places: &Places,
        waited: Span,
    ) -> Result<Admission, FullError> {
        self.room_for(places)?;
        if self.holds.len() >= self.bounds.reservations {
            return Err(FullError::Reservations(self.holds.len()));
        }
        let claim = Claim {
            keys: ask.keys,
            demand: ask.demand,
            order: NEWCOMER,
        };
        let shadowed = match self.shadows {
            true => self.shadowed(claim),
            false => Vec::new(),
        };
        self.next_seq();
        let mut standings = Vec::with_capacity(ask.keys.0.len().saturating_mul(2));
        let id = self.charge(ask, places, Some(&mut standings));
        Ok(Admission {
            id,
            expires_at: self.now.plus(ask.ttl),
            reserved: *ask.demand,
            standings,
            shadowed,
            waited: waited.into(),
            replay: Replay::Fresh,
        })
    }

    /// Charges a demand under the number that is next, and enters it as a reservation.
    pub(crate) fn charge(
        &mut self,
        ask: &Ask<'_>,
        places: &Places,
        mut standings: Option<&mut Vec<Standing>>,
    ) -> ReservationId {
        let moment = Moment {
            seq: self.seq,
            at: self.now,
            deadline: self.now.plus(ask.ttl),
        };
        for (key, place) in ask.keys.0.iter().zip(places) {
            self.reserve_on(*key, *place, (ask.demand, moment), standings.as_deref_mut());
        }
        self.vigil.note(ask.keys);
        self.enter(ask, moment)
    }

    fn enter(&mut self, ask: &Ask<'_>, moment: Moment) -> ReservationId {
        let hold = Hold::new(ask, moment, tag_of(moment.seq, self.salt));
        let at = self.holds.insert(hold);
        self.record_charge(at, ask, moment);
        let id = self.id_of(at).unwrap_or(ReservationId::from_bits(0));
        self.timers
            .push(moment.deadline, Event::Deadline(at, moment.seq));
        if let Some(name) = ask.idempotency {
            self.receipts.name(name, id);
        }
        id
    }

    fn room_for(&self, places: &Places) -> Result<(), FullError> {
        let missing = places.iter().filter(|place| place.is_none()).count();
        self.full_of_counters(missing)
    }

    #[inline]
    fn spend_on(&mut self, key: Key, place: Option<Place>, demand: &Amounts) {
        let Some(place) = place.or_else(|| self.add_account(key)) else {
            return;
        };
        let Some(Some(slot)) = self.slots.get_mut(num::index(key.slot)) else {
            return;
        };
        let now = self.now;
        let Some(account) = slot.accounts.get_mut(key, place) else {
            return;
        };
        if account.motion().is_some() {
            return self.spend_beside(key, place, demand);
        }
        let counters = slot.rule.limits.iter().zip(account.states_mut());
        for (at, (limit, state)) in counters.enumerate() {
            let amount = demand.get(limit.metric);
            match &limit.meter {
                Meter::Bucket(rate) => state.take(rate, amount, now),
                _ => gate(&slot.windows, limit, at, now).spend(state, amount),
            }
        }
    }

    /// The same where reservations are open.
    fn spend_beside(&mut self, key: Key, place: Place, demand: &Amounts) {
        let Some(Some(slot)) = self.slots.get_mut(num::index(key.slot)) else {
            return;
        };
        let (limits, accounts) = slot.split(self.now);
        let Some(account) = accounts.get_mut(key, place) else {
            return;
        };
        let motion = account.motion().and_then(|at| self.motions.get_mut(at));
        let tracks = motion.into_iter().flat_map(|motion| &mut motion.tracks);
        for ((limit, gate), (state, track)) in
            limits.zip(account.states_mut().iter_mut().zip(tracks))
        {
            gate.spend_beside(state, track, demand.get(limit.metric));
        }
    }

    /// Charges one rule's counters for a reservation; their standings are added to `standings`, if anybody looks at them.
    pub(crate) fn reserve_on(
        &mut self,
        key: Key,
        place: Option<Place>,
        (demand, moment): (&Amounts, Moment),
        mut standings: Option<&mut Vec<Standing>>,
    ) {
        let Some(place) = place.or_else(|| self.add_account(key)) else {
            return;
        };
        let Some(Some(slot)) = self.slots.get_mut(num::index(key.slot)) else {
            return;
        };
        let counters = slot.rule.limits.len();
        let (limits, accounts) = slot.split(self.now);
        let Some(account) = accounts.get_mut(key, place) else {
            return;
        };
        let Some(motion) = self.motions.of(account, counters) else {
            return;
        };
        motion.open = motion.open.saturating_add(1);
        let counters = account.states_mut().iter_mut().zip(&mut motion.tracks);
        for ((limit, gate), (state, track)) in limits.zip(counters) {
            gate.reserve(state, track, demand.get(limit.metric), moment);
            if let Some(standings) = &mut standings {
                let reset = gate.reset(state, Some(track));
                standings.push(standing(limit, gate.used(state), reset));
            }
        }
    }

    fn add_account(&mut self, key: Key) -> Option<Place> {
        let slot = self.slots.get_mut(num::index(key.slot))?.as_mut()?;
        let place = slot.accounts.insert(key, Account::fresh(key, &slot.rule))?;
        self.counters = self.counters.saturating_add(1);
        Some(place)
    }
}
