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

/// A hundred tokens in any 10 s.
struct Windows {
    bench: Bench,
    desk: Desk,
    accounts: Vec<Arc<Account>>,
}

impl Windows {
    fn open() -> Self {
        let every = Span::from_secs(10);
        let limits = [(Metric::TOKENS, 100, Shape::Sliding { every })];
        let policy = Policy::new(vec![rule("r", &limits)], Metrics::default()).unwrap();
        let mut bench = Bench::open(Engine::Redis);
        let desk = Desk::new(bench.node(), &policy);
        Self {
            accounts: desk.resolve(&[("user", "a")]),
            bench,
            desk,
        }
    }

    /// The first letter of the answer.
    fn reserve(&mut self, tokens: u64, seconds: u64) -> char {
        let ask = Ask {
            demand: Amounts::ZERO.with(Metric::TOKENS, tokens),
            ttl: Span::from_secs(60),
            name: None,
            id: names::new_id(self.accounts[0].tag),
            accounts: self.accounts.clone(),
        };
        let newcomer = (Order::NEWCOMER.0, None);
        let (accounts, tag) = (self.accounts.clone(), self.accounts[0].tag);
        let op = self.desk.reserve(&ask, accounts, tag, newcomer);
        let answers = self.bench.call(&self.desk.node, &[&op], at(seconds));
        char::from(answers.operations[0][0])
    }

    fn used(&mut self, seconds: u64) -> u64 {
        let peek = Op::Peek(self.accounts.clone(), Amounts::ZERO);
        let answers = self.bench.call(&self.desk.node, &[&peek], at(seconds));
        let sheets = self.desk.sheets(&self.accounts, Order(0), &answers);
        remote::standings(&views(&self.accounts, &sheets), at(seconds))[0].used
    }
}

fn at(seconds: u64) -> Time {
    START.plus(Span::from_secs(seconds))
}

/// One subject with one slot.
struct Slots {
    bench: Bench,
    desk: Desk,
    accounts: Vec<Arc<Account>>,
}

impl Slots {
    fn open() -> Self {
        let limits = [(Metric::CONCURRENCY, 1, Shape::Concurrency)];
        let policy = Policy::new(vec![rule("r", &limits)], Metrics::default()).unwrap();
        let mut bench = Bench::open(Engine::Redis);
        let desk = Desk::new(bench.node(), &policy);
        Self {
            accounts: desk.resolve(&[("user", "a")]),
            bench,
            desk,
        }
    }

    fn place(&self) -> (u32, Vec<Arc<Account>>) {
        (self.accounts[0].tag, self.accounts.clone())
    }

    fn call(&mut self, op: &Op, seconds: u64) -> Answers {
        self.bench.call(&self.desk.node, &[op], at(seconds))
    }

    /// Holds the slot for so long, if it is free.
    fn hold(&mut self, length: u64, seconds: u64) -> Option<(ReservationId, Arc<Held>)> {
        let (tag, accounts) = self.place();
        let ask = Ask {
            demand: Amounts::ZERO.with(Metric::CONCURRENCY, 1),
            ttl: Span::from_secs(length),
            name: None,
            id: names::new_id(tag),
            accounts: accounts.clone(),
        };
        let newcomer = (Order::NEWCOMER.0, None);
        let op = self.desk.reserve(&ask, accounts, tag, newcomer);
        let answers = self.call(&op, seconds);
        match self.desk.reserved(&ask, &answers, 0)? {
            Heard::Held(_, held) => Some((ask.id, held)),
            _ => None,
        }
    }
}

#[test]
fn a_slot_that_a_step_back_brings_back_counts() {
    let mut slots = Slots::open();
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
    let mut windows = Windows::open();
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
