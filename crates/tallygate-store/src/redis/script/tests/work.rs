//! What a decision takes of the server does not grow with what is open or asked for.
use super::bench::Bench;
use super::rule;
use crate::redis::desk::{Ask, Desk, Heard};
use crate::redis::names::{self, Account};
use crate::redis::record::{Ending, Held};
use crate::redis::script::{Node, Op};
use crate::redis::sheet::Order;
use std::collections::BTreeMap;
use std::sync::Arc;
use tallygate_core::{Amounts, Metric, Metrics, Outcome, Policy, ReservationId, Shape, Span, Time};
use tallygate_sim::servers::Engine;

struct Crowd {
    bench: Bench,
    node: Node,
    desk: Desk,
    accounts: Vec<Arc<Account>>,
    now: Time,
    open: Vec<(ReservationId, Arc<Held>)>,
}

/// So many calls of each command, and the bytes of the account.
type Work = (BTreeMap<String, u64>, u64);

impl Crowd {
    fn new() -> Self {
        let every = Span::from_secs(60);
        let bucket = Shape::Bucket {
            every,
            burst: None,
            strict: false,
        };
        let most = 1 << 52;
        let limits = [
            (Metric::TOKENS, most, bucket),
            (Metric::REQUESTS, most, Shape::Sliding { every }),
            (Metric::CONCURRENCY, most, Shape::Concurrency),
        ];
        let policy = Policy::new(vec![rule("r", &limits)], Metrics::default()).unwrap();
        let mut bench = Bench::open(Engine::Redis);
        let node = bench.node();
        let desk = Desk::new(node.clone(), &policy);
        Self {
            accounts: desk.resolve(&[("user", "a")]),
            bench,
            node,
            desk,
            now: Time::from_secs(1_800_000_000),
            open: Vec::new(),
        }
    }

    fn reserve(&mut self, count: u64, amount: u64) {
        let asks: Vec<Ask> = (0..count).map(|_| self.ask(amount)).collect();
        for asks in asks.chunks(100) {
            self.now = self.now.plus(Span::from_millis(1));
            let tag = self.accounts[0].tag;
            let op = |ask: &Ask| {
                let place = (Order::NEWCOMER.0, None);
                self.desk.reserve(ask, ask.accounts.clone(), tag, place)
            };
            let ops: Vec<Op> = asks.iter().map(op).collect();
            let ops: Vec<&Op> = ops.iter().collect();
            let answers = self.bench.call(&self.node, &ops, self.now);
            for (at, ask) in asks.iter().enumerate() {
                match self.desk.reserved(ask, &answers, at) {
                    Some(Heard::Held(admission, held)) => self.open.push((admission.id, held)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn ask(&self, amount: u64) -> Ask {
        Ask {
            demand: Amounts::ZERO
                .with(Metric::TOKENS, amount)
                .with(Metric::REQUESTS, amount)
                .with(Metric::CONCURRENCY, amount),
            ttl: Span::from_secs(3600),
            name: None,
            id: names::new_id(self.accounts[0].tag),
            accounts: self.accounts.clone(),
        }
    }

    fn settle(&mut self, at: usize) {
        let (id, held) = self.open.remove(at);
        let place = (self.accounts[0].tag, self.accounts.clone());
        let ending = (Outcome::Settled, Ending::Exactly(Amounts::ZERO));
        let op = Op::Finish(self.desk.finish(id, &held, place, ending));
        self.bench.call(&self.node, &[&op], self.now);
    }

    /// What one reservation and one settlement in the middle take.
    fn work(&mut self, amount: u64) -> Work {
        let _: () = self.bench.ask(&["CONFIG", "RESETSTAT"]);
        self.reserve(1, amount);
        self.settle(self.open.len() / 2);
        let stats = self.bench.server.info("commandstats").unwrap();
        let calls = |text: &str| -> u64 {
            let calls = text.split(',').next().unwrap();
            calls.strip_prefix("calls=").unwrap().parse().unwrap()
        };
        let key = self.accounts[0].key.clone();
        let bytes = self.bench.ask(&[&b"STRLEN"[..], &key]);
        let stats = stats.iter();
        (
            stats
                .map(|(name, text)| (name.clone(), calls(text)))
                .collect(),
            bytes,
        )
    }
}

#[test]
fn ten_thousand_open_take_no_more_than_ten() {
    let mut crowd = Crowd::new();
    crowd.reserve(10, 1);
    let (few, _) = crowd.work(1);
    crowd.reserve(9990, 1);
    let (many, bytes) = crowd.work(1);
    assert_eq!(few, many);
    assert!(bytes < 1100, "{bytes} bytes of an account");
}

#[test]
fn a_thousand_million_take_no_more_than_one() {
    let mut crowd = Crowd::new();
    crowd.reserve(10, 1);
    let (light, few) = crowd.work(1);
    let (heavy, many) = crowd.work(1_000_000_000);
    assert_eq!(light, heavy);
    assert!(many <= few + 100);
}
