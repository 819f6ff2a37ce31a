//! What decisions cost a real server: few of them in a test run, as many as are asked for by
//! `TALLYGATE_FIGURES=20000 cargo test -p tallygate-store --release --lib script::tests::figures -- --nocapture --test-threads 1`
use super::bench::Bench;
use crate::redis::desk::{Ask, Desk, Heard};
use crate::redis::names::{self, Account};
use crate::redis::record::{Ending, Held};
use crate::redis::script::{self, Answers, Batch, Node, Op, TEXT};
use crate::redis::sheet::Order;
use std::sync::Arc;
use tallygate_core::{
    Amounts, Metric, Metrics, Mode, Outcome, Policy, ReservationId, Rule, Shape, Span, StoreDown,
    Time,
};
use tallygate_sim::servers::Engine;

/// A server that runs the script as it is, and a rule of two buckets for each user.
struct Stand {
    bench: Bench,
    node: Node,
    desk: Desk,
}

/// How calls are put together.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Each waits for the one before.
    Alone,
    /// So many in one trip, each a call of its own.
    Pipelined(usize),
    /// So many in one call.
    Batched(usize),
}

impl Stand {
    fn new(engine: Engine) -> Self {
        let mut bench = Bench::running(engine, TEXT);
        let bucket = Shape::Bucket {
            every: Span::from_secs(60),
            burst: None,
            strict: false,
        };
        let rule = Rule {
            name: "user".to_owned(),
            when: Vec::new(),
            per: vec!["user".to_owned()],
            limits: vec![
                (Metric::REQUESTS, 1_000_000, bucket.clone()),
                (Metric::TOKENS, 2_000_000_000, bucket),
            ],
            mode: Mode::Enforce,
            store_down: StoreDown::Closed,
        };
        let policy = Policy::new(vec![rule], Metrics::default()).unwrap();
        let node = bench.node();
        Self {
            desk: Desk::new(node.clone(), &policy),
            bench,
            node,
        }
    }

    fn account(&self, user: usize) -> Vec<Arc<Account>> {
        self.desk.resolve(&[("user", &format!("user-{user}"))])
    }

    fn ask(&self, accounts: Vec<Arc<Account>>) -> Ask {
        Ask {
            id: names::new_id(accounts[0].tag),
            accounts,
            demand: Amounts::call(1000, 700),
            ttl: Span::from_secs(300),
            name: None,
        }
    }

    fn reserving(&self, ask: &Ask) -> Op {
        let place = (Order::NEWCOMER.0, None);
        let tag = names::home(ask.id);
        self.desk.reserve(ask, ask.accounts.clone(), tag, place)
    }

    fn settling(&self, id: ReservationId, held: &Arc<Held>) -> Op {
        let place = (names::home(id), held.accounts.clone());
        let ending = Ending::Exactly(Amounts::call(1000, 430));
        Op::Finish(
            self.desk
                .finish(id, held, place, (Outcome::Settled, ending)),
        )
    }

    /// Sends operations in this way; answers what was said to each.
    fn send(&mut self, ops: &[Op], way: Way) -> Vec<(Arc<Answers>, usize)> {
        let size = match way {
            Way::Batched(size) => size,
            _ => 1,
        };
        let refs: Vec<&Op> = ops.iter().collect();
        let batches: Vec<Batch> = refs
            .chunks(size)
            .map(|ops| script::write(&self.node, ops, Time::ZERO))
            .collect();
        let trip = match way {
            Way::Pipelined(trip) => trip,
            _ => 1,
        };
        let mut answers = Vec::new();
        for batches in batches.chunks(trip) {
            for said in self.bench.send(batches) {
                let said = Arc::new(said);
                let count = said.operations.len();
                answers.extend((0..count).map(|at| (said.clone(), at)));
            }
        }
        answers
    }

