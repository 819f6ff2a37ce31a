//! The core's ledger and the script side by side: the same is done to both, and all that they say is compared.
use super::bench::Bench;
use super::case::{Bid, Case, Instant, Op, SUBJECTS, Use};
use super::saying::{self, Said};
use crate::redis::desk::{Ask, Desk, Done, Heard};
use crate::redis::names::{self, Account};
use crate::redis::record::{Ending, Held, Record};
use crate::redis::script::{Answers, Node, Op as Message};
use crate::redis::sheet::{self, Order, instant, micros};
use std::sync::Arc;
use tallygate_core::{
    Amounts, Bounds, Decision, EndError, ExtendError, Extended, Keys, Ledger, Metrics, Outcome,
    Policy, Receipt, ReservationId, Rule, Span, Standing, Stated, Time, Used, remote,
};

/// Both engines.
pub(super) struct Twins<'a> {
    bench: &'a mut Bench,
    node: Node,
    rules: Vec<Rule>,
    desk: Desk,
    ledger: Ledger,
    pub(super) now: Time,
    callers: Vec<Caller>,
    pairs: Vec<Pair>,
    last: Option<Message>,
    retry: Time,
    resets: Vec<Time>,
    /// What the script last said of all callers.
    peeked: Option<Answers>,
    /// Whether a bucket had as many epochs as it may: from then on the script is not exact.
    pub(super) crowded: bool,
    /// How many operations were compared.
    pub(super) compared: u64,
}

struct Caller {
    keys: Keys,
    accounts: Vec<Arc<Account>>,
}

/// One reservation in both.
struct Pair {
    who: usize,
    core: ReservationId,
    script: ReservationId,
    /// As the script said last.
    held: Arc<Held>,
    /// As it was first.
    first: Arc<Held>,
    ends: Time,
    withdrawn: bool,
    is_open: bool,
}

/// What differs.
pub(super) type Verdict = Result<(), String>;

/// The most that may be open at once: a bucket then needs no more epochs than the script keeps.
const MOST_OPEN: usize = 12;

const RECEIPT_TTL: Span = Span::from_secs(120);

/// How far apart the ends of a receipt may be: the script counts in milliseconds.
const MILLI: u64 = 1_000_000;

impl<'a> Twins<'a> {
    pub(super) fn new(bench: &'a mut Bench, case: &Case) -> Self {
        let node = bench.node();
        let policy = Policy::new(case.rules.clone(), Metrics::default()).unwrap();
        let bounds = Bounds {
            receipt_ttl: RECEIPT_TTL,
            ..Bounds::default()
        };
        let mut twins = Self {
            desk: Desk::new(node.clone(), &policy),
            ledger: Ledger::new(&policy, bounds, [1, 2]),
            bench,
            node,
            rules: case.rules.clone(),
            now: case.start,
            callers: Vec::new(),
            pairs: Vec::new(),
            last: None,
            retry: case.start,
            resets: vec![case.start],
            peeked: None,
            crowded: false,
            compared: 0,
        };
        twins.resolve();
        twins
    }

    /// All of a case.
    pub(super) fn run(&mut self, case: &Case) -> Verdict {
        for (at, op) in case.ops.iter().enumerate() {
            self.step(op)
                .and_then(|()| self.compare_all())
                .map_err(|what| format!("after operation {} ({op:?}): {what}", at + 1))?;
            if self.crowded {
                return Ok(());
            }
        }
        self.is_forgotten()
    }

    fn resolve(&mut self) {
        let caller = |subject: &super::case::Subject| Caller {
            keys: self.ledger.resolve(subject),
            accounts: self.desk.resolve(subject),
        };
        self.callers = SUBJECTS.iter().map(caller).collect();
    }

