//! Keys go by themselves once they mean nothing, and never before; by the server's own clock.
use super::bench::Bench;
use super::rule;
use crate::redis::desk::{Ask, Desk, Heard};
use crate::redis::names::{self, Account};
use crate::redis::record::{Ending, Held};
use crate::redis::script::{self, Answers, Node, Op, TEXT};
use crate::redis::sheet::{Order, micros};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallygate_core::{
    Amounts, Calendar, Metric, Metrics, Outcome, Policy, ReservationId, Shape, Span, Time, remote,
};
use tallygate_sim::servers::Engine;

/// A server that runs the script as it is.
struct Clockwork {
    bench: Bench,
    node: Node,
    desk: Desk,
    accounts: Vec<Arc<Account>>,
    /// When the server was last asked.
    now: Time,
    /// How long it took at most to answer.
    longest: Duration,
}

impl Clockwork {
    fn new(limits: &[(Metric, u64, Shape)]) -> Self {
        let policy = Policy::new(vec![rule("r", limits)], Metrics::default()).unwrap();
        let mut bench = Bench::running(Engine::Redis, TEXT);
        let node = bench.node();
        let desk = Desk::new(node.clone(), &policy);
        let mut clockwork = Self {
            accounts: desk.resolve(&[("user", "a")]),
            bench,
            node,
            desk,
            now: Time::ZERO,
            longest: Duration::ZERO,
        };
        let nothing = Op::Peek(Vec::new(), Amounts::ZERO);
        clockwork.say(&nothing);
        clockwork
    }

    fn say(&mut self, op: &Op) -> Answers {
        loop {
            let batch = script::write(&self.node, &[op], self.now);
            let sent = Instant::now();
            let answers = self.bench.send(&[batch]).remove(0);
            self.longest = self.longest.max(sent.elapsed());
            self.now = answers.now;
            // Empty when a calendar window has just ended.
            if !answers.operations.is_empty() {
                return answers;
            }
        }
    }

