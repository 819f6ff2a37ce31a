//! G7 where lines cross: a caller that needs two contended limits, each with a crowd of its own.
use crate::op::{Bid, Case, Op};
use crate::setup::{Form, LimitSpec, RuleSpec, START};
use crate::world::World;
use std::collections::HashMap;
use tallygate_core::{
    Amounts, Ask, Bounds, Decision, Entry, Ledger, Metric, Metrics, Mode, Policy, Rule, Shape,
    Span, StoreDown, Ticket, Time,
};

const LEFT: [(&str, &str); 1] = [("left", "yes")];
const RIGHT: [(&str, &str); 1] = [("right", "yes")];
const BOTH: [(&str, &str); 2] = [("left", "yes"), ("right", "yes")];

type Subject = &'static [(&'static str, &'static str)];

/// Ten tokens each 100 ms for every subject with the label.
fn rule(label: &str) -> Rule {
    let every = Span::from_millis(100);
    let bucket = Shape::Bucket {
        every,
        burst: None,
        strict: false,
    };
    Rule {
        name: label.to_owned(),
        when: vec![(label.to_owned(), vec!["yes".to_owned()])],
        per: Vec::new(),
        limits: vec![(Metric::TOKENS, 10, bucket)],
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    }
}

struct Crowds {
    ledger: Ledger,
    now: Time,
    waiting: HashMap<Ticket, Subject>,
}

impl Crowds {
    /// Stands in line for `tokens`, as often as it takes to be kept waiting.
    fn ask(&mut self, subject: Subject, tokens: u64) -> Ticket {
        let keys = self.ledger.resolve(subject);
        let demand = Amounts::ZERO.with(Metric::TOKENS, tokens);
        let ask = Ask {
            keys: &keys,
            demand: &demand,
            ttl: Span::from_secs(3600),
            idempotency: None,
        };
        loop {
            let until = self.now.plus(Span::from_secs(3600));
            match self.ledger.wait(&ask, until, self.now).expect("no bound") {
                Entry::Waiting(ticket) => return ticket,
                Entry::Decided(Decision::Admit(_)) => {}
                Entry::Decided(refused) => panic!("{refused:?}"),
            }
        }
    }

    fn crowd(&mut self, subject: Subject) {
        let ticket = self.ask(subject, 1);
        self.waiting.insert(ticket, subject);
    }

    /// Goes on until `ticket` is answered; everybody else asks again at once.
    fn until_served(&mut self, ticket: Ticket, latest: Time) -> Option<Time> {
        while let Some(next) = self.ledger.next_event().filter(|next| *next <= latest) {
            self.now = next;
            self.ledger.advance(next);
            for (answered, answer) in self.ledger.take_answers() {
                assert!(matches!(answer, Ok(Decision::Admit(_))), "{answer:?}");
                match self.waiting.remove(&answered) {
                    Some(subject) => self.crowd(subject),
                    None if answered == ticket => return Some(self.now),
                    None => panic!("nobody else waits"),
                }
            }
        }
        None
    }
}

/// Two lines of 20 that are never empty, 5 ms apart, and one caller who needs `tokens` of both limits.
fn wait_of_one_who_needs_both(tokens: u64) -> Option<Span> {
    let rules = vec![rule("left"), rule("right")];
    let policy = Policy::new(rules, Metrics::default()).expect("a policy");
    let mut crowds = Crowds {
        ledger: Ledger::new(&policy, Bounds::default(), [1, 2]),
        now: START,
        waiting: HashMap::new(),
    };
    (0..20).for_each(|_| crowds.crowd(&LEFT));
    crowds.now = crowds.now.plus(Span::from_millis(5));
    (0..20).for_each(|_| crowds.crowd(&RIGHT));
    let asked = crowds.now;
    let ticket = crowds.ask(&BOTH, tokens);
    let served = crowds.until_served(ticket, asked.plus(Span::from_secs(30)))?;
    Some(served.since(asked))
}

#[test]
fn a_caller_between_two_crowded_limits_is_served() {
    for tokens in [1, 4, 8, 10] {
        let waited = wait_of_one_who_needs_both(tokens);
        let waited = waited.unwrap_or_else(|| panic!("{tokens} of both: not served in 30 s"));
        eprintln!("{tokens} of both: served after {waited}");
        assert!(waited <= Span::from_secs(3), "{tokens} of both: {waited}");
    }
}

/// Waits as subject `who`, for a call and slots, with this much patience; what it holds ends after `ttl`.
fn waits(who: usize, [calls, slots]: [u64; 2], (ttl, patience): (u64, u64)) -> Op {
    let bid = Bid {
        who,
        demand: [calls, 0, slots],
        ttl,
        key: None,
    };
    Op::Wait { bid, patience }
}

/// Whoever comes behind a caller that keeps its place is told of the line it is kept in, though that counter has room for both.
#[test]
fn a_place_that_is_kept_is_blamed() {
    let rule = |number, limit| RuleSpec {
        number,
        per: if number == 0 { &["user"] } else { &[] },
        tier: (number == 1).then_some("free"),
        limits: vec![limit],
        mode: Mode::Enforce,
    };
    let slots = LimitSpec {
        metric: Metric::CONCURRENCY,
        amount: 2,
        form: Form::Gauge,
    };
    let every = 23;
    let calls = LimitSpec {
        metric: Metric::REQUESTS,
        amount: 2,
        form: Form::Bucket { every, burst: 2 },
    };
    let ops = vec![
        waits(0, [0, 1], (35, 0)),
        waits(2, [1, 1], (1, 0)),
        waits(2, [1, 1], (1, 0)),
        waits(0, [0, 2], (1, 23)),
        waits(0, [1, 1], (23, 35)),
        waits(2, [1, 1], (35, 12)),
        // It moves from line to line, and keeps its place in that for slots in the end.
        waits(0, [1, 1], (12, 46)),
        waits(2, [1, 1], (1, 57)),
        waits(2, [1, 0], (24, 23)),
        waits(2, [0, 1], (46, 1)),
        waits(0, [1, 1], (1, 57)),
        Op::Pass(52),
        Op::Cancel(0),
        Op::Spend {
            who: 0,
            demand: [0, 0, 1],
        },
    ];
    let rules = vec![rule(0, slots), rule(1, calls)];
    let world = World::run(&Case { rules, ops });
    assert_eq!((world.seen.denied, world.runner.ledger.waiting()), (1, 1));
}
