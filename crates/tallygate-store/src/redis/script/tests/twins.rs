//! The core's ledger and the script side by side: the same is done to both, and all that they say is compared.
mod batch;
mod ending;
mod extending;
mod reload;
mod reserving;

use super::bench::Bench;
use super::case::{Case, Instant, Op, SUBJECTS, Subject};
use super::saying;
use super::verdict::{Differs, Slack, Verdict, same};
use crate::redis::desk::{self, Desk};
use crate::redis::names::Account;
use crate::redis::record::Held;
use crate::redis::script::{Answers, Node, Op as Message};
use crate::redis::sheet::{self, Order, instant, micros};
use std::sync::Arc;
use tallygate_core::{
    Amounts, Bounds, Decision, Keys, Ledger, Metrics, Policy, ReservationId, Rule, Shape, Span,
    Standing, Time, remote,
};

/// Both engines.
pub(super) struct Twins<'a> {
    bench: &'a mut Bench,
    node: Node,
    rules: Vec<Rule>,
    /// The amounts in force, in per cent of what the rules say.
    percent: u64,
    desk: Desk,
    ledger: Ledger,
    now: Time,
    callers: Vec<Caller>,
    pairs: Vec<Pair>,
    /// How many reservations were asked for.
    asked: u64,
    /// The last message that was sent, and its answer.
    last: Option<(Message, Vec<u8>)>,
    retry: Time,
    resets: Vec<Time>,
    /// When all that was ever said to last has ended.
    latest: Time,
    /// What the script last said of all callers.
    peeked: Option<Answers>,
    slack: Slack,
    /// How many operations were compared.
    pub(super) compared: u64,
    /// Whether it ended before all were.
    pub(super) is_apart: bool,
}

struct Caller {
    keys: Keys,
    accounts: Vec<Arc<Account>>,
}

/// One reservation in both.
struct Pair {
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

/// The most that may be open at once: a bucket then needs no more epochs than the script keeps.
const MOST_OPEN: usize = 12;

const RECEIPT_TTL: Span = Span::from_secs(120);

/// 2040.
const LATEST: Time = Time::from_secs(2_208_988_800);

/// How far apart the ends of a receipt may be: the script counts in milliseconds.
const MILLI: u64 = 1_000_000;

impl<'a> Twins<'a> {
    pub(super) fn new(bench: &'a mut Bench, case: &Case) -> Self {
        bench.clear();
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
            percent: 100,
            now: case.start,
            callers: Vec::new(),
            pairs: Vec::new(),
            asked: 0,
            last: None,
            retry: case.start,
            resets: vec![case.start],
            latest: case.start,
            peeked: None,
            slack: Slack::default(),
            compared: 0,
            is_apart: false,
        };
        twins.resolve();
        twins
    }

    /// All of a case, as long as there is something to compare.
    pub(super) fn run(&mut self, case: &Case) -> Result<(), String> {
        for (at, op) in case.ops.iter().enumerate() {
            match self.step(op).and_then(|()| self.compare_all()) {
                Ok(()) => {}
                Err(Differs::Apart) => {
                    self.is_apart = true;
                    return Ok(());
                }
                Err(Differs::Wrong(what)) => {
                    return Err(format!("after operation {} ({op:?}): {what}", at + 1));
                }
            }
        }
        self.is_forgotten()
    }

    fn resolve(&mut self) {
        let caller = |subject: &Subject| Caller {
            keys: self.ledger.resolve(subject),
            accounts: self.desk.resolve(subject),
        };
        self.callers = SUBJECTS.iter().map(caller).collect();
    }

    fn step(&mut self, op: &Op) -> Verdict {
        match op {
            Op::Pass(length) => self.pass_to(self.now.plus(Span::from_nanos(length * 1000))),
            Op::Until(instant, more) => self.pass_until(*instant, *more),
            Op::Resend => return self.resend(),
            Op::Reload(percent) => return self.reload(*percent),
            Op::Reserve(bid) => return self.reserve(bid),
            Op::Settle(nth, used) => return self.settle(*nth, *used),
            Op::Cancel(nth) => return self.cancel(*nth),
            Op::Withdraw(nth) => self.withdraw(*nth),
            Op::Extend(nth, more, ttl) => return self.extend(*nth, more, *ttl),
            Op::Undone(nth, more) => return self.extend_and_retract(*nth, more),
            Op::Look(nth) => return self.look(*nth),
            Op::Batch(ops) => return self.batch(ops),
        }
        Ok(())
    }

    // Time