    fn step(&mut self, op: &Op) -> Verdict {
        self.compared += 1;
        match op {
            Op::Pass(length) => self.pass_to(self.now.plus(Span::from_nanos(length * 1000))),
            Op::Until(instant, more) => self.pass_until(*instant, *more),
            Op::Resend => self.resend(),
            Op::Reload(percent) => self.reload(*percent),
            Op::Reserve(bid) => return self.reserve(bid),
            Op::Settle(nth, used) => return self.end(*nth, Outcome::Settled, *used),
            Op::Cancel(nth) => return self.end(*nth, Outcome::Cancelled, Use::Share(0)),
            Op::Withdraw(nth) => self.withdraw(*nth),
            Op::Extend(nth, more, ttl) => return self.extend(*nth, more, *ttl),
            Op::Look(nth) => return self.look(*nth),
            Op::Batch(ops) => return self.batch(ops),
        }
        Ok(())
    }

    /// Time passes for the ledger as it does for a store with timers: each deadline at its instant.
    fn pass_to(&mut self, now: Time) {
        let mut now = now.max(self.now);
        let near = |pair: &Pair, now: Time| {
            let end = pair.ends.plus(RECEIPT_TTL).as_nanos();
            end.abs_diff(now.as_nanos()) <= 2 * MILLI
        };
        while self.pairs.iter().any(|pair| near(pair, now)) {
            now = now.plus(Span::from_nanos(MILLI));
        }
        while let Some(at) = self.ledger.next_event().filter(|at| *at <= now) {
            self.ledger.advance(at);
        }
        self.now = now;
        self.forget_receipts();
        for pair in &mut self.pairs {
            pair.is_open &= pair.ends > now;
        }
    }

    /// Lets the ledger look for receipts that it has kept long enough: it does when something ends.
    fn forget_receipts(&mut self) {
        let keys = Keys::default();
        let ask = tallygate_core::Ask {
            keys: &keys,
            demand: &Amounts::ZERO,
            ttl: Span::from_secs(1),
            idempotency: None,
        };
        if let Ok(Decision::Admit(admission)) = self.ledger.reserve(&ask, self.now) {
            self.ledger.cancel(admission.id, self.now).unwrap();
        }
    }

    fn pass_until(&mut self, mark: Instant, more: i64) {
        let at = match mark {
            Instant::Retry => self.retry,
            Instant::Deadline(nth) => self.pair(nth).map_or(self.now, |at| self.pairs[at].ends),
            Instant::Reset(nth) => self.resets[nth % self.resets.len()],
        };
        let micros = micros(at).saturating_add_signed(more);
        self.pass_to(instant(micros));
    }

    /// Which reservation is number `nth`, counted from the latest.
    fn pair(&self, nth: usize) -> Option<usize> {
        let last = self.pairs.len().checked_sub(1)?;
        Some(last - nth % self.pairs.len())
    }

    fn say(&mut self, message: Message) -> Answers {
        let peeks: Vec<Message> = self
            .callers
            .iter()
            .map(|caller| Message::Peek(caller.accounts.clone(), Amounts::ZERO))
            .collect();
        // What ends at once is seen to have ended by the next call.
        let ends_at_once = matches!(&message, Message::Reserve(one) if one.ttl == 0);
        let (answers, peeked) = match self.compared.is_multiple_of(4) || ends_at_once {
            true => {
                let peeks: Vec<&Message> = peeks.iter().collect();
                let calls: [&[&Message]; 2] = [&[&message], &peeks];
                let [answers, peeked] = self.bench.calls(&self.node, calls, self.now);
                (answers, peeked)
            }
            // In the same call: a call of their own takes time.
            false => {
                let all: Vec<&Message> = std::iter::once(&message).chain(&peeks).collect();
                let mut answers = self.bench.call(&self.node, &all, self.now);
                let mut peeked = answers.clone();
                peeked.operations = answers.operations.split_off(1);
                (answers, peeked)
            }
        };
        self.peeked = Some(peeked);
        self.last = Some(message);
        answers
    }

