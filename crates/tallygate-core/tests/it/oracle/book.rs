//! All counters and reservations of a case.
use super::tally::{Fit, Tally};
use crate::runner::RECEIPT_TTL;
use crate::setup::{RuleSpec, START, SUBJECTS, Subject};
use std::collections::{BTreeMap, BTreeSet};
use tallygate_core::{Amounts, Metric, Mode, Outcome, ReservationId, Time, Used};

/// One counter: its place in the book.
pub(crate) type CounterName = usize;

/// The oracle's ledger.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) rules: Vec<RuleSpec>,
    tallies: Vec<Tally>,
    /// The counters of each subject, in the order of the rules and their limits.
    of_subject: Vec<Vec<CounterName>>,
    holds: BTreeMap<ReservationId, Hold>,
    names: BTreeMap<(usize, u8), ReservationId>,
    /// Those that another caller with the same key was told of.
    told: BTreeSet<ReservationId>,
    pub(crate) now: u64,
    /// The wall clock's lead.
    lead: i64,
    /// Whether the wall clock was ever stepped.
    pub(crate) stepped: bool,
}

/// A reservation.
#[derive(Debug, Clone)]
struct Hold {
    who: usize,
    parts: Vec<Part>,
    deadline: u64,
    state: State,
}

/// What was charged at one moment of a reservation.
#[derive(Debug, Clone)]
struct Part {
    amounts: Amounts,
    places: Vec<(CounterName, usize)>,
}

/// How a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open {
        deadline: u64,
        held: Amounts,
    },
    Ended(Ending),
    /// Never made, or ended so long ago that its receipt is gone.
    Unknown,
}

/// What a receipt must say, its debt apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    pub(crate) charged: Amounts,
    pub(crate) returned: Amounts,
    at: u64,
}

/// A counter on the way of a demand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) counter: CounterName,
    pub(crate) metric: Metric,
    pub(crate) amount: u64,
    pub(crate) largest: u64,
    pub(crate) fit: Fit,
}

impl Book {
    pub(crate) fn new(rules: &[RuleSpec]) -> Self {
        let mut book = Self {
            rules: rules.to_vec(),
            tallies: Vec::new(),
            of_subject: Vec::new(),
            holds: BTreeMap::new(),
            names: BTreeMap::new(),
            told: BTreeSet::new(),
            now: START.as_nanos(),
            lead: 0,
            stepped: false,
        };
        for subject in &SUBJECTS {
            let counters = book.enter(subject);
            book.of_subject.push(counters);
        }
        book.turn();
        book
    }

    /// Finds or makes the counters of a subject.
    fn enter(&mut self, subject: &Subject) -> Vec<CounterName> {
        let mut counters = Vec::new();
        for (rule, spec) in self.rules.iter().enumerate() {
            for (limit, of) in spec.limits.iter().enumerate() {
                let place = (rule, spec.account(subject), limit);
                let known = self.tallies.iter().position(|tally| tally.place == place);
                if spec.applies(subject) {
                    counters.push(known.unwrap_or(self.tallies.len()));
                    if known.is_none() {
                        self.tallies.push(Tally::new(*of, place));
                    }
                }
            }
        }
        counters
    }

    /// The counters of a subject, in the order of the rules and their limits.
    pub(crate) fn counters(&self, who: usize) -> Vec<CounterName> {
        self.of_subject[who].clone()
    }

    /// Its rule and the place of its limit in it.
    pub(crate) fn place(&self, counter: CounterName) -> (&RuleSpec, usize) {
        let (rule, _, limit) = self.tallies[counter].place;
        (&self.rules[rule], limit)
    }

    pub(crate) fn tally(&self, counter: CounterName) -> &Tally {
        &self.tallies[counter]
    }

    fn mode(&self, counter: CounterName) -> Mode {
        self.place(counter).0.mode
    }

    pub(crate) fn open(&self) -> usize {
        self.holds.values().filter(|hold| hold.is_open()).count()
    }

    /// Lets time come to `now`; what is due by then expires, at its deadline.
    pub(crate) fn advance(&mut self, now: u64) {
        loop {
            let due = self.holds.iter().filter(|(_, hold)| hold.is_open());
            let first = due.map(|(id, hold)| (hold.deadline, *id)).min();
            let Some((deadline, id)) = first.filter(|(deadline, _)| *deadline <= now) else {
                break;
            };
            self.now = self.now.max(deadline);
            self.turn();
            self.expire(id);
        }
        self.now = self.now.max(now);
        self.turn();
    }

