//! Waiting lines.
//!
//! A caller stands in the line of one counter: of those that block it, the one that will have room last. The
//! lines are kept by arrival. The first of a line is asked again at the exact instant its counter has room, and when
//! something is given back to it; if another counter blocks it then, it moves to that line, to the place
//! its arrival gives it, and the next one is asked. So a caller blocked by its own limit holds nobody up, and
//! nobody who came later takes room on a counter whose line an earlier caller stands in. A caller is let in while what is
//! open may still be given back in time for it; one that is first and finds that it cannot be any more is refused then.
//!
//! A caller that needs two contended counters could move between their lines for ever, each giving its room away
//! while it stands in the other. One that has moved [`MOVES`] times therefore keeps its place while it stands in
//! the next line too, if that makes the others wait no longer than an eighth of what it has waited itself.
use super::judge::{Blocker, Claim, NEWCOMER, Verdict};
use super::parting::is_hopeful;
use super::timers::Event;
use super::vigil::Watches;
use super::{Ask, Keys, Ledger};
use crate::account::{Key, Line};
use crate::decision::{Decision, FullError, Replay};
use crate::metric::Amounts;
use crate::num;
use crate::time::{Span, Time};
use smallvec::SmallVec;
use std::cmp::Reverse;

/// A caller's place in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    at: u32,
    order: u64,
}

/// How long a caller waits, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// When it ends.
    pub until: Time,
    /// For which limits it is.
    pub waits_for: WaitsFor,
}

/// For which limits a caller stands in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WaitsFor {
    /// Whatever denies it.
    #[default]
    Anything,
    /// Rates only: it is denied as soon as a quota ([`crate::LimitInfo::is_quota`]) has no room for it, though a rate
    /// keeps it waiting at the same time.
    Rates,
}

/// Patience with whatever denies.
impl From<Time> for Patience {
    fn from(until: Time) -> Self {
        Self {
            until,
            waits_for: WaitsFor::Anything,
        }
    }
}

/// What came of asking with patience.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// The answer is known.
    Decided(Decision),
    /// The caller stands in line; the answer comes with [`Ledger::take_answers`].
    Waiting(Ticket),
}

/// A caller in line.
#[derive(Debug)]
pub(crate) struct Waiter {
    order: u64,
    keys: Keys,
    demand: Amounts,
    ttl: Span,
    idempotency: Option<u128>,
    since: Time,
    pub(crate) patience: Patience,
    /// The quotas that it does not wait for.
    watches: Watches,
    /// The counters in whose lines it stands: one, or two once it has moved too often.
    stands: Lines,
    moves: u32,
}

/// The lines a caller stands in.
type Lines = SmallVec<[(Key, usize); 2]>;

/// How often a caller moves to another line before it may keep its place.
const MOVES: u32 = 3;

/// What a kept place may cost the others, as a part of what its caller has waited.
const PATIENCE: u64 = 8;

/// What a caller in line is told.
pub(crate) type Answer = Result<Decision, FullError>;

/// What comes of asking a caller in line again.
pub(crate) enum Hearing {
    /// It is to be told so, and leaves its line.
    Answer(Answer),
    /// It is still held up by these counters.
    Blocked(Vec<Blocker>),
}

impl Waiter {
    /// The counters it would be charged to.
    pub(crate) fn keys_mut(&mut self) -> &mut Keys {
        &mut self.keys
    }

    /// How much it waits for.
    pub(crate) fn demand_mut(&mut self) -> &mut Amounts {
        &mut self.demand
    }

    pub(crate) fn set_watches(&mut self, watches: Watches) {
        self.watches = watches;
    }

    /// Whether it may keep its place while it waits elsewhere until `instant`.
    fn may_keep(&self, instant: Time, now: Time) -> bool {
        let cost = instant.since(now).as_nanos().saturating_mul(PATIENCE);
        self.moves > MOVES && cost <= now.since(self.since).as_nanos()
    }

