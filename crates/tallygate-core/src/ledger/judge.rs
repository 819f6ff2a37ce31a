//! Whether a demand fits all its limits; if not, which block it and until when.
use super::{Keys, Ledger};
use crate::account::{Account, Key, Line, Motions, Place};
use crate::counter::{Gate, State, Track};
use crate::decision::{Decision, Denial, Never, Standing};
use crate::meter::Meter;
use crate::metric::{Amounts, Metric};
use crate::num;
use crate::policy::CompiledLimit;
use crate::shape::Mode;
use crate::slot::{Slot, standing};
use crate::time::Time;
use smallvec::SmallVec;

/// A demand with its place in the order of arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) demand: &'a Amounts,
    /// Callers of a lower order go first.
    pub(crate) order: u64,
}

/// The order of a caller that has not stood in any line.
pub(crate) const NEWCOMER: u64 = u64::MAX;

/// Where the accounts of a demand stand; none: not there yet.
pub(crate) type Places = SmallVec<[Option<Place>; 4]>;

/// A counter without room.
#[derive(Debug)]
pub(crate) struct Blocker {
    pub(crate) key: Key,
    pub(crate) at: usize,
    /// When there is room if nothing else comes, those in line before it served.
    pub(crate) instant: Time,
    /// When there could be room if all that is held were given back.
    pub(crate) soonest: Time,
    pub(crate) standing: Standing,
}

/// Why a demand does not fit.
#[derive(Debug)]
pub(crate) enum Verdict {
    Blocked(Vec<Blocker>),
    Never(Never),
}

/// One counter as a demand sees it.
struct View<'a> {
    key: Key,
    at: usize,
    limit: &'a CompiledLimit,
    gate: Gate<'a>,
    state: State,
    track: Option<&'a Track>,
    line: Option<&'a Line>,
    amount: u64,
}

impl Ledger {
    /// The places of the demand's accounts if it fits all limits and overtakes nobody.
    #[inline]
    pub(crate) fn places(&mut self, claim: Claim<'_>) -> Option<Places> {
        let mut places = Places::new();
        for key in &claim.keys.0 {
            let Some(Some(slot)) = self.slots.get_mut(num::index(key.slot)) else {
                places.push(None);
                continue;
            };
            slot.refresh(self.now, self.offset);
            let place = slot.accounts.find(*key);
            if slot.rule.mode == Mode::Enforce {
                let account = place.and_then(|place| slot.accounts.get(*key, place));
                let fits = match account {
                    Some(account) => {
                        account_fits(slot, account, claim.demand, self.now)
                            && !is_behind(&self.motions, slot, account, claim)
                    }
                    None => fresh_fits(slot, claim.demand),
                };
                if !fits {
                    return None;
                }
            }
            places.push(place);
        }
        Some(places)
    }

    /// Why a demand that has no [`Self::places`] does not fit.
    pub(crate) fn verdict(&mut self, claim: Claim<'_>) -> Verdict {
        self.refresh(claim.keys);
        let mut blockers = Vec::new();
        let mut never = Never {
            blocked_by: Vec::new(),
            largest: Vec::new(),
        };
        for view in self.views(claim) {
            let largest = view.limit.meter.largest();
            if view.amount > largest {
                never.blocked_by.push(view.standing());
                note_largest(&mut never.largest, view.limit.metric, largest);
            } else if let Some(blocker) = view.blocker(claim.order) {
                blockers.push(blocker);
            }
        }
        match never.blocked_by.is_empty() {
            true => Verdict::Blocked(blockers),
            false => Verdict::Never(never),
        }
    }

    /// The verdict as an answer, of a demand that has no [`Self::places`].
    pub(crate) fn refuse(&mut self, claim: Claim<'_>) -> Decision {
        let verdict = self.verdict(claim);
        self.refusal(verdict)
    }

    /// The verdict as an answer.
    pub(crate) fn refusal(&self, verdict: Verdict) -> Decision {
        match verdict {
            Verdict::Never(never) => Decision::Never(never),
            Verdict::Blocked(blockers) => {
                let latest = blockers.iter().map(|blocker| blocker.instant).max();
                let retry_at = latest.unwrap_or(self.now);
                Decision::Deny(Denial {
                    retry_after: retry_at.since(self.now).into(),
                    retry_at,
                    blocked_by: blockers
                        .into_iter()
                        .map(|blocker| blocker.standing)
                        .collect(),
                })
            }
        }
    }

    /// Brings the calendar windows of these counters to the present.
    pub(crate) fn refresh(&mut self, keys: &Keys) {
        for key in &keys.0 {
            if let Some(Some(slot)) = self.slots.get_mut(num::index(key.slot)) {
                slot.refresh(self.now, self.offset);
            }
        }
    }

