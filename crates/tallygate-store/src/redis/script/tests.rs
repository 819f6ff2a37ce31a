//! The script against the core: the same operations, the same answers.
mod again;
pub(in crate::redis) mod bench;
mod case;
mod crowded;
mod differential;
mod draw;
mod expiry;
mod figures;
mod halves;
mod hostile;
mod leases;
mod lines;
mod saying;
mod steps;
mod twins;
mod verdict;
mod wide;
mod work;
mod writing;

use crate::redis::desk::{Ask, Desk, Done, Heard};
use crate::redis::names;
use crate::redis::record::Ending;
use crate::redis::script::{self, Answers, Node, Op, TIMED};
use redis::Value;
use std::sync::Arc;
use tallygate_core::{Amounts, Metric, Metrics, Outcome, Policy, Rule, Shape, Span, Time};
use tallygate_sim::servers::{Engine, Server};

/// A real server with the timed script, and a desk.
struct Bench {
    connection: redis::Connection,
    _server: Server,
    desk: Desk,
}

impl Bench {
    fn open(engine: Engine, policy: &Policy) -> Self {
        let server = Server::start(engine, &[]).unwrap();
        let node = Node {
            name: *b"node0001",
            prefix: "tg".into(),
            sees_subscribers: true,
            writes_many: true,
        };
        Self {
            connection: server.connect().unwrap(),
            _server: server,
            desk: Desk::new(node, policy),
        }
    }

    fn call(&mut self, ops: &[&Op], now: Time) -> Answers {
        let mut batch = script::write(&self.desk.node, ops, now);
        script::timed(&mut batch, now);
        let mut command = redis::cmd("EVAL");
        command.arg(TIMED).arg(batch.keys.len());
        for part in batch.keys.iter().chain(&batch.args) {
            command.arg(part);
        }
        let values: Vec<Value> = command.query(&mut self.connection).unwrap();
        script::read(&batch, values).unwrap()
    }
}

fn rule(name: &str, limits: &[(Metric, u64, Shape)]) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: vec!["user".to_owned()],
        limits: limits.to_vec(),
        mode: tallygate_core::Mode::Enforce,
        store_down: tallygate_core::StoreDown::Closed,
    }
}

#[test]
fn a_reservation_is_held_and_settled() {
    let every = Span::from_secs(10);
    let bucket = Shape::Bucket {
        every,
        burst: None,
        strict: false,
    };
    let limits = [
        (Metric::TOKENS, 100, bucket),
        (Metric::REQUESTS, 7, Shape::Sliding { every }),
        (Metric::CONCURRENCY, 2, Shape::Concurrency),
    ];
    let policy = Policy::new(vec![rule("r", &limits)], Metrics::default()).unwrap();
    let mut bench = Bench::open(Engine::Redis, &policy);
    let now = Time::from_secs(1_800_000_000);
    let accounts = bench.desk.resolve(&[("user", "a")]);
    let tag = accounts[0].tag;
    let ask = Ask {
        demand: Amounts::ZERO
            .with(Metric::TOKENS, 60)
            .with(Metric::REQUESTS, 1)
            .with(Metric::CONCURRENCY, 1),
        ttl: Span::from_secs(60),
        name: None,
        id: names::new_id(tag),
        accounts: accounts.clone(),
    };
    let newcomer = (super::super::sheet::Order::NEWCOMER.0, None);
    let op = bench
        .desk
        .reserve(&ask, accounts.clone(), tag, newcomer.clone());
    let answers = bench.call(&[&op], now);
    let Some(Heard::Held(admission, held)) = bench.desk.reserved(&ask, &answers, 0) else {
        panic!("{answers:?}");
    };
    assert_eq!(admission.standings[0].remaining, 40);
    let second = Ask {
        id: names::new_id(tag),
        ..ask.clone()
    };
    let op = bench.desk.reserve(&second, accounts.clone(), tag, newcomer);
    let answers = bench.call(&[&op], now);
    let heard = bench.desk.reserved(&second, &answers, 0);
    let Some(Heard::Blocked(blocks)) = heard else {
        panic!("{heard:?}");
    };
    assert_eq!(blocks[0].instant, now.plus(Span::from_secs(2)));
    let used = Amounts::ZERO
        .with(Metric::TOKENS, 25)
        .with(Metric::REQUESTS, 1);
    let finish = bench.desk.finish(
        admission.id,
        &held,
        (tag, accounts.clone()),
        (Outcome::Settled, Ending::Exactly(used)),
    );
    let answers = bench.call(&[&Op::Finish(finish)], now);
    let Some(Done::Ended(receipt)) = bench.desk.finished(Outcome::Settled, &answers, 0) else {
        panic!("{answers:?}");
    };
    assert_eq!(receipt.charged, used);
    let answers = bench.call(&[&Op::Peek(accounts.clone(), Amounts::ZERO)], now);
    let sheets = bench
        .desk
        .sheets(&accounts, super::super::sheet::Order(0), &answers);
    let views = crate::redis::desk::views(&accounts, &sheets);
    let standings = tallygate_core::remote::standings(&views, now);
    let used: Vec<u64> = standings.iter().map(|standing| standing.used).collect();
    assert_eq!(used, [25, 1, 0]);
    let _ = Arc::new(());
}