    fn reserve(
        &mut self,
        amounts: Amounts,
        ttl: Span,
        name: Option<[u8; 16]>,
    ) -> (ReservationId, Arc<Held>) {
        let ask = Ask {
            accounts: self.accounts.clone(),
            demand: amounts,
            ttl,
            name,
            id: names::new_id(self.accounts[0].tag),
        };
        let place = (Order::NEWCOMER.0, None);
        let op = self
            .desk
            .reserve(&ask, ask.accounts.clone(), self.accounts[0].tag, place);
        let answers = self.say(&op);
        match self.desk.reserved(&ask, &answers, 0) {
            Some(Heard::Held(admission, held)) => (admission.id, held),
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self, (id, held): (ReservationId, Arc<Held>), used: Amounts) {
        let place = (self.accounts[0].tag, self.accounts.clone());
        let ending = (Outcome::Settled, Ending::Exactly(used));
        let op = Op::Finish(self.desk.finish(id, &held, place, ending));
        self.say(&op);
    }

    /// When the account is as a fresh one by what is said of it.
    fn fresh_at(&mut self) -> Time {
        let op = Op::Peek(self.accounts.clone(), Amounts::ZERO);
        let answers = self.say(&op);
        let sheets = self.desk.sheets(&self.accounts, Order(0), &answers);
        let views = crate::redis::desk::views(&self.accounts, &sheets);
        let standings = remote::standings(&views, self.now);
        let resets = standings.iter().map(|standing| standing.reset);
        self.now.plus(resets.max().unwrap().into())
    }

    /// When a key goes: in milliseconds, or why it does not.
    fn goes_at(&mut self, key: &[u8]) -> i64 {
        self.bench.ask(&[b"PEXPIRETIME", key])
    }

    fn account_goes_at(&mut self) -> i64 {
        let key = self.accounts[0].key.clone();
        self.goes_at(&key)
    }

    /// How much later than it should a key may go, in microseconds: what is rounded, and as long as the server may have
    /// halted between reading its clock and writing.
    fn late(&self) -> i64 {
        3000 + self.longest.as_micros() as i64
    }

    /// Checks that the account goes when it is fresh, and not much later.
    fn goes_when_fresh(&mut self, later: Duration) {
        let fresh = micros(self.fresh_at()) as i64;
        let goes = self.account_goes_at() * 1000;
        let most = fresh + later.as_micros() as i64 + self.late();
        assert!(
            (fresh..=most).contains(&goes),
            "fresh at {fresh}, gone at {goes}"
        );
    }
}

const GONE: i64 = -2;
const LIFE: Span = Span::from_secs(40);

fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

fn bucket(every: Span) -> Shape {
    Shape::Bucket {
        every,
        burst: None,
        strict: false,
    }
}

#[test]
fn a_bucket_goes_when_it_is_full_again() {
    let mut clockwork = Clockwork::new(&[(Metric::TOKENS, 1000, bucket(Span::from_secs(600)))]);
    let open = clockwork.reserve(tokens(500), LIFE, None);
    clockwork.goes_when_fresh(Duration::ZERO);
    clockwork.settle(open, tokens(300));
    clockwork.goes_when_fresh(Duration::ZERO);
}

#[test]
fn an_open_reservation_keeps_its_bucket() {
    let mut clockwork = Clockwork::new(&[(Metric::TOKENS, 1000, bucket(Span::from_secs(1)))]);
    clockwork.reserve(tokens(1), LIFE, None);
    let deadline = micros(clockwork.now.plus(LIFE)) as i64;
    let goes = clockwork.account_goes_at() * 1000;
    assert!((deadline..=deadline + clockwork.late()).contains(&goes));
}

#[test]
fn what_is_given_back_whole_leaves_nothing() {
    let hour = Span::from_secs(3600);
    let month = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    for (is_window, shape) in [(false, bucket(hour)), (true, month)] {
        let mut clockwork = Clockwork::new(&[
            (Metric::TOKENS, 1000, shape),
            (Metric::CONCURRENCY, 2, Shape::Concurrency),
        ]);
        let amounts = tokens(10).with(Metric::CONCURRENCY, 1);
        let open = clockwork.reserve(amounts, LIFE, None);
        clockwork.settle(open, Amounts::ZERO);
        // Windows do not know that nothing else is open: they stay to the deadline.
        let goes = clockwork.account_goes_at();
        let latest = micros(clockwork.now.plus(LIFE)) as i64 / 1000 + clockwork.late() / 1000;
        assert!(goes == GONE || is_window && goes <= latest, "{goes}");
        let zset = clockwork.accounts[0].slots(&clockwork.node.prefix).unwrap();
        assert_eq!(clockwork.goes_at(&zset), GONE);
    }
}

#[test]
fn a_sliding_window_goes_when_its_last_charge_leaves_it() {
    let every = Span::from_secs(600);
    let mut clockwork = Clockwork::new(&[(Metric::TOKENS, 1000, Shape::Sliding { every })]);
    for _ in 0..3 {
        let open = clockwork.reserve(tokens(10), LIFE, None);
        clockwork.settle(open, tokens(7));
    }
    clockwork.goes_when_fresh(Duration::ZERO);
}

#[test]
fn a_calendar_window_goes_when_it_ends() {
    let shape = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let mut clockwork = Clockwork::new(&[(Metric::TOKENS, 1000, shape)]);
    let open = clockwork.reserve(tokens(10), LIFE, None);
    clockwork.settle(open, tokens(7));
    clockwork.goes_when_fresh(Duration::ZERO);
}

#[test]
fn slots_go_before_their_account() {
    let mut clockwork = Clockwork::new(&[(Metric::CONCURRENCY, 5, Shape::Concurrency)]);
    let slot = Amounts::ZERO.with(Metric::CONCURRENCY, 1);
    clockwork.reserve(slot, LIFE, None);
    clockwork.reserve(slot, Span::from_secs(400), None);
    clockwork.goes_when_fresh(Duration::from_secs(180));
    let zset = clockwork.accounts[0].slots(&clockwork.node.prefix).unwrap();
    let goes = clockwork.goes_at(&zset);
    assert!(goes * 1000 >= micros(clockwork.fresh_at()) as i64);
    assert!(clockwork.account_goes_at() > goes);
}

#[test]
fn a_record_stays_two_minutes_longer_than_what_it_tells_of() {
    let mut clockwork = Clockwork::new(&[(Metric::TOKENS, 1000, bucket(Span::from_secs(60)))]);
    let name = [7; 16];
    let (id, held) = clockwork.reserve(tokens(10), LIFE, Some(name));
    let tag = clockwork.accounts[0].tag;
    let keys = [
        names::record(&clockwork.node.prefix, tag, id),
        names::key(&clockwork.node.prefix, tag, b'n', &name),
    ];
    for key in &keys {
        let ends = micros(clockwork.now.plus(LIFE)) as i64 / 1000 + 120_000;
        let late = clockwork.late() / 1000;
        assert!((ends - 3..=ends + late).contains(&clockwork.goes_at(key)));
    }
    clockwork.settle((id, held), tokens(10));
    for key in &keys {
        let ends = micros(clockwork.now) as i64 / 1000 + 120_000;
        let late = clockwork.late() / 1000;
        assert!((ends - 3..=ends + late).contains(&clockwork.goes_at(key)));
    }
}

#[test]
fn a_key_that_has_ended_is_gone() {
    let limits = [(Metric::TOKENS, 1000, bucket(Span::from_secs(1)))];
    let mut clockwork = Clockwork::new(&limits);
    let open = clockwork.reserve(tokens(100), LIFE, None);
    let began = Instant::now();
    clockwork.settle(open, tokens(100));
    let fresh = clockwork.fresh_at();
    while clockwork.account_goes_at() != GONE {
        assert!(began.elapsed() < Duration::from_secs(30), "the key stays");
    }
    let nothing = Op::Peek(Vec::new(), Amounts::ZERO);
    clockwork.say(&nothing);
    assert!(clockwork.now >= fresh, "gone before it was fresh");
}
