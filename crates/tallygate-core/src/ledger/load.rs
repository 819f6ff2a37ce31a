//! Making a ledger of what was saved.
use super::hold::{Extension, Hold};
use super::holds::Holds;
use super::journal::read_version;
use super::redo::read_secret;
use super::save::{OPEN, REPLAYED, TIED, WITH_NAME};
use super::timers::Event;
use super::{Bounds, Keys, Ledger};
use crate::account::{Account, Key, Motions, TABLES};
use crate::codec::{JournalError, Reader};
use crate::counter::{State, Track};
use crate::history::History;
use crate::meter::Meter;
use crate::metric::Amounts;
use crate::num;
use crate::policy::CompiledRule;
use crate::slot::Slot;
use crate::time::Time;
use std::sync::Arc;

impl Ledger {
    /// The ledger that [`Ledger::save`] wrote: its policy, counters, open reservations and receipts, under the same names. It
    /// keeps no journal yet. Put the policy of today in force after it; rules that are written as before keep their counters.
    ///
    /// # Errors
    /// When the bytes are no saved ledger of a known version.
    pub fn load(bytes: &[u8], bounds: Bounds) -> Result<Self, JournalError> {
        let mut from = Reader::new(bytes);
        read_version(&mut from)?;
        let mut ledger = load_head(&mut from, bounds)?;
        ledger.load_rules(&mut from)?;
        ledger.load_holds(&mut from)?;
        ledger.receipts.read(ledger.now, &mut from)?;
        match from.is_empty() {
            true => Ok(ledger),
            false => Err(from.damaged("end of the ledger")),
        }
    }

    fn load_rules(&mut self, from: &mut Reader<'_>) -> Result<(), JournalError> {
        let rules = self.policy.rules().to_vec();
        let mut active = vec![None; rules.len()];
        for number in 0..from.number()? {
            let order = from.number()?;
            let Some(order) = order.checked_sub(1) else {
                self.slots.push(None);
                continue;
            };
            let order = usize::try_from(order).unwrap_or(usize::MAX);
            let place = active.get_mut(order).filter(|place| place.is_none());
            let (Some(place), Some(rule)) = (place, rules.get(order)) else {
                return Err(from.damaged("rule of the policy"));
            };
            *place = Some(u32::try_from(number).map_err(|_| from.damaged("rule's number"))?);
            let slot = self.load_rule(rule, from)?;
            self.slots.push(Some(slot));
        }
        let active: Option<Vec<u32>> = active.into_iter().collect();
        self.active = active.ok_or_else(|| from.damaged("every rule of the policy"))?;
        self.note_shadows();
        Ok(())
    }

    fn load_rule(
        &mut self,
        rule: &Arc<CompiledRule>,
        from: &mut Reader<'_>,
    ) -> Result<Slot, JournalError> {
        let mut slot = Slot::new(rule.clone(), self.seed);
        slot.read_windows(self.now, from)?;
        for table in 0..TABLES {
            let mut accounts = Vec::new();
            for _ in 0..from.number()? {
                accounts.push(load_account(&mut self.motions, rule, (self.now, from))?);
            }
            self.counters = self.counters.saturating_add(accounts.len());
            let filled = slot.accounts.fill(table, accounts);
            filled.ok_or_else(|| from.damaged("account in the order of names"))?;
        }
        Ok(slot)
    }

    fn load_holds(&mut self, from: &mut Reader<'_>) -> Result<(), JournalError> {
        let mut places = Vec::new();
        let mut vacant = 0usize;
        for _ in 0..from.number()? {
            let hold = load_hold(self.now, from)?;
            vacant = vacant.saturating_add(usize::from(hold.is_none()));
            places.push(hold);
        }
        let mut free = Vec::new();
        for _ in 0..vacant {
            free.push(from.number32()?);
        }
        let holds = Holds::of(places, free);
        self.holds = holds.ok_or_else(|| from.damaged("list of free places"))?;
        self.enter_holds(from)
    }

    /// Enters the open reservations wherever they are known: counters, names, what is due.
    fn enter_holds(&mut self, from: &Reader<'_>) -> Result<(), JournalError> {
        let holds = std::mem::take(&mut self.holds);
        let mut charges = vec![0usize; self.motions.all().len()];
        for (at, hold) in holds.iter() {
            self.check_hold(hold, from)?;
            for key in &hold.keys.0 {
                self.enter_hold(*key, hold, &mut charges)
                    .ok_or_else(|| from.damaged("account that reservations are open on"))?;
            }
            self.timers
                .push(hold.deadline, Event::Deadline(at, hold.seq));
            if let Some(name) = hold.name {
                self.receipts.name_once(name, hold.id(at), from)?;
            }
        }
        self.holds = holds;
        let motions = self.motions.all().iter().zip(&charges);
        for (motion, charges) in motions {
            let mut tracks = motion.tracks.iter().map(|track| track.history().open());
            if motion.open == 0 || tracks.any(|known| known > 0 && known != *charges) {
                return Err(from.damaged("reservation of each charge of a bucket"));
            }
        }
        Ok(())
    }