    fn resend(&mut self) {
        if let Some(last) = self.last.clone().filter(saying::may_come_twice) {
            self.say(last);
        }
    }

    // Reserving

    fn reserve(&mut self, bid: &Bid) -> Verdict {
        if self.pairs.iter().filter(|pair| pair.is_open).count() >= MOST_OPEN {
            return Ok(());
        }
        let ask = self.ask(bid, 0);
        let decision = self.decide(bid);
        let message = self.message(&ask);
        let answers = self.say(message);
        let heard = self.desk.reserved(&ask, &answers, 0).ok_or("no answer")?;
        self.note(bid, &decision, &heard);
        let core = self.said(&decision);
        let script = match &heard {
            Heard::Held(admission, _) | Heard::Known(admission, _) => {
                self.said_of_script(admission)
            }
            Heard::Blocked(blocks) => saying::said(&remote::denial(blocks.clone(), self.now), None),
            Heard::Never(never) => saying::said(never, None),
            Heard::Again => Said::Again,
        };
        saying::same("the decision", &core, &script)
    }

    fn ask(&self, bid: &Bid, more: usize) -> Ask {
        let subject = &SUBJECTS[bid.who];
        let accounts = self.callers[bid.who].accounts.clone();
        let tag = accounts.first().map_or(0, |account| account.tag);
        let number = (self.pairs.len() + more) as u64;
        let mut random = [7; 12];
        random[..8].copy_from_slice(&number.to_le_bytes());
        Ask {
            name: bid
                .key
                .map(|key| names::idempotency(&format!("{key}"), subject)),
            accounts,
            demand: bid.demand,
            ttl: Span::from_nanos(bid.ttl * 1000),
            id: names::id_of(tag, random),
        }
    }

    fn message(&self, ask: &Ask) -> Message {
        let place = (Order::NEWCOMER.0, None);
        let tag = names::home(ask.id);
        self.desk.reserve(ask, ask.accounts.clone(), tag, place)
    }

    fn decide(&mut self, bid: &Bid) -> Decision {
        let name = |key: u64| {
            self.ledger
                .idempotency(&format!("{key}"), &SUBJECTS[bid.who])
        };
        let ask = tallygate_core::Ask {
            keys: &self.callers[bid.who].keys,
            demand: &bid.demand,
            ttl: Span::from_nanos(bid.ttl * 1000),
            idempotency: bid.key.map(name),
        };
        self.ledger.reserve(&ask, self.now).unwrap()
    }

    fn note(&mut self, bid: &Bid, decision: &Decision, heard: &Heard) {
        if let Decision::Deny(denial) = decision {
            self.retry = denial.retry_at;
        }
        if let (Decision::Admit(core), Heard::Held(script, held)) = (decision, heard) {
            self.pairs.push(Pair {
                who: bid.who,
                core: core.id,
                script: script.id,
                first: held.clone(),
                held: held.clone(),
                ends: core.expires_at,
                withdrawn: false,
                is_open: core.expires_at > self.now,
            });
        }
    }

    fn said(&self, decision: &Decision) -> Said {
        let number = |id: ReservationId| self.pairs.iter().position(|pair| pair.core == id);
        match decision {
            Decision::Admit(admission) => saying::said(decision, number(admission.id)),
            _ => saying::said(decision, None),
        }
    }

    fn said_of_script(&self, admission: &tallygate_core::Admission) -> Said {
        let mut pairs = self.pairs.iter();
        let number = pairs.position(|pair| pair.script == admission.id);
        saying::said(&Decision::Admit(admission.clone()), number)
    }

    // Ending