    /// Whether it stands in the line of a counter of this rule.
    pub(crate) fn stands_at(&self, slot: u32) -> bool {
        self.stands.iter().any(|(key, _)| key.slot == slot)
    }
}

impl Ledger {
    /// Decides, or lets the caller stand in line while its patience lasts. A wait that cannot succeed by then, whatever
    /// is given back, is refused at once.
    ///
    /// # Errors
    /// When a bound of the ledger is reached.
    pub fn wait(
        &mut self,
        ask: &Ask<'_>,
        patience: impl Into<Patience>,
        now: Time,
    ) -> Result<Entry, FullError> {
        let patience = patience.into();
        self.advance(now);
        if let Some(replay) = self.replay(ask.idempotency, ask.keys) {
            return Ok(Entry::Decided(replay));
        }
        let claim = Claim {
            keys: ask.keys,
            demand: ask.demand,
            order: NEWCOMER,
        };
        if let Some(places) = self.places(claim) {
            return self.admit(ask, &places).map(Entry::Decided);
        }
        match self.verdict(claim) {
            Verdict::Blocked(blockers) if is_hopeful(&blockers, patience) => {
                self.enqueue(ask, &blockers, patience).map(Entry::Waiting)
            }
            refused => Ok(Entry::Decided(self.refusal(refused))),
        }
    }

    /// Takes a caller out of its line; nothing is held for it.
    pub fn leave(&mut self, ticket: Ticket, now: Time) {
        self.advance(now);
        if self.is_waiting(ticket) {
            self.remove(ticket.at);
            self.serve_agenda();
        }
    }

    /// Asks every caller in line again: a limit was changed.
    pub(crate) fn ask_all_again(&mut self) {
        self.call_all();
        self.serve_agenda();
    }

    /// Puts every line on the agenda, but for callers whose demand has become larger than a limit: they are answered.
    pub(crate) fn call_all(&mut self) {
        self.dismiss_hopeless();
        self.vigil.note_all();
        let mut lines: Vec<(Key, usize)> = self
            .waiters
            .iter()
            .flat_map(|(_, waiter)| waiter.stands.iter().copied())
            .collect();
        lines.sort_unstable();
        lines.dedup();
        lines.into_iter().for_each(|line| self.put_on_agenda(line));
    }

    /// Finds callers whose line has gone with its rule another one, or their answer, by arrival.
    pub(crate) fn rehome(&mut self, mut homeless: Vec<u32>) {
        homeless.sort_unstable_by_key(|at| self.order_of(*at));
        for at in homeless {
            let left = self.unline(at);
            left.into_iter().for_each(|line| self.put_on_agenda(line));
            match self.ask_again(at) {
                Some(Hearing::Answer(answer)) => self.answer(at, answer),
                Some(Hearing::Blocked(blockers)) if self.is_kept(at, &blockers) => {
                    self.turn_away(at);
                }
                Some(Hearing::Blocked(blockers)) => self.stand(at, &blockers),
                None => {}
            }
        }
        self.serve_lines();
    }

    /// Answers every caller in line whose demand has become larger than a limit.
    fn dismiss_hopeless(&mut self) {
        let mut all: Vec<u32> = self
            .waiters
            .iter()
            .map(|(at, _)| num::index32(at))
            .collect();
        all.sort_unstable_by_key(|at| self.order_of(*at));
        for at in all {
            let Some((keys, demand, order)) = self.claim_of(at) else {
                continue;
            };
            let claim = Claim {
                keys: &keys,
                demand: &demand,
                order,
            };
            if let never @ Verdict::Never(_) = self.verdict(claim) {
                let refusal = self.refusal(never);
                self.answer(at, Ok(refusal));
            }
        }
    }

    /// Serves every line on the agenda, and tells those who were sent away meanwhile why: the end of an operation.
    pub(crate) fn serve_agenda(&mut self) {
        self.serve_lines();
        self.tell_why();
    }

