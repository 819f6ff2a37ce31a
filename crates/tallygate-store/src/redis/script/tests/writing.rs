//! What many operations write goes to the server at one go where it can, and says the same where it cannot.
use super::bench::Bench;
use super::rule;
use crate::redis::desk::{Ask, Desk};
use crate::redis::names;
use crate::redis::record::{Ending, Held};
use crate::redis::script::{self, Answers, Node, Op, TEXT, TIMED};
use crate::redis::sheet::Order;
use std::sync::Arc;
use tallygate_core::{Amounts, Calendar, Metric, Metrics, Outcome, Policy, Shape, Span, Time};
use tallygate_sim::servers::Engine;

/// A server that runs the script as it is.
struct Writing {
    bench: Bench,
    node: Node,
    desk: Desk,
}

/// Reservations of a call, each of another user.
const MANY: usize = 20;

impl Writing {
    fn new(engine: Engine, writes_many: bool) -> Self {
        let mut bench = Bench::running(engine, TEXT);
        bench.writes_many = writes_many;
        Self::around(bench, &[])
    }

    /// With so many more limits.
    fn around(mut bench: Bench, more: &[(Metric, u64, Shape)]) -> Self {
        let bucket = Shape::Bucket {
            every: Span::from_secs(60),
            burst: None,
            strict: false,
        };
        let limits = [
            (Metric::REQUESTS, 60, bucket.clone()),
            (Metric::TOKENS, 100_000, bucket),
        ];
        let limits = [&limits, more].concat();
        let policy = Policy::new(vec![rule("r", &limits)], Metrics::default()).unwrap();
        let node = bench.node();
        Self {
            desk: Desk::new(node.clone(), &policy),
            bench,
            node,
        }
    }

    fn asks(&self) -> Vec<Ask> {
        let ask = |user| {
            let accounts = self.desk.resolve(&[("user", &format!("user-{user}"))]);
            Ask {
                id: names::new_id(accounts[0].tag),
                accounts,
                demand: Amounts::call(1000, 700),
                ttl: Span::from_secs(300),
                name: None,
            }
        };
        (0..MANY).map(ask).collect()
    }

    fn reserve(&self, ask: &Ask) -> Op {
        let place = (Order::NEWCOMER.0, None);
        let tag = names::home(ask.id);
        self.desk.reserve(ask, ask.accounts.clone(), tag, place)
    }

    fn settle(&self, ask: &Ask) -> Op {
        let held = Arc::new(Held {
            accounts: ask.accounts.clone(),
            parts: vec![ask.demand],
            deadline: Time::MAX,
            name: None,
        });
        let used = Ending::Exactly(Amounts::call(1000, 430));
        let place = (names::home(ask.id), ask.accounts.clone());
        let finish = self
            .desk
            .finish(ask.id, &held, place, (Outcome::Settled, used));
        Op::Finish(finish)
    }

    /// The letters of the answers to a call.
    fn say(&mut self, ops: &[Op]) -> String {
        let ops: Vec<&Op> = ops.iter().collect();
        let batch = script::write(&self.node, &ops, Time::ZERO);
        letters(&self.bench.send(&[batch]).remove(0))
    }

    /// The same from the timed script.
    fn say_timed(&mut self, ops: &[Op]) -> String {
        let ops: Vec<&Op> = ops.iter().collect();
        let now = Time::from_secs(1_800_000_000);
        letters(&self.bench.call(&self.node, &ops, now))
    }

    /// How often the server ran a command that did not fail.
    fn ran(&self, command: &str) -> u64 {
        let stats = self.bench.server.info("commandstats").unwrap();
        let Some(stats) = stats.get(&format!("cmdstat_{command}")) else {
            return 0;
        };
        let field = |name: &str| {
            let mut fields = stats.split(',');
            let value = fields.find_map(|field| field.strip_prefix(name));
            value.map_or(0, |value| value.parse::<u64>().unwrap())
        };
        field("calls=") - field("rejected_calls=") - field("failed_calls=")
    }

    /// Reserves and settles for many users at once; answers how often one and how often many keys were written.
    fn writes(&mut self) -> (u64, u64) {
        let asks = self.asks();
        let ops: Vec<Op> = asks.iter().map(|ask| self.reserve(ask)).collect();
        assert_eq!(self.say(&ops), "A".repeat(MANY));
        let ops: Vec<Op> = asks.iter().map(|ask| self.settle(ask)).collect();
        assert_eq!(self.say(&ops), "E".repeat(MANY));
        assert_eq!(self.say(&ops), "O".repeat(MANY));
        (self.ran("set"), self.ran("msetex"))
    }

