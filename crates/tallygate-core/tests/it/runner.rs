//! Carries out operations on a ledger, and nothing else.
use crate::op::{Bid, Op, Use};
use crate::setup::{METRICS, RuleSpec, START, SUBJECTS, amended, amounts, policy};
use tallygate_core::{
    Amounts, Ask, Bounds, Decision, EndError, Entry, ExtendError, Extended, FullError, Keys,
    Ledger, Policy, Receipt, ReservationId, Span, Standing, Stated, Ticket, Time, Used,
};

/// What came of an operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Nothing,
    Decided(Result<Decision, FullError>),
    Spent(Result<Option<Decision>, FullError>),
    Entered(Result<Entry, FullError>),
    Ended(Result<Receipt, EndError>),
    Extended(Result<Extended, ExtendError>),
    Swept(usize),
}

/// The answer to a caller in line, and when it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) at: Time,
    pub(crate) ticket: Ticket,
    pub(crate) decision: Decision,
}

/// A reservation that was made, with what it held at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) id: ReservationId,
    pub(crate) held: Amounts,
}

/// A ledger, its clock and what was made on it.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) ledger: Ledger,
    pub(crate) now: Time,
    rules: Vec<RuleSpec>,
    pub(crate) made: Vec<Made>,
    pub(crate) tickets: Vec<Ticket>,
    /// Answers to callers in line, in the order they came.
    pub(crate) calls: Vec<Call>,
    /// The last save and the records since.
    pub(crate) kept: Option<(Vec<u8>, Vec<u8>)>,
    /// The policy in force with its rules, if the next one is to be made of it.
    amends: Option<(Policy, Vec<RuleSpec>)>,
}

/// Receipts are kept for so long in cases.
pub(crate) const RECEIPT_TTL: u64 = 3_600_000_000_000;

/// One call of the ledger's sweep looks at one table of one rule.
const TABLES: usize = 64;

/// More steps than this in one operation are a wake-up that wakes itself.
pub(crate) const MAX_STEPS: usize = 100_000;

impl Runner {
    pub(crate) fn new(rules: &[RuleSpec]) -> Self {
        let mut ledger = Ledger::new(&policy(rules), bounds(), [7, 11]);
        ledger.advance(START);
        Self {
            ledger,
            now: START,
            rules: rules.to_vec(),
            made: Vec::new(),
            tickets: Vec::new(),
            calls: Vec::new(),
            kept: None,
            amends: None,
        }
    }

    /// A runner whose policies are each made of the one before, not anew.
    pub(crate) fn amending(rules: &[RuleSpec]) -> Self {
        let mut runner = Self::new(rules);
        runner.amends = Some((policy(&[]), Vec::new()));
        // As the other one: the same rules again change nothing.
        runner.put_in_force(rules.to_vec());
        runner
    }

    fn put_in_force(&mut self, rules: Vec<RuleSpec>) {
        let policy = match &self.amends {
            None => policy(&rules),
            Some((policy, before)) => amended(policy, before, &rules),
        };
        self.ledger.replace_policy(&policy, self.now);
        if let Some(known) = &mut self.amends {
            *known = (policy, rules);
        }
    }

    /// Saves the ledger; what comes after it is recorded.
    pub(crate) fn save(&mut self) {
        self.ledger.keep_journal();
        self.ledger.drain_journal(&mut Vec::new());
        self.kept = Some((saved(&self.ledger), Vec::new()));
    }

    /// The ledger made of the last save and the records since.
    pub(crate) fn reborn(&mut self) -> Ledger {
        let (save, records) = self.kept.as_mut().expect("it was saved");
        self.ledger.drain_journal(records);
        let mut ledger = Ledger::load(save, bounds()).expect("it was saved so");
        ledger.redo(records).expect("they follow the save");
        ledger
    }

    /// Puts another ledger in the place of this one, without those who wait for it.
    pub(crate) fn go_on_with(&mut self, ledger: Ledger) {
        self.ledger = ledger;
        self.ledger.keep_journal();
        self.now = self.ledger.advance(self.now);
        self.tickets.clear();
    }

    /// A runner that has done all this.
    pub(crate) fn after(rules: &[RuleSpec], ops: &[Op]) -> Self {
        let mut runner = Self::new(rules);
        for op in ops {
            runner.apply(op);
        }
        runner
    }