    /// Serves every line on the agenda. Whoever came first is asked first, in whichever line: room that comes up
    /// at one instant goes by arrival.
    fn serve_lines(&mut self) {
        self.turn_away_kept();
        while let Some(Reverse((order, key, counter))) = self.agenda.pop() {
            let Some((first, at)) = self.first_of(key, counter) else {
                continue;
            };
            match first == order {
                true => self.serve(at, (key, counter)),
                false => self.put_on_agenda((key, counter)),
            }
            self.turn_away_kept();
        }
    }

    pub(crate) fn run_timers(&mut self) {
        self.run_due();
        self.tell_why();
    }

    /// Lets what is due happen.
    pub(crate) fn run_due(&mut self) {
        while self.timers.due(self.now) {
            while let Some((at, event)) = self.timers.first().filter(|(at, _)| *at <= self.now) {
                self.timers.pop();
                if self.is_live(at, event) {
                    self.happen(event);
                }
            }
            self.serve_lines();
        }
    }

    /// Whether an event was not overtaken.
    pub(crate) fn is_live(&self, at: Time, event: Event) -> bool {
        match event {
            Event::Deadline(place, seq) => self.ends_at(place, seq, at),
            Event::Turn(key, counter) => self
                .line(key, counter)
                .is_some_and(|line| line.wake == Some(at)),
            Event::Patience(order, at) => self.is_waiting(Ticket { at, order }),
        }
    }

    /// Drops overtaken events once they are the greater part.
    pub(crate) fn drop_overtaken(&mut self) {
        let live = self
            .holds
            .len()
            .saturating_add(self.waiters.len().saturating_mul(2));
        if self.timers.is_stale(live) {
            let mut timers = std::mem::take(&mut self.timers);
            timers.retain(|at, event| self.is_live(at, event));
            self.timers = timers;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deadline(place, _) => self.expire(place),
            Event::Turn(key, counter) => self.put_on_agenda((key, counter)),
            Event::Patience(_, at) => {
                // Whose turn comes at the same instant has not lost it, nor who stands behind one that another
                // counter holds up by now.
                self.call_lines_of(at);
                self.serve_lines();
                self.lose_patience(at);
            }
        }
    }

    /// Puts the lines that a caller may stand behind on the agenda.
    fn call_lines_of(&mut self, at: u32) {
        let keys = self.claim_of(at).map(|(keys, ..)| keys).unwrap_or_default();
        for key in keys.0 {
            let limits = self.slot(key.slot).map_or(0, |slot| slot.rule.limits.len());
            (0..limits).for_each(|counter| self.put_on_agenda((key, counter)));
        }
    }

    /// Asks the first of a line; if it leaves, the line is on the agenda again.
    fn serve(&mut self, at: u32, here: (Key, usize)) {
        match self.ask_again(at) {
            Some(Hearing::Answer(answer)) => self.answer(at, answer),
            Some(Hearing::Blocked(blockers)) => self.keep_or_move(at, here, &blockers),
            None => {}
        }
    }

    fn first_of(&self, key: Key, counter: usize) -> Option<(u64, u32)> {
        let (order, at) = self.line(key, counter)?.waiters.first_key_value()?;
        Some((*order, *at))
    }

    pub(crate) fn put_on_agenda(&mut self, (key, counter): (Key, usize)) {
        if let Some((order, _)) = self.first_of(key, counter) {
            self.agenda.push(Reverse((order, key, counter)));
        }
    }

    /// Asks a caller in line again; what is admitted is held.
    pub(crate) fn ask_again(&mut self, at: u32) -> Option<Hearing> {
        let (keys, demand, order) = self.claim_of(at)?;
        let waiter = self.waiters.get(num::index(at))?;
        let waited = self.now.since(waiter.since);
        let ask = Ask {
            keys: &keys,
            demand: &demand,
            ttl: waiter.ttl,
            idempotency: waiter.idempotency,
        };
        if let Some(replay) = self.replay(ask.idempotency, &keys) {
            return Some(Hearing::Answer(Ok(replay)));
        }
        let claim = Claim {
            keys: &keys,
            demand: &demand,
            order,
        };
        let Some(places) = self.places(claim) else {
            return Some(match self.verdict(claim) {
                Verdict::Blocked(blockers) => Hearing::Blocked(blockers),
                never @ Verdict::Never(_) => Hearing::Answer(Ok(self.refusal(never))),
            });
        };
        let admission = self.hold(&ask, &places, waited);
        Some(Hearing::Answer(admission.map(Decision::Admit)))
    }