    /// Lets time come to `now` in one leap: what was due before expires only now.
    pub(crate) fn leap(&mut self, now: u64) {
        self.now = self.now.max(now);
        self.turn();
        let due = self.holds.iter().filter(|(_, hold)| hold.is_open());
        let due = due.filter(|(_, hold)| hold.deadline <= now);
        let due: Vec<ReservationId> = due.map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.expire(id));
    }

    fn expire(&mut self, id: ReservationId) {
        let kept = self.holds[&id].total();
        self.end(id, Outcome::Expired, Used::AtLeast(kept));
    }

    /// The wall clock is `lead` ahead from now on.
    pub(crate) fn step(&mut self, lead: i64) {
        self.stepped |= lead != self.lead;
        self.lead = lead;
        self.turn();
    }

    /// The enforced counters that a demand touches, and whether it fits them.
    pub(crate) fn judge(&self, who: usize, demand: &Amounts) -> Vec<Refusal> {
        self.judge_mode(who, demand, Mode::Enforce)
    }

    /// The counters of one mode that a demand touches, and whether it fits them.
    pub(crate) fn judge_mode(&self, who: usize, demand: &Amounts, mode: Mode) -> Vec<Refusal> {
        let counters = self.counters(who).into_iter();
        let touched = counters.filter_map(|counter| {
            let tally = self.tally(counter);
            let amount = demand.get(tally.spec.metric);
            let counts = amount > 0 && self.mode(counter) == mode;
            counts.then(|| Refusal {
                metric: tally.spec.metric,
                largest: tally.spec.largest(),
                fit: tally.fits(amount, self.now),
                amount,
                counter,
            })
        });
        touched.collect()
    }

    pub(crate) fn spend(&mut self, who: usize, demand: &Amounts) {
        for counter in self.counters(who) {
            let (now, tally) = (self.now, &mut self.tallies[counter]);
            if tally.spec.metric != Metric::CONCURRENCY {
                tally.charge(now, demand.get(tally.spec.metric), now);
            }
        }
    }

    pub(crate) fn reserve(
        &mut self,
        id: ReservationId,
        who: usize,
        demand: &Amounts,
        deadline: Time,
    ) {
        let deadline = deadline.as_nanos();
        let part = self.charge(who, demand, deadline);
        let hold = Hold {
            who,
            parts: vec![part],
            deadline,
            state: State::Open {
                deadline,
                held: *demand,
            },
        };
        let before = self.holds.insert(id, hold);
        assert!(before.is_none(), "the id {id} was given twice");
    }

    pub(crate) fn extend(&mut self, id: ReservationId, more: &Amounts, deadline: Option<u64>) {
        let hold = self.holds[&id].clone();
        let until = deadline.unwrap_or(hold.deadline);
        if *more != Amounts::ZERO {
            let part = self.charge(hold.who, more, until);
            self.hold_mut(id).parts.push(part);
        }
        self.hold_mut(id).deadline = until;
        for (counter, place) in self.holds[&id].clone().places() {
            let tally = &mut self.tallies[counter];
            tally.postpone(place, until);
        }
    }

    /// An idempotency key is as good as new.
    pub(crate) fn unname(&mut self, id: ReservationId) {
        self.names.retain(|_, known| *known != id);
    }

    /// Notes that another caller was told of a reservation.
    pub(crate) fn tell(&mut self, id: ReservationId) {
        self.told.insert(id);
    }

    pub(crate) fn was_told(&self, id: ReservationId) -> bool {
        self.told.contains(&id)
    }

    /// Ends an open reservation.
    pub(crate) fn end(&mut self, id: ReservationId, outcome: Outcome, used: Used) {
        let hold = self.holds[&id].clone();
        let now = self.now;
        for (number, part) in hold.parts.iter().enumerate() {
            for (counter, place) in &part.places {
                let tally = &mut self.tallies[*counter];
                let amount = truth(&hold, number, tally.spec.metric, used);
                tally.correct(*place, amount, now);
            }
        }
        let held = hold.total();
        let charged = match used {
            Used::Exactly(amounts) => amounts,
            Used::AtLeast(amounts) => amounts.zip(&held, u64::max),
            Used::Stated(stated) => stated.or(&held),
        };
        let charged = charged.with(Metric::CONCURRENCY, 0);
        self.hold_mut(id).state = State::Ended(Ending {
            outcome,
            charged,
            returned: held.zip(&charged, u64::saturating_sub),
            at: now,
        });
        self.forget();
    }

    pub(crate) fn state(&self, id: ReservationId) -> State {
        self.holds.get(&id).map_or(State::Unknown, Hold::state)
    }

    /// The reservation made under an idempotency key.
    pub(crate) fn named(&self, who: usize, key: Option<u8>) -> Option<ReservationId> {
        self.names.get(&(who, key?)).copied()
    }

    pub(crate) fn name(&mut self, who: usize, key: Option<u8>, id: ReservationId) {
        if let Some(key) = key {
            self.names.insert((who, key), id);
        }
    }

    /// The instant by which `amount` would fit a counter if all that is held were given back now.
    pub(crate) fn hope(&self, counter: CounterName, amount: u64) -> Option<u64> {
        let mut tally = self.tally(counter).clone();
        let places = self.holds.values().filter(|hold| hold.is_open()).cloned();
        for (_, place) in places
            .flat_map(Hold::places)
            .filter(|(at, _)| *at == counter)
        {
            tally.correct(place, 0, self.now);
        }
        Some(tally.fits_at(amount, self.now)?.1)
    }

    /// Other amounts are in force.
    pub(crate) fn resize(&mut self, rules: &[RuleSpec]) {
        self.rules = rules.to_vec();
        for tally in &mut self.tallies {
            let (rule, _, limit) = tally.place;
            tally.resize(rules[rule].limits[limit], self.now);
        }
    }

    /// No counter was charged more than its shape allows.
    pub(crate) fn check_promises(&self) {
        for (counter, tally) in self.tallies.iter().enumerate() {
            if self.mode(counter) == Mode::Enforce {
                tally.check_promise();
            }
        }
    }

    fn charge(&mut self, who: usize, demand: &Amounts, until: u64) -> Part {
        let mut places = Vec::new();
        for counter in self.counters(who) {
            let tally = &mut self.tallies[counter];
            let place = tally.charge(self.now, demand.get(tally.spec.metric), until);
            places.push((counter, place));
        }
        Part {
            amounts: *demand,
            places,
        }
    }

    fn turn(&mut self) {
        let wall = self.now.saturating_add_signed(self.lead);
        self.tallies.iter_mut().for_each(|tally| tally.turn(wall));
    }

    /// Receipts are kept for a while only.
    fn forget(&mut self) {
        let now = self.now;
        self.holds.retain(|_, hold| match hold.state {
            State::Ended(ending) => now < ending.at + RECEIPT_TTL,
            _ => true,
        });
        let holds = &self.holds;
        self.names.retain(|_, id| holds.contains_key(id));
    }

    fn hold_mut(&mut self, id: ReservationId) -> &mut Hold {
        self.holds.get_mut(&id).expect("it is open")
    }
}

impl Hold {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    fn state(&self) -> State {
        match self.state {
            State::Open { .. } => State::Open {
                deadline: self.deadline,
                held: self.total(),
            },
            ended => ended,
        }
    }

    fn total(&self) -> Amounts {
        let parts = self.parts.iter().map(|part| &part.amounts);
        parts.fold(Amounts::ZERO, |sum, part| sum.zip(part, |a, b| a + b))
    }

    fn places(self) -> impl Iterator<Item = (CounterName, usize)> {
        self.parts.into_iter().flat_map(|part| part.places)
    }
}

/// What a part of a reservation took of a metric, now that the truth is known: all of it belongs to the
/// moment of the admission, unless no more is known than that the hold was not too large.
fn truth(hold: &Hold, part: usize, metric: Metric, used: Used) -> u64 {
    let held = hold.parts[part].amounts.get(metric);
    let truth = match used {
        Used::AtLeast(amounts) if amounts.get(metric) <= hold.total().get(metric) => return held,
        Used::Stated(stated) => match stated.get(metric) {
            None => return held,
            Some(truth) => truth,
        },
        Used::AtLeast(amounts) | Used::Exactly(amounts) => amounts.get(metric),
    };
    if part == 0 { truth } else { 0 }
}