    pub(crate) fn apply(&mut self, op: &Op) -> Answer {
        let answer = match op {
            Op::Pass(_) | Op::Leap(_) | Op::Back(_) | Op::Wall(_) => self.clock(op),
            Op::Reserve(bid) => Answer::Decided(self.reserve(*bid)),
            Op::Spend { who, demand } => {
                let keys = self.keys(*who);
                let spent = self.ledger.spend(&keys, &amounts(*demand), self.now);
                Answer::Spent(spent)
            }
            Op::Wait { bid, patience } => self.wait(*bid, *patience),
            Op::Leave(nth) => self.leave(*nth),
            Op::Settle(nth, used) => self.end(*nth, |ledger, made, now| {
                ledger.settle(made.id, used.of(&made.held), now)
            }),
            Op::Cancel(nth) => self.end(*nth, |ledger, made, now| ledger.cancel(made.id, now)),
            Op::Withdraw(nth) => {
                if let Some(at) = Self::nth(*nth, self.made.len()) {
                    self.ledger.withdraw(self.made[at].id, self.now);
                }
                Answer::Nothing
            }
            Op::Extend { hold, more, ttl } => self.extend(*hold, *more, *ttl),
            Op::Forge(bits) => {
                let id = forged(*bits);
                let used = Used::Exactly(Amounts::ZERO);
                Answer::Ended(self.ledger.settle(id, used, self.now))
            }
            Op::Reload(share) => {
                let rules = resized(&self.rules, *share);
                self.put_in_force(rules);
                Answer::Nothing
            }
            Op::Rules(which) => {
                let numbered = self.rules.iter().enumerate();
                let chosen = numbered.filter(|(at, _)| which >> at & 1 == 1);
                let rules: Vec<RuleSpec> = chosen.map(|(_, rule)| rule.clone()).collect();
                self.put_in_force(rules);
                Answer::Nothing
            }
            Op::Save => {
                self.save();
                Answer::Nothing
            }
            Op::Restart => {
                if self.kept.is_none() {
                    self.save();
                }
                let ledger = self.reborn();
                self.go_on_with(ledger);
                Answer::Nothing
            }
            Op::Sweep => Answer::Swept(self.sweep()),
        };
        self.take_calls();
        answer
    }

    /// Lets time come to the next instant the ledger asks for, `until` at the latest; whether that is reached.
    pub(crate) fn step(&mut self, until: Time) -> bool {
        let next = self.ledger.next_event().filter(|next| *next <= until);
        let to = next.unwrap_or(until);
        assert!(to >= self.now, "an event in the past: {to:?}");
        self.now = self.ledger.advance(to);
        self.take_calls();
        next.is_none()
    }

    /// Lets time come to `until`, stopping at every instant the ledger asks for.
    pub(crate) fn pass_to(&mut self, until: Time) {
        let mut steps = 0;
        while !self.step(until) {
            steps += 1;
            assert!(steps < MAX_STEPS, "the ledger does not come to rest");
        }
    }

    pub(crate) fn reserve(&mut self, bid: Bid) -> Result<Decision, FullError> {
        let keys = self.keys(bid.who);
        let demand = amounts(bid.demand);
        let ask = self.ask(&bid, &keys, &demand);
        let decision = self.ledger.reserve(&ask, self.now);
        if let Ok(decision) = &decision {
            self.note(decision);
        }
        decision
    }

    pub(crate) fn peek(&mut self, who: usize) -> Vec<Standing> {
        let keys = self.keys(who);
        self.ledger.peek(&keys, self.now)
    }

    /// Where everybody stands.
    pub(crate) fn peek_all(&mut self) -> Vec<Vec<Standing>> {
        let standings = (0..SUBJECTS.len()).map(|who| self.peek(who)).collect();
        self.take_calls();
        standings
    }

    /// The place of a reservation or ticket: the newest is number 0.
    pub(crate) fn nth(nth: usize, len: usize) -> Option<usize> {
        let back = nth.checked_rem(len)?;
        Some(len - 1 - back)
    }

    /// Drops all that is idle; answers how many counters.
    pub(crate) fn sweep(&mut self) -> usize {
        let rounds = 0..TABLES * self.rules.len();
        rounds.map(|_| self.ledger.sweep(self.now)).sum()
    }

    fn clock(&mut self, op: &Op) -> Answer {
        match op {
            Op::Pass(length) => self.pass_to(self.now.plus(Span::from_nanos(*length))),
            Op::Leap(length) => {
                self.now = self
                    .ledger
                    .advance(self.now.plus(Span::from_nanos(*length)));
            }
            Op::Back(length) => {
                let earlier = Time::from_nanos(self.now.as_nanos().saturating_sub(*length));
                let keys = self.keys(0);
                self.ledger.peek(&keys, earlier);
            }
            Op::Wall(lead) => {
                self.ledger.set_wall_offset(*lead);
                self.now = self.ledger.advance(self.now);
            }
            _ => {}
        }
        Answer::Nothing
    }

    fn wait(&mut self, bid: Bid, patience: u64) -> Answer {
        let keys = self.keys(bid.who);
        let demand = amounts(bid.demand);
        let ask = self.ask(&bid, &keys, &demand);
        let until = self.now.plus(Span::from_nanos(patience));
        let entry = self.ledger.wait(&ask, until, self.now);
        match &entry {
            Ok(Entry::Decided(decision)) => self.note(decision),
            Ok(Entry::Waiting(ticket)) => self.tickets.push(*ticket),
            Err(_) => {}
        }
        Answer::Entered(entry)
    }