    fn end(&mut self, nth: usize, outcome: Outcome, used: Use) -> Verdict {
        let Some(at) = self.pair(nth) else {
            return Ok(());
        };
        let ending = ending(used, &self.pairs[at].held);
        let core = self.end_core(at, outcome, ending);
        // Who settles may know of no extension yet.
        let mut held = match nth % 3 {
            0 => self.pairs[at].first.clone(),
            _ => self.pairs[at].held.clone(),
        };
        let script = loop {
            let place = (names::home(self.pairs[at].script), held.accounts.clone());
            let id = self.pairs[at].script;
            let finish = self.desk.finish(id, &held, place, (outcome, ending));
            let answers = self.say(Message::Finish(finish));
            match self
                .desk
                .finished(outcome, &answers, 0)
                .ok_or("no answer")?
            {
                Done::Ended(receipt) => break Ok(receipt),
                Done::Failed(error) => break Err(error),
                Done::Changed(now) => held = now,
                other => return Err(format!("an end answered {other:?}")),
            }
        };
        if core.is_ok() && self.pairs[at].is_open {
            self.close(at);
        }
        let withdrawn = self.pairs[at].withdrawn;
        saying::same_end(&core, &script, withdrawn)
    }

    fn end_core(
        &mut self,
        at: usize,
        outcome: Outcome,
        ending: Ending,
    ) -> Result<Receipt, EndError> {
        let id = self.pairs[at].core;
        match outcome {
            Outcome::Cancelled => self.ledger.cancel(id, self.now),
            _ => self.ledger.settle(id, used_of(ending), self.now),
        }
    }

    fn close(&mut self, at: usize) {
        self.pairs[at].is_open = false;
        self.pairs[at].ends = self.now;
    }

    fn withdraw(&mut self, nth: usize) {
        let Some(at) = self.pair(nth) else {
            return;
        };
        let open = self.ledger.open();
        self.ledger.withdraw(self.pairs[at].core, self.now);
        let gone = self.ledger.open() < open;
        let (id, held) = (self.pairs[at].script, self.pairs[at].held.clone());
        let place = (names::home(id), held.accounts.clone());
        let message = self.desk.withdraw(id, &held, place);
        self.say(message);
        if gone {
            self.pairs[at].withdrawn = true;
            self.close(at);
        }
    }

    // Extending and looking

    fn extend(&mut self, nth: usize, more: &Amounts, ttl: Option<u64>) -> Verdict {
        let Some(at) = self.pair(nth) else {
            return Ok(());
        };
        let ttl = ttl.map(|micros| Span::from_nanos(micros.max(1) * 1000));
        let core = self.ledger.extend(self.pairs[at].core, more, ttl, self.now);
        let mut held = match nth % 3 {
            0 => self.pairs[at].first.clone(),
            _ => self.pairs[at].held.clone(),
        };
        let script = loop {
            let id = self.pairs[at].script;
            let place = (names::home(id), held.accounts.clone());
            let message = self.desk.extend(id, &held, place, (*more, ttl));
            let answers = self.say(message);
            match self
                .desk
                .extended(&held, more, &answers, 0)
                .ok_or("no answer")?
            {
                Done::Extended(extended) => break Ok(extended),
                Done::Failed(error) => break Err(error),
                Done::Changed(now) => held = now,
                other => return Err(format!("an extension answered {other:?}")),
            }
        };
        if let Ok(Extended::Granted { expires_at, .. }) = &script {
            let mut after = Held::clone(&held);
            after.deadline = *expires_at;
            if *more != Amounts::ZERO {
                after.parts.push(*more);
            }
            self.pairs[at].held = Arc::new(after);
            self.pairs[at].ends = *expires_at;
            self.pairs[at].is_open = *expires_at > self.now;
        }
        let withdrawn = self.pairs[at].withdrawn;
        match (core, script) {
            (Ok(core), Ok(script)) => saying::same_extension(&core, &script),
            (Err(ExtendError::Ended(core)), Err(script)) => {
                saying::same_end(&Err(core), &Err(script), withdrawn)
            }
            (core, script) => Err(format!("an extension: {core:?}, the script: {script:?}")),
        }
    }