    /// The shadow limits the demand does not fit.
    pub(crate) fn shadowed(
        &self,
        claim: Claim<'_>,
    ) -> Vec<std::sync::Arc<crate::policy::LimitInfo>> {
        let shadows = |key: &&Key| {
            self.slot(key.slot)
                .is_some_and(|slot| slot.rule.mode == Mode::Shadow)
        };
        let keys = claim.keys.0.iter().filter(shadows);
        let views = keys.flat_map(|key| self.views_of(*key, claim.demand));
        let over = views.filter(|view| !view.gate.fits(&view.state, view.amount));
        over.map(|view| view.limit.info.clone()).collect()
    }

    /// The counters of enforced limits that the demand touches.
    fn views<'a>(&'a self, claim: Claim<'a>) -> impl Iterator<Item = View<'a>> {
        let enforced = |key: &&Key| {
            self.slot(key.slot)
                .is_some_and(|slot| slot.rule.mode == Mode::Enforce)
        };
        let keys = claim.keys.0.iter().filter(enforced);
        keys.flat_map(|key| self.views_of(*key, claim.demand))
    }

    fn views_of<'a>(&'a self, key: Key, demand: &'a Amounts) -> impl Iterator<Item = View<'a>> {
        let slot = self.slot(key.slot);
        let account = slot.and_then(|slot| slot.accounts.lookup(key));
        let motion = account.and_then(|account| self.motions.get(account.motion()?));
        let limits = slot.into_iter().flat_map(|slot| {
            slot.rule
                .limits
                .iter()
                .enumerate()
                .map(move |limit| (slot, limit))
        });
        limits.filter_map(move |(slot, (at, limit))| {
            let amount = demand.get(limit.metric);
            (amount > 0).then(|| View {
                key,
                at,
                limit,
                gate: slot.gate(limit, at, self.now),
                state: slot.state(account, at),
                track: motion.and_then(|motion| motion.tracks.get(at)),
                line: motion.and_then(|motion| motion.lines.get(at)),
                amount,
            })
        })
    }
}

impl View<'_> {
    fn standing(&self) -> Standing {
        let reset = self.gate.reset(&self.state, self.track);
        standing(self.limit, self.gate.used(&self.state), reset)
    }

    /// What blocks a demand of this order here, if anything does.
    fn blocker(&self, order: u64) -> Option<Blocker> {
        let line = self.line.filter(|line| has_older(line, order));
        if line.is_none() && self.gate.fits(&self.state, self.amount) {
            return None;
        }
        let ahead = line.map_or(0, |line| line.queued);
        let free = self
            .gate
            .fits_at(&self.state, self.track, self.amount, ahead);
        let turn = line.and_then(|line| line.wake).unwrap_or(Time::ZERO);
        Some(Blocker {
            key: self.key,
            at: self.at,
            instant: free.max(turn),
            soonest: self.gate.may_fit_by(&self.state, self.track, self.amount),
            standing: self.standing(),
        })
    }
}

#[inline]
fn account_fits(slot: &Slot, account: &Account, demand: &Amounts, now: Time) -> bool {
    let counters = slot.rule.limits.iter().zip(account.states());
    counters.enumerate().all(|(at, (limit, state))| {
        let amount = demand.get(limit.metric);
        let fits = match &limit.meter {
            Meter::Bucket(rate) => rate.admits(state.level(), amount, now),
            _ => slot.gate(limit, at, now).fits(state, amount),
        };
        fits || amount == 0
    })
}

fn fresh_fits(slot: &Slot, demand: &Amounts) -> bool {
    let mut limits = slot.rule.limits.iter();
    limits.all(|limit| demand.get(limit.metric) <= limit.meter.largest())
}

/// Whether an older caller waits for a counter that the demand touches.
fn is_behind(motions: &Motions, slot: &Slot, account: &Account, claim: Claim<'_>) -> bool {
    let Some(motion) = account.motion().and_then(|at| motions.get(at)) else {
        return false;
    };
    let mut lines = motion.lines.iter().zip(&slot.rule.limits);
    lines.any(|(line, limit)| claim.demand.get(limit.metric) > 0 && has_older(line, claim.order))
}

fn has_older(line: &Line, order: u64) -> bool {
    line.waiters
        .first_key_value()
        .is_some_and(|(first, _)| *first < order)
}

pub(crate) fn note_largest(largest: &mut Vec<(Metric, u64)>, metric: Metric, amount: u64) {
    match largest.iter_mut().find(|(known, _)| *known == metric) {
        Some((_, least)) => *least = amount.min(*least),
        None => largest.push((metric, amount)),
    }
}