    /// Time passes for the ledger as it does for a store with timers: each deadline at its instant.
    fn pass_to(&mut self, now: Time) {
        // Levels beyond the year 2255 are not exact.
        let mut now = now.min(LATEST).max(self.now);
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

    // Talking

    /// Which reservation is number `nth`, counted from the latest.
    fn pair(&self, nth: usize) -> Option<usize> {
        let last = self.pairs.len().checked_sub(1)?;
        Some(last - nth % self.pairs.len())
    }

    fn say(&mut self, message: Message) -> Answers {
        self.compared += 1;
        let answers = self.say_all(&[&message]);
        self.last = Some((message, answers.operations[0].clone()));
        answers
    }

    /// One call, and a look at how all callers stand after it.
    fn say_all(&mut self, messages: &[&Message]) -> Answers {
        let look = |caller: &Caller| Message::Peek(caller.accounts.clone(), Amounts::ZERO);
        let peeks: Vec<Message> = self.callers.iter().map(look).collect();
        let peeks: Vec<&Message> = peeks.iter().collect();
        // What ends at once is seen to have ended by the next call.
        let ends_at_once =
            |message: &&Message| matches!(message, Message::Reserve(one) if one.ttl == 0);
        let (answers, peeked) = match self.compared.is_multiple_of(4)
            || messages.iter().any(ends_at_once)
        {
            true => {
                let [answers, peeked] = self.bench.calls(&self.node, [messages, &peeks], self.now);
                (answers, peeked)
            }
            // In the same call: a call of their own takes time.
            false => {
                let all = [messages, &peeks].concat();
                let mut answers = self.bench.call(&self.node, &all, self.now);
                let mut peeked = answers.clone();
                peeked.operations = answers.operations.split_off(messages.len());
                (answers, peeked)
            }
        };
        self.peeked = Some(peeked);
        self.last = None;
        answers
    }

    /// Sends the last message once more, as one does whose answer was lost: it says what was done then.
    fn resend(&mut self) -> Verdict {
        let Some((last, said)) = self.last.take() else {
            return Ok(());
        };
        let answers = self.say(last);
        let again = answers.operations.first().ok_or("no answer")?;
        same(
            "the answer when sent again",
            &saying::repeated(&said, again),
            again,
        )
    }

    // Comparing

    /// Where all callers stand.
    fn compare_all(&mut self) -> Verdict {
        if self.peeked.is_none() {
            self.say_all(&[]);
        }
        let peeked = self.peeked.take().ok_or("no answer")?;
        self.resets.truncate(1);
        for at in 0..self.callers.len() {
            let core = self.ledger.peek(&self.callers[at].keys, self.now);
            let script = self.standings(at, &peeked)?;
            for (core, script) in core.iter().zip(&script) {
                let reset = self.now.plus(core.reset.into());
                self.resets.push(reset);
                self.latest = self.latest.max(reset);
                let (core, script) = (saying::standing(core), saying::standing(script));
                let what = format!("where caller {at} stands");
                self.slack.stands(&what, &core, &script)?;
            }
        }
        Ok(())
    }

    fn standings(&self, at: usize, answers: &Answers) -> Result<Vec<Standing>, Differs> {
        let accounts = &self.callers[at].accounts;
        let raws = accounts
            .iter()
            .map(|account| &answers.accounts[&account.key]);
        let mut raws = raws.zip(accounts);
        if raws.any(|(raw, account)| saying::is_crowded(account, raw)) {
            return Err(Differs::Apart);
        }
        let mut sheets = self.desk.sheets(accounts, Order(0), answers);
        let ends = answers.operations.get(at).and_then(|raw| raw.get(1..));
        ends.and_then(|ends| sheet::add_ends(&mut sheets, ends))
            .ok_or("no answer")?;
        let views = desk::views(accounts, &sheets);
        Ok(remote::standings(&views, self.now))
    }

    /// Every key ends by itself, and not long after it means nothing any more.
    fn is_forgotten(&mut self) -> Result<(), String> {
        // Receipts stay for two minutes, slots for three, a sliding window that is empty for a 32nd of its length, and an
        // account that was written with others for half a minute.
        let limits = self.rules.iter().flat_map(|rule| &rule.limits);
        let widths = limits.map(|limit| match limit.2 {
            Shape::Sliding { every } => every.as_nanos() / 32,
            _ => 0,
        });
        let width = Span::from_nanos(widths.max().unwrap_or(0));
        let last = micros(self.latest.plus(Span::from_secs(223)).plus(width));
        for (key, end) in self.bench.ends(&self.node) {
            match end {
                Some(end) if end <= last => {}
                _ => return Err(format!("{key} ends at {end:?}, all else at {last}")),
            }
        }
        Ok(())
    }
}