    /// Every key and how long it lives, in seconds.
    fn lives(&mut self) -> Vec<u64> {
        let keys: Vec<Vec<u8>> = self.bench.ask(&["KEYS", "*"]);
        let life = |key: Vec<u8>| self.bench.ask::<i64>(&[b"TTL", &key[..]]);
        let lives: Vec<i64> = keys.into_iter().map(life).collect();
        lives
            .into_iter()
            .map(|life| life.try_into().unwrap())
            .collect()
    }
}

fn letters(answers: &Answers) -> String {
    let said = answers.operations.iter();
    said.map(|said| char::from(said[0])).collect()
}

#[test]
fn many_are_written_at_one_go_where_the_server_can() {
    let one_by_one = 4 * MANY as u64;
    let mut writing = Writing::new(Engine::Valkey, true);
    let (one, many) = writing.writes();
    assert_eq!(one, 0);
    assert!((4..12).contains(&many), "{many}");
    let lives = writing.lives();
    assert_eq!(lives.len(), 2 * MANY);
    assert!(lives.iter().all(|life| *life <= 120), "{lives:?}");
    for (engine, writes_many) in [(Engine::Valkey, false), (Engine::Redis, true)] {
        let mut other = Writing::new(engine, writes_many);
        assert_eq!(other.writes(), (one_by_one, 0), "{engine}");
        assert_eq!(other.lives().len(), lives.len(), "{engine}");
    }
}

#[test]
fn what_waits_to_be_written_is_found_by_what_comes_after_it() {
    for engine in Engine::ALL {
        let mut writing = Writing::new(engine, true);
        let asks = writing.asks();
        let [first, second, ..] = &asks[..] else {
            panic!("there are more");
        };
        let ops = [
            writing.reserve(first),
            writing.reserve(second),
            writing.reserve(first),
            writing.settle(first),
            writing.settle(first),
            writing.reserve(first),
            writing.settle(second),
        ];
        assert_eq!(writing.say(&ops), "AAPEOPE", "{engine}");
    }
}

/// A script that answers with an error where it would make functions for what is not plain.
fn without_others() -> String {
    let refusal = "\nif true then return redis.error_reply('ERR not plain') end\n";
    let text = TIMED.replacen("\n-- Making -", &format!("{refusal}-- Making -"), 1);
    assert_ne!(text, TIMED);
    text
}

#[test]
fn what_nearly_all_calls_do_makes_no_functions() {
    let month = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    for engine in Engine::ALL {
        let bench = Bench::running(engine, &without_others());
        let mut writing = Writing::around(bench, &[(Metric::INPUT_TOKENS, 1 << 40, month.clone())]);
        for ask in &writing.asks()[..2] {
            assert_eq!(writing.say_timed(&[writing.reserve(ask)]), "A", "{engine}");
            assert_eq!(writing.say_timed(&[writing.settle(ask)]), "E", "{engine}");
        }
        let asks = writing.asks();
        let ops: Vec<Op> = asks.iter().map(|ask| writing.reserve(ask)).collect();
        assert_eq!(writing.say_timed(&ops), "A".repeat(MANY), "{engine}");
        let ops: Vec<Op> = asks.iter().map(|ask| writing.settle(ask)).collect();
        assert_eq!(writing.say_timed(&ops), "E".repeat(MANY), "{engine}");
    }
}

/// Apart from those for many writes at one go, which a batch shares.
#[test]
fn a_plain_call_runs_through_no_function() {
    for text in [
        include_str!("../call.lua"),
        include_str!("../plain.lua"),
        include_str!("../running.lua"),
        include_str!("../closing.lua"),
    ] {
        let code = text.lines().filter(|line| !line.trim().starts_with("--"));
        let made: Vec<&str> = code.filter(|line| line.contains("function")).collect();
        assert_eq!(made, Vec::<&str>::new());
    }
    let writing = include_str!("../writing.lua");
    let (before, _) = writing.split_once("\nif many then\n").unwrap();
    assert!(!before.contains("function"));
}
