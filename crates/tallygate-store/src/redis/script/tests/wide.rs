//! Calls that name more accounts and reservations than one command does.
use super::bench::Bench;
use super::rule;
use crate::redis::desk::{Ask, Desk};
use crate::redis::names;
use crate::redis::record::{Ending, Held};
use crate::redis::script::{self, Batch, Node, Op, TEXT};
use crate::redis::sheet::Order;
use std::sync::Arc;
use tallygate_core::{Amounts, Metric, Metrics, Outcome, Policy, Shape, Span, Time};
use tallygate_sim::servers::Engine;

/// A server that runs the script as it is, and rules that all count apart by user.
struct Wide {
    bench: Bench,
    node: Node,
    desk: Desk,
}

impl Wide {
    fn new(engine: Engine, rules: usize) -> Self {
        let every = Span::from_secs(3600);
        let bucket = Shape::Bucket {
            every,
            burst: None,
            strict: false,
        };
        let rules = (0..rules).map(|at| {
            let limits = [(Metric::REQUESTS, 1000, bucket.clone())];
            rule(&format!("r{at}"), &limits)
        });
        let policy = Policy::new(rules.collect(), Metrics::default()).unwrap();
        let mut bench = Bench::running(engine, TEXT);
        let node = bench.node();
        let desk = Desk::new(node.clone(), &policy);
        Self { bench, node, desk }
    }

    fn ask(&self, user: usize) -> Ask {
        let accounts = self.desk.resolve(&[("user", &format!("user-{user}"))]);
        Ask {
            id: names::new_id(accounts[0].tag),
            accounts,
            demand: Amounts::ZERO.with(Metric::REQUESTS, 7),
            ttl: Span::from_secs(300),
            name: None,
        }
    }

    fn reserve(&self, ask: &Ask) -> Op {
        let place = (Order::NEWCOMER.0, None);
        let tag = names::home(ask.id);
        self.desk.reserve(ask, ask.accounts.clone(), tag, place)
    }

    /// Ends a reservation of which nothing was used.
    fn cancel(&self, ask: &Ask) -> Op {
        let held = Arc::new(Held {
            accounts: ask.accounts.clone(),
            parts: vec![ask.demand],
            deadline: Time::MAX,
            name: None,
        });
        let nothing = Ending::Exactly(Amounts::ZERO);
        let place = (names::home(ask.id), ask.accounts.clone());
        let ending = (Outcome::Cancelled, nothing);
        Op::Finish(self.desk.finish(ask.id, &held, place, ending))
    }

    fn batch(&self, ops: &[Op]) -> Batch {
        let ops: Vec<&Op> = ops.iter().collect();
        script::write(&self.node, &ops, Time::ZERO)
    }

    /// The letters of the answers to a call.
    fn say(&mut self, ops: &[Op]) -> String {
        let answers = self.bench.send(&[self.batch(ops)]).remove(0);
        let said = answers.operations.iter().map(|said| char::from(said[0]));
        said.collect()
    }

    fn record(&self, ask: &Ask) -> Vec<u8> {
        names::record(&self.node.prefix, names::home(ask.id), ask.id)
    }

    fn has(&mut self, key: &[u8]) -> bool {
        self.bench.ask::<u64>(&[b"EXISTS", key]) == 1
    }

    /// How many keys there are.
    fn count(&mut self) -> usize {
        self.bench.ask(&["DBSIZE"])
    }
}

#[test]
fn a_call_of_thousands_of_accounts_writes_them_all() {
    const RULES: usize = 150;
    const USERS: usize = 64;
    for engine in Engine::ALL {
        let mut wide = Wide::new(engine, RULES);
        let asks: Vec<Ask> = (0..USERS).map(|user| wide.ask(user)).collect();
        let reserve: Vec<Op> = asks.iter().map(|ask| wide.reserve(ask)).collect();
        assert_eq!(wide.say(&reserve), "A".repeat(USERS), "{engine}");
        assert_eq!(wide.count(), USERS * (RULES + 1), "{engine}");
        let cancel: Vec<Op> = asks.iter().map(|ask| wide.cancel(ask)).collect();
        assert_eq!(wide.say(&cancel), "E".repeat(USERS), "{engine}");
        // The receipts are left.
        assert_eq!(wide.count(), USERS, "{engine}");
    }
}

#[test]
fn more_reservations_than_one_command_names_are_written() {
    const USERS: usize = 4_500;
    for engine in Engine::ALL {
        let mut wide = Wide::new(engine, 1);
        let asks: Vec<Ask> = (0..USERS).map(|user| wide.ask(user)).collect();
        let reserve: Vec<Op> = asks.iter().map(|ask| wide.reserve(ask)).collect();
        assert_eq!(wide.say(&reserve), "A".repeat(USERS), "{engine}");
        assert_eq!(wide.count(), 2 * USERS, "{engine}");
    }
}

#[test]
fn what_goes_wrong_leaves_no_reservation_without_its_charge() {
    for engine in Engine::ALL {
        let mut wide = Wide::new(engine, 3);
        let [broken, first, last] = [0, 1, 2].map(|user| wide.ask(user));
        assert_eq!(wide.say(&[wide.reserve(&broken)]), "A");
        let record = wide.record(&broken);
        let _: () = wide.bench.ask(&[b"SET", &record[..], b"\x01"]);
        let ops = [&first, &last].map(|ask| wide.reserve(ask));
        let [one, other] = ops;
        let batch = wide.batch(&[one, wide.cancel(&broken), other]);
        assert!(wide.bench.refuses(&batch), "{engine}");
        for (ask, there) in [(&first, true), (&last, false)] {
            assert_eq!(wide.has(&wide.record(ask)), there, "{engine}");
            for account in &ask.accounts {
                assert_eq!(wide.has(&account.key), there, "{engine}");
            }
        }
        assert_eq!(wide.say(&[wide.cancel(&first)]), "E", "{engine}");
        assert_eq!(wide.say(&[wide.cancel(&last)]), "U", "{engine}");
    }
}