    pub(crate) fn claim_of(&self, at: u32) -> Option<(Keys, Amounts, u64)> {
        let waiter = self.waiters.get(num::index(at))?;
        Some((waiter.keys.clone(), waiter.demand, waiter.order))
    }

    fn order_of(&self, at: u32) -> u64 {
        self.waiters
            .get(num::index(at))
            .map_or(NEWCOMER, |waiter| waiter.order)
    }

    /// Leaves the blocked first of a line where it is, moves it to another counter's, or refuses it.
    fn keep_or_move(&mut self, at: u32, here: (Key, usize), blockers: &[Blocker]) {
        let (Some(last), Some(waiter)) = (latest(blockers), self.waiters.get(num::index(at)))
        else {
            return;
        };
        if self.is_kept(at, blockers) {
            return self.turn_away(at);
        }
        if !is_hopeful(blockers, waiter.patience) {
            return self.send_away_hopeless(here);
        }
        let there = (last.key, last.at);
        let in_both = waiter.stands.contains(&there);
        if waiter.may_keep(last.instant, self.now) {
            if !in_both {
                self.line_up(at, there);
            }
            return self.wake_at(here, last.instant);
        }
        if there == here && waiter.stands.len() == 1 {
            return self.wake_at(here, last.instant);
        }
        let left = self.unline(at);
        self.stand(at, blockers);
        left.into_iter().for_each(|line| self.put_on_agenda(line));
    }

    /// Puts a caller in the line of the counter that will have room last.
    fn stand(&mut self, at: u32, blockers: &[Blocker]) {
        if let Some(last) = latest(blockers) {
            self.line_up(at, (last.key, last.at));
        }
    }

    /// Puts a caller in a line.
    fn line_up(&mut self, at: u32, there: (Key, usize)) {
        let Some(waiter) = self.waiters.get_mut(num::index(at)) else {
            return;
        };
        waiter.stands.push(there);
        waiter.moves = waiter.moves.saturating_add(1);
        let order = waiter.order;
        let amount = waiter.demand;
        let metric = self
            .slot(there.0.slot)
            .and_then(|slot| slot.rule.limits.get(there.1))
            .map(|limit| limit.metric);
        let Some(line) = self.line_mut(there) else {
            return;
        };
        line.waiters.insert(order, at);
        line.queued = line
            .queued
            .saturating_add(metric.map_or(0, |metric| amount.get(metric)));
        if line
            .waiters
            .first_key_value()
            .is_some_and(|(first, _)| *first == order)
        {
            self.put_on_agenda(there);
        }
    }

    fn wake_at(&mut self, here: (Key, usize), instant: Time) {
        let changed = self
            .line_mut(here)
            .is_some_and(|line| line.wake.replace(instant) != Some(instant));
        if changed {
            self.timers.push(instant, Event::Turn(here.0, here.1));
            self.drop_overtaken();
        }
    }

    fn enqueue(
        &mut self,
        ask: &Ask<'_>,
        blockers: &[Blocker],
        patience: Patience,
    ) -> Result<Ticket, FullError> {
        if self.waiters.len() >= self.bounds.waiters {
            return Err(FullError::Waiters(self.waiters.len()));
        }
        let order = self.next_seq();
        let place = self.waiters.insert(Waiter {
            order,
            keys: ask.keys.clone(),
            demand: *ask.demand,
            ttl: ask.ttl,
            idempotency: ask.idempotency,
            since: self.now,
            patience,
            watches: Watches::new(),
            stands: Lines::new(),
            moves: 0,
        });
        let at = num::index32(place);
        if let Some(name) = ask.idempotency {
            self.namesakes.add(name, at);
        }
        self.timers.push(patience.until, Event::Patience(order, at));
        if patience.waits_for == WaitsFor::Rates {
            self.watch(at);
        }
        self.stand(at, blockers);
        self.serve_agenda();
        Ok(Ticket { at, order })
    }