    fn leave(&mut self, nth: usize) -> Answer {
        if let Some(at) = Self::nth(nth, self.tickets.len()) {
            self.ledger.leave(self.tickets[at], self.now);
        }
        Answer::Nothing
    }

    fn end(
        &mut self,
        nth: usize,
        f: impl FnOnce(&mut Ledger, Made, Time) -> Result<Receipt, EndError>,
    ) -> Answer {
        match Self::nth(nth, self.made.len()) {
            Some(at) => Answer::Ended(f(&mut self.ledger, self.made[at], self.now)),
            None => Answer::Nothing,
        }
    }

    fn extend(&mut self, nth: usize, more: [u64; 3], ttl: Option<u64>) -> Answer {
        let Some(at) = Self::nth(nth, self.made.len()) else {
            return Answer::Nothing;
        };
        let ttl = ttl.map(Span::from_nanos);
        let id = self.made[at].id;
        Answer::Extended(self.ledger.extend(id, &amounts(more), ttl, self.now))
    }

    fn keys(&self, who: usize) -> Keys {
        self.ledger.resolve(&SUBJECTS[who])
    }

    fn ask<'a>(&self, bid: &Bid, keys: &'a Keys, demand: &'a Amounts) -> Ask<'a> {
        let name = bid.key.map(|key| key.to_string());
        Ask {
            keys,
            demand,
            ttl: Span::from_nanos(bid.ttl),
            idempotency: name.map(|name| self.ledger.idempotency(&name, &SUBJECTS[bid.who])),
        }
    }

    fn take_calls(&mut self) {
        for (ticket, answer) in self.ledger.take_answers() {
            let decision = answer.expect("no bound is reached");
            self.note(&decision);
            self.calls.push(Call {
                at: self.now,
                ticket,
                decision,
            });
        }
    }

    fn note(&mut self, decision: &Decision) {
        if let Decision::Admit(admission) = decision
            && self.made.iter().all(|made| made.id != admission.id)
        {
            self.made.push(Made {
                id: admission.id,
                held: admission.reserved,
            });
        }
    }
}

impl Use {
    pub(crate) fn of(self, held: &Amounts) -> Used {
        let amounts = |[requests, tokens]: [u64; 2]| amounts([requests, tokens, 0]);
        match self {
            Self::Exactly(used) => Used::Exactly(amounts(used)),
            Self::AtLeast(used) => Used::AtLeast(amounts(used)),
            Self::Stated(used) => {
                let mut stated = Stated::default();
                for (metric, amount) in METRICS.into_iter().zip(used) {
                    amount
                        .into_iter()
                        .for_each(|amount| stated.set(metric, amount));
                }
                Used::Stated(stated)
            }
            Self::Share(thousandths) => {
                let part = |_, amount: u64| {
                    let part = u128::from(amount) * u128::from(thousandths.min(1000)) / 1000;
                    u64::try_from(part).expect("a part of an amount is an amount")
                };
                Used::Exactly(Amounts::ZERO.zip(held, part))
            }
        }
    }
}

/// The rules with their amounts and bursts at these thousandths, but never so little that a bucket hardly drains.
pub(crate) fn resized(rules: &[RuleSpec], thousandths: u64) -> Vec<RuleSpec> {
    use crate::setup::{Form, least_drain};
    let size = |amount: u64| (amount.saturating_mul(thousandths) / 1000).max(1);
    let mut rules = rules.to_vec();
    for limit in rules.iter_mut().flat_map(|rule| &mut rule.limits) {
        limit.amount = size(limit.amount);
        match &mut limit.form {
            Form::Bucket { every, burst } => {
                limit.amount = limit.amount.max(least_drain(*every));
                *burst = size(*burst);
            }
            Form::Strict { every, burst } => {
                let least = least_drain(*every);
                limit.amount = limit.amount.max(least + 1);
                *burst = size(*burst).min(limit.amount - least);
            }
            _ => {}
        }
    }
    rules
}

/// The bounds of every case.
pub(crate) fn bounds() -> Bounds {
    Bounds {
        receipt_ttl: Span::from_nanos(RECEIPT_TTL),
        ..Bounds::default()
    }
}

/// A ledger as bytes.
pub(crate) fn saved(ledger: &Ledger) -> Vec<u8> {
    let mut bytes = Vec::new();
    ledger.save(&mut bytes);
    bytes
}

fn forged(bits: u64) -> ReservationId {
    ReservationId::from_bits(u128::from(bits) << 64 | u128::from(bits.rotate_left(17)))
}