    /// Reserves and settles once for each of these users, `open` of them at a time; answers the server's time a pair.
    fn pairs(&mut self, users: &[usize], open: usize, way: Way) -> f64 {
        let asks: Vec<Ask> = users
            .iter()
            .map(|user| self.ask(self.account(*user)))
            .collect();
        let before = self.bench.server.used_cpu().unwrap();
        for asks in asks.chunks(open) {
            let ops: Vec<Op> = asks.iter().map(|ask| self.reserving(ask)).collect();
            let answers = self.send(&ops, way);
            let held = asks.iter().zip(&answers).map(|(ask, (said, at))| {
                match self.desk.reserved(ask, said, *at) {
                    Some(Heard::Held(_, held)) => (ask.id, held),
                    other => panic!("{other:?}"),
                }
            });
            let ops: Vec<Op> = held.map(|(id, held)| self.settling(id, &held)).collect();
            self.send(&ops, way);
        }
        let used = self.bench.server.used_cpu().unwrap() - before;
        used.as_secs_f64() * 1e6 / users.len() as f64
    }
}

/// How many decisions are measured.
fn size() -> usize {
    let asked = std::env::var("TALLYGATE_FIGURES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(1024)
}

/// What the plainest command costs here, to compare other machines with.
#[test]
fn server_time_of_a_get() {
    for engine in Engine::ALL {
        let mut bench = Bench::running(engine, TEXT);
        let before = bench.server.used_cpu().unwrap();
        for _ in 0..size().div_ceil(16) {
            let mut pipe = redis::pipe();
            (0..16).for_each(|_| {
                pipe.cmd("GET").arg("a");
            });
            let _: Vec<redis::Value> = bench.query(&pipe);
        }
        let used = bench.server.used_cpu().unwrap() - before;
        let micros = used.as_secs_f64() * 1e6 / (size().div_ceil(16) * 16) as f64;
        eprintln!("{engine}: {micros:.2} us a GET, 16 in a trip");
    }
}

#[test]
fn server_time_of_a_reservation_and_its_settlement() {
    for engine in Engine::ALL {
        let mut stand = Stand::new(engine);
        let spread: Vec<usize> = (0..size()).collect();
        let hot = vec![0; size()];
        for (name, users) in [("each its own", &spread), ("all of one", &hot)] {
            for (open, way) in [
                (1, Way::Alone),
                (64, Way::Alone),
                (64, Way::Pipelined(16)),
                (64, Way::Batched(16)),
                (64, Way::Batched(64)),
                (512, Way::Batched(64)),
            ] {
                stand.pairs(&users[..size() / 10], open, way);
                let micros = stand.pairs(users, open, way);
                eprintln!("{engine}, {name}, {open} open, {way:?}: {micros:.2} us a pair");
            }
        }
    }
}

#[test]
fn memory_of_a_subject() {
    let subjects = size();
    for engine in Engine::ALL {
        let mut stand = Stand::new(engine);
        let used = |stand: &Stand| -> f64 {
            let info = stand.bench.server.info("memory").unwrap();
            info["used_memory"].parse().unwrap()
        };
        let before = used(&stand);
        let users: Vec<usize> = (0..subjects).collect();
        stand.pairs(&users, 64, Way::Batched(64));
        let with_receipts = used(&stand);
        // What is left once the receipts have gone.
        let keys: Vec<Vec<u8>> = stand.bench.ask(&["KEYS", "*"]);
        let is_record = |key: &&Vec<u8>| key.get(key.len() - 13) == Some(&b'r');
        let records: Vec<&Vec<u8>> = keys.iter().filter(is_record).collect();
        for records in records.chunks(1000) {
            let mut words: Vec<&[u8]> = vec![b"DEL"];
            words.extend(records.iter().map(|key| &key[..]));
            let _: u64 = stand.bench.ask(&words);
        }
        let bytes = (used(&stand) - before) / subjects as f64;
        let receipt = (with_receipts - used(&stand)) / subjects as f64;
        eprintln!("{engine}: {bytes:.0} B a subject with two limits, {receipt:.0} B a receipt");
        assert!(bytes < 512.0, "{bytes} bytes a subject");
    }
}
