//! What is sent twice takes effect once, and what comes after it was withdrawn takes none.
use super::bench::Bench;
use super::rule;
use crate::redis::desk::{Ask, Desk, Done, Heard, More, views};
use crate::redis::names::{self, Account};
use crate::redis::record::{Ending, Held, Record};
use crate::redis::script::{Answers, Op};
use crate::redis::sheet::Order;
use std::sync::Arc;
use tallygate_core::{
    Amounts, Extended, Metric, Metrics, Outcome, Policy, Replay, Shape, Span, Time, remote,
};
use tallygate_sim::servers::Engine;

pub(super) const NOW: Time = Time::from_secs(1_800_000_000);

/// One subject with a bucket of a hundred tokens and two slots.
pub(super) struct Twice {
    pub(super) bench: Bench,
    pub(super) desk: Desk,
    pub(super) accounts: Vec<Arc<Account>>,
}

impl Twice {
    pub(super) fn open() -> Self {
        let bucket = Shape::Bucket {
            every: Span::from_secs(3600),
            burst: None,
            strict: false,
        };
        let limits = [
            (Metric::TOKENS, 100, bucket),
            (Metric::CONCURRENCY, 2, Shape::Concurrency),
        ];
        let policy = Policy::new(vec![rule("r", &limits)], Metrics::default()).unwrap();
        let mut bench = Bench::open(Engine::Redis);
        let desk = Desk::new(bench.node(), &policy);
        Self {
            accounts: desk.resolve(&[("user", "a")]),
            bench,
            desk,
        }
    }

    pub(super) fn ask(&self, tokens: u64) -> Ask {
        Ask {
            demand: Amounts::ZERO
                .with(Metric::TOKENS, tokens)
                .with(Metric::CONCURRENCY, 1),
            ttl: Span::from_secs(60),
            name: None,
            id: names::new_id(self.accounts[0].tag),
            accounts: self.accounts.clone(),
        }
    }

    pub(super) fn reserve(&self, ask: &Ask) -> Op {
        let newcomer = (Order::NEWCOMER.0, None);
        let tag = self.accounts[0].tag;
        self.desk.reserve(ask, self.accounts.clone(), tag, newcomer)
    }

    pub(super) fn call(&mut self, op: &Op) -> Answers {
        self.bench.call(&self.desk.node, &[op], NOW)
    }

    pub(super) fn reserved(&mut self, ask: &Ask) -> Heard {
        let answers = self.call(&self.reserve(ask));
        self.desk.reserved(ask, &answers, 0).unwrap()
    }

    pub(super) fn held(&mut self, ask: &Ask) -> Arc<Held> {
        match self.reserved(ask) {
            Heard::Held(_, held) => held,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn place(&self) -> (u32, Vec<Arc<Account>>) {
        (self.accounts[0].tag, self.accounts.clone())
    }

    /// What is taken of each limit.
    pub(super) fn used(&mut self) -> Vec<u64> {
        let answers = self.call(&Op::Peek(self.accounts.clone(), Amounts::ZERO));
        let sheets = self.desk.sheets(&self.accounts, Order(0), &answers);
        let standings = remote::standings(&views(&self.accounts, &sheets), NOW);
        standings.iter().map(|standing| standing.used).collect()
    }
}

/// The first of two that are sent takes all that there is: the second must not be in its own way.
#[test]
fn a_reservation_sent_again_is_the_same() {
    let mut twice = Twice::open();
    let ask = twice.ask(100);
    twice.held(&ask);
    for _ in 0..2 {
        match twice.reserved(&ask) {
            Heard::Known(admission, Some(held)) => {
                assert_eq!((admission.id, admission.replay), (ask.id, Replay::Fresh));
                assert_eq!(admission.reserved, ask.demand);
                assert_eq!(held.total(), ask.demand);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(twice.used(), [100, 1]);
    }
}

#[test]
fn a_settlement_sent_again_is_the_same() {
    let mut twice = Twice::open();
    let ask = twice.ask(80);
    let held = twice.held(&ask);
    let used = Ending::Exactly(Amounts::ZERO.with(Metric::TOKENS, 30));
    let finish = twice
        .desk
        .finish(ask.id, &held, twice.place(), (Outcome::Settled, used));
    let finish = Op::Finish(finish);
    let receipts: Vec<_> = (0..3)
        .map(|_| {
            let answers = twice.call(&finish);
            match twice.desk.finished(Outcome::Settled, &answers, 0).unwrap() {
                Done::Ended(receipt) => receipt,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
    assert_eq!(receipts[0].returned.get(Metric::TOKENS), 50);
    assert_eq!(twice.used(), [30, 0]);
}

/// A reservation whose caller gave up may still be on its way when it is withdrawn.
#[test]
fn a_reservation_that_comes_after_its_withdrawal_holds_nothing() {
    let mut twice = Twice::open();
    let ask = twice.ask(80);
    let held = Arc::new(Held {
        accounts: twice.accounts.clone(),
        parts: vec![ask.demand],
        deadline: Time::MAX,
        name: None,
    });
    let withdraw = twice.desk.withdraw(ask.id, &held, twice.place());
    twice.call(&withdraw);
    for _ in 0..2 {
        let answers = twice.call(&twice.reserve(&ask));
        assert!(twice.desk.reserved(&ask, &answers, 0).is_none());
        assert_eq!(twice.used(), [0, 0]);
        twice.call(&withdraw);
    }
    let answers = twice.call(&twice.desk.look(ask.id));
    assert!(twice.desk.looked(&answers, 0).is_none(), "it is unknown");
    let again = twice.ask(80);
    twice.held(&again);
}

/// An extension counts once, however often it comes, until another reservation's turn; taken back, nothing of it is left.
#[test]
fn an_extension_sent_again_is_the_same_and_can_be_taken_back() {
    let mut twice = Twice::open();
    let ask = twice.ask(30);
    let held = twice.held(&ask);
    let amounts = Amounts::ZERO
        .with(Metric::TOKENS, 20)
        .with(Metric::CONCURRENCY, 1);
    let more = More::new(amounts, None);
    let extend = twice.desk.extend(ask.id, &held, twice.place(), &more);
    for _ in 0..3 {
        let answers = twice.call(&extend);
        let done = twice.desk.extended(&held, &amounts, &answers, 0);
        let done = done.expect("an answer");
        assert!(
            matches!(done, Done::Extended(Extended::Granted { .. })),
            "{done:?}"
        );
        assert_eq!(twice.used(), [50, 2]);
    }
    // Another of the same size is another.
    let other = More::new(amounts, None);
    let stranger = twice.desk.retract(ask.id, &held, twice.place(), &other);
    twice.call(&stranger);
    assert_eq!(twice.used(), [50, 2]);
    let retract = twice.desk.retract(ask.id, &held, twice.place(), &more);
    for _ in 0..2 {
        twice.call(&retract);
        assert_eq!(twice.used(), [30, 1]);
    }
    let answers = twice.call(&twice.desk.look(ask.id));
    match twice.desk.looked(&answers, 0) {
        Some(Record::Open(found)) => assert_eq!(found.parts, held.parts),
        other => panic!("{other:?}"),
    }
}
