//! The ledger and the oracle side by side: whatever is done is done to both, and they are compared after it.
mod decisions;
mod endings;
mod queue;

use crate::op::{Case, Op};
use crate::oracle::{Book, CounterName, Queued, Refusal};
use crate::runner::{Answer, MAX_STEPS, Runner, resized};
use crate::setup::amounts;
use std::collections::BTreeMap;
use tallygate_core::{ReservationId, Span, Standing, Time};

/// A ledger, the oracle's book, and who is in line.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) runner: Runner,
    pub(crate) book: Book,
    queue: Vec<Queued>,
    rules: Vec<crate::setup::RuleSpec>,
    /// Whose reservation it is.
    owners: BTreeMap<ReservationId, usize>,
    /// How many answers to callers in line were looked at.
    heard: usize,
    /// How many demands were admitted, denied, and refused for ever.
    pub(crate) seen: Seen,
}

/// What came about in a case, so that a test can tell that it tested something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) admitted: usize,
    pub(crate) denied: usize,
    pub(crate) never: usize,
    pub(crate) served: usize,
    pub(crate) gave_up: usize,
    pub(crate) overruns: usize,
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.denied += other.denied;
        self.never += other.never;
        self.served += other.served;
        self.gave_up += other.gave_up;
        self.overruns += other.overruns;
    }
}

impl World {
    pub(crate) fn new(rules: &[crate::setup::RuleSpec]) -> Self {
        let mut runner = Runner::new(rules);
        // A calendar window is known once it was looked at.
        runner.peek_all();
        Self {
            runner,
            book: Book::new(rules),
            queue: Vec::new(),
            owners: BTreeMap::new(),
            rules: rules.to_vec(),
            heard: 0,
            seen: Seen::default(),
        }
    }

    /// Does all of a case, comparing after each operation.
    pub(crate) fn run(case: &Case) -> Self {
        let mut world = Self::new(&case.rules);
        for op in &case.ops {
            world.apply(op);
        }
        world
    }

    /// Does one operation to both and compares them.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Pass(length) => self.pass(*length),
            Op::Reserve(bid) => self.reserve(op, *bid),
            Op::Spend { who, demand } => self.spend(op, *who, &amounts(*demand)),
            Op::Wait { bid, patience } => self.wait(op, *bid, *patience),
            Op::Leave(nth) => self.leave(op, *nth),
            Op::Settle(nth, used) => self.settle(op, *nth, *used),
            Op::Cancel(nth) => self.cancel(op, *nth),
            Op::Withdraw(nth) => self.withdraw(op, *nth),
            Op::Extend { hold, more, ttl } => self.extend(op, *hold, &amounts(*more), *ttl),
            Op::Forge(_) => self.forge(op),
            Op::Reload(share) => {
                self.runner.apply(op);
                self.book.resize(&resized(&self.rules, *share));
            }
            Op::Wall(lead) => {
                self.runner.apply(op);
                self.book.step(*lead);
            }
            Op::Leap(_) => {
                self.runner.apply(op);
                self.book.leap(self.runner.now.as_nanos());
            }
            Op::Back(_) | Op::Sweep | Op::Save => {
                self.runner.apply(op);
            }
            Op::Restart => {
                self.queue.clear();
                self.runner.apply(op);
            }
            Op::Rules(_) => panic!("the oracle keeps its rules"),
        }
        self.compare();
    }

    fn pass(&mut self, length: u64) {
        let until = self.runner.now.plus(Span::from_nanos(length));
        for _ in 0..MAX_STEPS {
            let done = self.runner.step(until);
            self.compare();
            if done {
                return;
            }
        }
        panic!("the ledger does not come to rest");
    }

    /// Brings the book to the runner's time and compares all that can be seen.
    fn compare(&mut self) {
        self.keep_up();
        // What is due at this very instant happens with the next operation.
        self.runner.apply(&Op::Leap(0));
        self.keep_up();
        let standings = self.runner.peek_all();
        for (who, standings) in standings.iter().enumerate() {
            self.check_standings(who, standings);
        }
        assert_eq!(
            self.runner.ledger.open(),
            self.book.open(),
            "reservations open"
        );
        assert_eq!(
            self.runner.ledger.waiting(),
            self.queue.len(),
            "callers in line"
        );
        self.check_queue();
    }

    fn keep_up(&mut self) {
        self.book.advance(self.runner.now.as_nanos());
        self.hear();
    }

    fn check_standings(&self, who: usize, standings: &[Standing]) {
        let counters = self.book.counters(who);
        assert_eq!(counters.len(), standings.len(), "limits of subject {who}");
        for (counter, standing) in counters.iter().zip(standings) {
            self.check_standing(*counter, standing);
        }
    }

    fn check_standing(&self, counter: CounterName, standing: &Standing) {
        let tally = self.book.tally(counter);
        let reading = tally.used(self.book.now);
        let used = standing.used;
        assert!(
            reading.least <= used && used <= reading.most,
            "counter {counter} at {} stands at {used} instead of {reading:?}: {tally:#?}",
            self.book.now,
        );
        let largest = tally.spec.largest();
        assert_eq!(standing.remaining, largest.saturating_sub(used));
        assert_eq!(standing.debt, used.saturating_sub(largest));
        if let Some(reset) = tally.reset(self.book.now).filter(|_| !self.book.stepped) {
            let shown = Span::from(standing.reset).as_nanos();
            assert_eq!(shown, reset, "reset of counter {counter}: {tally:#?}");
        }
    }

    /// The counter a standing speaks of.
    fn counter_of(&self, who: usize, standing: &Standing) -> CounterName {
        let counters = self.book.counters(who).into_iter();
        let mut named = counters.filter(|counter| {
            let (rule, limit) = self.book.place(*counter);
            *standing.limit.name == format!("rule-{}", rule.number)
                && standing.limit.metric == rule.limits[limit].metric
        });
        named
            .next()
            .expect("the standing is of a limit that applies")
    }

    fn nth_id(&self, nth: usize) -> Option<ReservationId> {
        let at = Runner::nth(nth, self.runner.made.len())?;
        Some(self.runner.made[at].id)
    }
}

/// Whether no limit can refuse.
fn surely_fits(judged: &[Refusal]) -> bool {
    judged.iter().all(|at| at.fit == crate::oracle::Fit::Surely)
}

/// Whether some limit must refuse.
fn surely_not(judged: &[Refusal]) -> bool {
    judged.iter().any(|at| at.fit == crate::oracle::Fit::Not)
}

fn deadline(now: Time, ttl: u64) -> Time {
    now.plus(Span::from_nanos(ttl))
}

fn unexpected(answer: &Answer) -> ! {
    panic!("an answer of another kind: {answer:?}")
}
