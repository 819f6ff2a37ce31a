//! A server's clock that is set.
use super::bench::Bench;
use super::rule;
use crate::redis::desk::{Ask, Desk, Heard, More, views};
use crate::redis::names::{self, Account};
use crate::redis::record::{Ending, Held};
use crate::redis::script::{Answers, Op};
use crate::redis::sheet::Order;
use std::sync::Arc;
use tallygate_core::{
    Amounts, Metric, Metrics, Outcome, Policy, ReservationId, Shape, Span, Time, remote,
};
use tallygate_sim::servers::Engine;

const START: Time = Time::from_secs(1_800_000_000);

/// One subject with one limit, at a time that the test chooses.
struct Stepped {
    bench: Bench,
    desk: Desk,
    accounts: Vec<Arc<Account>>,
    metric: Metric,
}

impl Stepped {
    fn open(limit: (Metric, u64, Shape)) -> Self {
        let metric = limit.0;
        let policy = Policy::new(vec![rule("r", &[limit])], Metrics::default()).unwrap();
        let mut bench = Bench::open(Engine::Redis);
        let desk = Desk::new(bench.node(), &policy);
        Self {
            accounts: desk.resolve(&[("user", "a")]),
            bench,
            desk,
            metric,
        }
    }

    fn place(&self) -> (u32, Vec<Arc<Account>>) {
        (self.accounts[0].tag, self.accounts.clone())
    }

    fn call(&mut self, op: &Op, seconds: u64) -> Answers {
        self.bench.call(&self.desk.node, &[op], at(seconds))
    }

    /// Asks for so much for so long.
    fn ask(&mut self, (amount, length): (u64, u64), seconds: u64) -> (Ask, Answers) {
        let (tag, accounts) = self.place();
        let ask = Ask {
            demand: Amounts::ZERO.with(self.metric, amount),
            ttl: Span::from_secs(length),
            name: None,
            id: names::new_id(tag),
            accounts: accounts.clone(),
        };
        let newcomer = (Order::NEWCOMER.0, None);
        let op = self.desk.reserve(&ask, accounts, tag, newcomer);
        let answers = self.call(&op, seconds);
        (ask, answers)
    }

    /// The first letter of the answer.
    fn reserve(&mut self, tokens: u64, seconds: u64) -> char {
        let (_, answers) = self.ask((tokens, 60), seconds);
        char::from(answers.operations[0][0])
    }

    /// Holds one for so long, if it is free.
    fn hold(&mut self, length: u64, seconds: u64) -> Option<(ReservationId, Arc<Held>)> {
        let (ask, answers) = self.ask((1, length), seconds);
        match self.desk.reserved(&ask, &answers, 0)? {
            Heard::Held(_, held) => Some((ask.id, held)),
            _ => None,
        }
    }

    fn used(&mut self, seconds: u64) -> u64 {
        let answers = self.call(&Op::Peek(self.accounts.clone(), Amounts::ZERO), seconds);
        let sheets = self.desk.sheets(&self.accounts, Order(0), &answers);
        remote::standings(&views(&self.accounts, &sheets), at(seconds))[0].used
    }
}

fn at(seconds: u64) -> Time {
    START.plus(Span::from_secs(seconds))
}

#[test]
fn a_slot_that_a_step_back_brings_back_counts() {
    let mut slots = Stepped::open((Metric::CONCURRENCY, 1, Shape::Concurrency));
    let (first, held) = slots.hold(10, 0).expect("it is free");
    let (second, other) = slots.hold(60, 20).expect("its deadline has passed");
    // The clock is set back, and the first is open again, which cannot be undone.
    let more = More::new(Amounts::ZERO, Some(Span::from_secs(100)));
    let op = slots.desk.extend(first, &held, slots.place(), &more);
    let answers = slots.call(&op, 5);
    assert_eq!(answers.operations[0][0], b'A');
    let ending = (Outcome::Cancelled, Ending::Exactly(Amounts::ZERO));
    let finish = slots.desk.finish(second, &other, slots.place(), ending);
    slots.call(&Op::Finish(finish), 6);
    assert!(slots.hold(10, 7).is_none(), "the first has the slot");
    assert!(slots.hold(10, 106).is_some());
}

#[test]
fn what_a_window_has_let_go_does_not_come_back_after_a_step_back() {
    let every = Span::from_secs(10);
    let mut windows = Stepped::open((Metric::TOKENS, 100, Shape::Sliding { every }));
    assert_eq!(windows.reserve(10, 100), 'A');
    assert_eq!(windows.reserve(50, 105), 'A');
    // The clock is set back. What was charged before counts until it would have been let go, at most.
    assert_eq!(windows.reserve(5, 0), 'A');
    assert_eq!(windows.used(9), 65);
    assert_eq!(windows.used(11), 10);
    assert_eq!(windows.reserve(40, 11), 'A');
    assert_eq!(windows.used(11), 50);
    assert_eq!(windows.reserve(51, 11), 'B');
    assert_eq!(windows.reserve(50, 11), 'A');
}