    fn check_hold(&self, hold: &Hold, from: &Reader<'_>) -> Result<(), JournalError> {
        let seqs: Vec<u64> = hold.parts().map(|(moment, _)| moment.seq).collect();
        let in_order = seqs.is_sorted_by(|a, b| a < b);
        if !in_order || seqs.last().is_some_and(|last| *last > self.seq) {
            return Err(from.damaged("order of charges"));
        }
        match self.knows(&hold.keys) {
            true => Ok(()),
            false => Err(from.damaged("known rule")),
        }
    }

    /// Enters a reservation on one account, unless its rule has gone; none if the account does not expect it.
    fn enter_hold(&mut self, key: Key, hold: &Hold, charges: &mut [usize]) -> Option<()> {
        let Some(Some(slot)) = self.slots.get_mut(num::index(key.slot)) else {
            return Some(());
        };
        let (limits, accounts) = slot.split(self.now);
        let account = accounts.lookup_mut(key)?;
        let place = account.motion()?;
        let motion = self.motions.get_mut(place)?;
        motion.open = motion.open.saturating_add(1);
        let counters = account.states_mut().iter_mut().zip(&mut motion.tracks);
        for ((limit, gate), (state, track)) in limits.zip(counters) {
            for (moment, amounts) in hold.parts() {
                gate.enter(state, track, amounts.get(limit.metric), moment);
            }
        }
        let known = charges.get_mut(place)?;
        *known = known.saturating_add(hold.parts().count());
        Some(())
    }
}

/// A ledger of a saved policy, time and secrets, and nothing else yet.
fn load_head(from: &mut Reader<'_>, bounds: Bounds) -> Result<Ledger, JournalError> {
    let now = Time::from_nanos(from.number()?);
    let offset = from.signed()?;
    let seed = read_secret(from)?;
    let salt = read_secret(from)?;
    let seq = from.number()?;
    let policy = crate::policy::Policy::read(from)?;
    Ok(Ledger {
        now,
        offset,
        salt,
        seq,
        ..Ledger::empty(policy, bounds, seed)
    })
}

fn load_account(
    motions: &mut Motions,
    rule: &CompiledRule,
    (now, from): (Time, &mut Reader<'_>),
) -> Result<Account, JournalError> {
    let moves = match from.byte()? {
        0 => false,
        1 => true,
        _ => return Err(from.damaged("account")),
    };
    let key = Key::read_hash(0, from)?;
    let mut account = Account::fresh(key, rule);
    for (limit, state) in rule.limits.iter().zip(account.states_mut()) {
        *state = State::read(&limit.meter, now, from)?;
    }
    if moves && let Some(motion) = motions.of(&mut account, rule.limits.len()) {
        for (limit, track) in rule.limits.iter().zip(&mut motion.tracks) {
            if let Meter::Bucket(_) = limit.meter {
                *track = Track::with(History::read(from)?);
            }
        }
    }
    Ok(account)
}

/// What stands at the next place of a reservation.
fn load_hold(now: Time, from: &mut Reader<'_>) -> Result<Option<Hold>, JournalError> {
    let told = from.byte()?;
    if told == 0 {
        return Ok(None);
    }
    if told & OPEN == 0 || told > OPEN | WITH_NAME | REPLAYED | TIED {
        return Err(from.damaged("reservation"));
    }
    let mut hold = Hold {
        tag: u64::from_le_bytes(from.fixed()?),
        seq: from.number()?,
        admitted: from.time(now)?,
        deadline: from.time(now)?,
        demand: Amounts::read(from)?,
        keys: Keys::read(from)?,
        name: match told & WITH_NAME {
            0 => None,
            _ => Some(u128::from_le_bytes(from.fixed()?)),
        },
        replayed: told & REPLAYED != 0,
        tied: told & TIED != 0,
        extensions: Vec::new(),
    };
    for _ in 0..from.number()? {
        if !hold.may_grow() {
            return Err(from.damaged("reservation extended less often"));
        }
        hold.extensions.push(Extension {
            seq: from.number()?,
            at: from.time(now)?,
            more: Amounts::read(from)?,
        });
    }
    Ok(Some(hold))
}