    pub(crate) fn answer(&mut self, at: u32, answer: Answer) {
        let Some(waiter) = self.waiters.get(num::index(at)) else {
            return;
        };
        let (order, name) = (waiter.order, waiter.idempotency);
        let fresh = matches!(&answer, Ok(Decision::Admit(new)) if new.replay == Replay::Fresh);
        self.remove(at);
        self.answers.push((Ticket { at, order }, answer));
        if let Some(name) = name.filter(|_| fresh) {
            self.tell_namesakes(name);
        }
    }

    /// Answers the callers in line with the reservation that was made under their idempotency key.
    pub(crate) fn tell_namesakes(&mut self, name: u128) {
        for at in self.namesakes.of(name) {
            let keys = self.claim_of(at).map(|(keys, ..)| keys);
            let replay = keys.and_then(|keys| self.replay(Some(name), &keys));
            if let Some(replay) = replay {
                self.answer(at, Ok(replay));
            }
        }
    }

    /// Takes a caller out of its line and forgets it; the line is to be served.
    fn remove(&mut self, at: u32) {
        let left = self.unline(at);
        if let Some(gone) = self.waiters.try_remove(num::index(at)) {
            if let Some(name) = gone.idempotency {
                self.namesakes.remove(name, at);
            }
            self.vigil.end(gone.watches, at);
        }
        left.into_iter().for_each(|line| self.put_on_agenda(line));
    }

    /// Takes a caller out of its lines.
    pub(crate) fn unline(&mut self, at: u32) -> Lines {
        let Some(waiter) = self.waiters.get_mut(num::index(at)) else {
            return Lines::new();
        };
        let (order, demand) = (waiter.order, waiter.demand);
        let left = std::mem::take(&mut waiter.stands);
        for here in &left {
            self.leave_line(*here, order, &demand);
        }
        left
    }

    fn leave_line(&mut self, here: (Key, usize), order: u64, demand: &Amounts) {
        let limit = self
            .slot(here.0.slot)
            .and_then(|slot| slot.rule.limits.get(here.1));
        let Some(metric) = limit.map(|limit| limit.metric) else {
            return;
        };
        if let Some(line) = self.line_mut(here)
            && line.waiters.remove(&order).is_some()
        {
            line.queued = line.queued.saturating_sub(demand.get(metric));
            line.wake = None;
        }
        self.rest(here.0);
    }

    /// Lets an account come to rest if nothing moves on it any more.
    fn rest(&mut self, key: Key) {
        let Some(Some(slot)) = self.slots.get_mut(num::index(key.slot)) else {
            return;
        };
        let Some(account) = slot.accounts.lookup_mut(key) else {
            return;
        };
        self.motions.rest(account);
    }

    fn is_waiting(&self, ticket: Ticket) -> bool {
        let waiter = self.waiters.get(num::index(ticket.at));
        waiter.is_some_and(|waiter| waiter.order == ticket.order)
    }

    pub(crate) fn line(&self, key: Key, counter: usize) -> Option<&Line> {
        let account = self.slot(key.slot)?.accounts.lookup(key)?;
        self.motions.get(account.motion()?)?.lines.get(counter)
    }

    fn line_mut(&mut self, (key, counter): (Key, usize)) -> Option<&mut Line> {
        let slot = self.slots.get_mut(num::index(key.slot))?.as_mut()?;
        let limits = slot.rule.limits.len();
        let account = slot.accounts.lookup_mut(key)?;
        let motion = self.motions.of(account, limits)?;
        motion.lines.get_mut(counter)
    }
}

/// The counter that will have room last.
fn latest(blockers: &[Blocker]) -> Option<&Blocker> {
    blockers.iter().max_by_key(|blocker| {
        (
            blocker.instant,
            std::cmp::Reverse((blocker.key, blocker.at)),
        )
    })
}