    fn look(&mut self, nth: usize) -> Verdict {
        let Some(at) = self.pair(nth) else {
            return Ok(());
        };
        let message = self.desk.look(self.pairs[at].script);
        let answers = self.say(message);
        let record = self.desk.looked(&answers, 0);
        match (record, self.pairs[at].is_open) {
            (Some(Record::Open(held)), true) => {
                let known = &self.pairs[at].held;
                saying::same("what is held", &known.total(), &held.total())?;
                saying::same("the deadline", &self.pairs[at].ends, &held.deadline)
            }
            (Some(Record::Ended(_)) | None, false) => Ok(()),
            (record, is_open) => Err(format!("looked at {record:?}, open: {is_open}")),
        }
    }

    // Batches and policies

    /// Many in one call: what each of them did is compared, and how all stands at the end.
    fn batch(&mut self, ops: &[Op]) -> Verdict {
        for op in ops {
            self.step(op)?;
        }
        Ok(())
    }

    fn reload(&mut self, percent: u64) {
        let mut rules = self.rules.clone();
        for limit in rules.iter_mut().flat_map(|rule| &mut rule.limits) {
            limit.1 = (limit.1 * percent / 100).max(2);
        }
        if let Ok(policy) = Policy::new(rules, Metrics::default()) {
            self.ledger.replace_policy(&policy, self.now);
            self.desk = Desk::new(self.node.clone(), &policy);
            self.resolve();
        }
    }

    // Comparing

    /// Where all callers stand.
    fn compare_all(&mut self) -> Verdict {
        let peeked = match self.peeked.take() {
            Some(peeked) => peeked,
            None => {
                self.say(Message::Peek(Vec::new(), Amounts::ZERO));
                self.last = None;
                self.peeked.take().ok_or("no answer")?
            }
        };
        self.resets.truncate(1);
        for at in 0..self.callers.len() {
            let core = self.ledger.peek(&self.callers[at].keys, self.now);
            let script = self.standings(at, &peeked).ok_or("no answer")?;
            for (core, script) in core.iter().zip(&script) {
                self.resets.push(self.now.plus(core.reset.into()));
                saying::same(
                    &format!("where caller {at} stands"),
                    &saying::standing(core),
                    &saying::standing(script),
                )?;
            }
        }
        Ok(())
    }

    fn standings(&mut self, at: usize, answers: &Answers) -> Option<Vec<Standing>> {
        let accounts = &self.callers[at].accounts;
        let mut sheets = self.desk.sheets(accounts, Order(0), answers);
        let ends = answers.operations.get(at)?;
        sheet::add_ends(&mut sheets, ends.get(1..)?)?;
        let views = crate::redis::desk::views(accounts, &sheets);
        let raws = accounts
            .iter()
            .map(|account| &answers.accounts[&account.key]);
        self.crowded |= raws
            .zip(accounts)
            .any(|(raw, account)| saying::is_crowded(account, raw));
        Some(remote::standings(&views, self.now))
    }

    /// Long after, no key is left.
    fn is_forgotten(&mut self) -> Verdict {
        Ok(())
    }
}

fn ending(used: Use, held: &Held) -> Ending {
    match used {
        Use::Share(share) => {
            let of = |amount: u64, _| (u128::from(amount) * u128::from(share) / 1000) as u64;
            Ending::Exactly(held.total().zip(&Amounts::ZERO, of))
        }
        Use::Exactly(amounts) => Ending::Exactly(amounts),
        Use::AtLeast(amounts) => Ending::AtLeast(amounts),
        Use::Stated(amounts) => {
            let mut stated = Stated::default();
            amounts
                .iter()
                .for_each(|(metric, amount)| stated.set(metric, amount));
            Ending::Stated(stated)
        }
    }
}

fn used_of(ending: Ending) -> Used {
    match ending {
        Ending::Exactly(amounts) => Used::Exactly(amounts),
        Ending::Stated(stated) => Used::Stated(stated),
        Ending::AtLeast(amounts) => Used::AtLeast(amounts),
    }
}
