//! A server's clock that is set.
use super::bench::Bench;
use super::rule;
use crate::redis::desk::{Ask, Desk, views};
use crate::redis::names::{self, Account};
use crate::redis::script::Op;
use crate::redis::sheet::Order;
use std::sync::Arc;
use tallygate_core::{Amounts, Metric, Metrics, Policy, Shape, Span, Time, remote};
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
