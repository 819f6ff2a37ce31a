//! What the script does with shares.
use crate::redis::desk::{Ask, Desk, views};
use crate::redis::names::{self, Account};
use crate::redis::script::tests::bench::Bench;
use crate::redis::script::{Answers, Lease, Node, Op, Stand};
use crate::redis::sheet::{Order, Sheet};
use std::sync::Arc;
use tallygate_core::remote::standings;
use tallygate_core::{
    Amounts, Calendar, Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown, Time,
};
use tallygate_sim::servers::Engine;

const START: u64 = 1_800_000_000;

/// Processes that share one account with one limit of 100 tokens.
struct Table {
    bench: Bench,
    node: Node,
    policy: Policy,
    account: Arc<Account>,
    turn: u64,
}

fn policy(amount: u64, shape: Shape) -> Policy {
    let rule = Rule {
        name: "tokens".to_owned(),
        when: Vec::new(),
        per: vec!["user".to_owned()],
        limits: vec![(Metric::TOKENS, amount, shape)],
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    };
    Policy::new(vec![rule], Metrics::default()).unwrap()
}

fn bucket() -> Shape {
    Shape::Bucket {
        every: Span::from_secs(10),
        burst: None,
        strict: false,
    }
}

fn at(millis: u64) -> Time {
    Time::from_secs(START).plus(Span::from_millis(millis))
}

impl Table {
    fn open(shape: Shape) -> Self {
        let mut bench = Bench::open(Engine::Redis);
        let node = bench.node();
        let policy = policy(100, shape);
        let desk = Desk::new(node.clone(), &policy);
        let account = desk.resolve(&[("user", "a")]).remove(0);
        Self {
            bench,
            node,
            policy,
            account,
            turn: 0,
        }
    }

    fn process(&self, number: u8) -> Node {
        let mut node = self.node.clone();
        node.name[7] = b'0' + number;
        node
    }

    fn change_amount(&mut self, amount: u64, shape: Shape) {
        self.policy = policy(amount, shape);
        let desk = Desk::new(self.node.clone(), &self.policy);
        self.account = desk.resolve(&[("user", "a")]).remove(0);
    }

    /// A first report: it asks for a share, with nothing to stay free beside it.
    fn wish(&mut self, more: u64) -> Lease {
        self.turn += 1;
        Lease {
            account: self.account.clone(),
            ttl: 2_000_000,
            turn: self.turn,
            known: false,
            ahead: false,
            spent: vec![0],
            over: vec![0],
            back: vec![0],
            more: vec![more],
            spare: vec![0],
        }
    }

    /// A later one.
    fn tell(&mut self, spent: u64, back: u64) -> Lease {
        let mut lease = self.wish(0);
        lease.known = true;
        (lease.spent, lease.back) = (vec![spent], vec![back]);
        lease
    }

    fn call(&mut self, process: u8, op: Op, millis: u64) -> Answers {
        let node = self.process(process);
        self.bench.call(&node, &[&op], at(millis))
    }

    /// The first letter of the answer, and whether the share grew.
    fn report(&mut self, process: u8, lease: &Lease, millis: u64) -> (char, bool) {
        let answers = self.call(process, Op::Lease(lease.clone()), millis);
        let said = &answers.operations[0];
        (char::from(said[0]), said.get(1) == Some(&1))
    }

    fn reserve(&mut self, process: u8, amount: u64, millis: u64) -> char {
        self.reserve_or(process, (amount, None), millis)
    }

    /// Reserves, or stands in line.
    fn reserve_or(
        &mut self,
        process: u8,
        (amount, stand): (u64, Option<Stand>),
        millis: u64,
    ) -> char {
        let desk = Desk::new(self.process(process), &self.policy);
        let ask = Ask {
            accounts: vec![self.account.clone()],
            demand: Amounts::ZERO.with(Metric::TOKENS, amount),
            ttl: Span::from_secs(60),
            name: None,
            id: names::new_id(self.account.tag),
        };
        let place = (Order::NEWCOMER.0, stand);
        let op = desk.reserve(&ask, ask.accounts.clone(), self.account.tag, place);
        char::from(self.call(process, op, millis).operations[0][0])
    }

    fn sheet(&mut self, millis: u64) -> Sheet {
        let peek = Op::Peek(vec![self.account.clone()], Amounts::ZERO);
        let answers = self.call(9, peek, millis);
        let desk = Desk::new(self.node.clone(), &self.policy);
        let accounts = std::slice::from_ref(&self.account);
        desk.sheets(accounts, Order(0), &answers).remove(0)
    }

    /// What is taken, shares included.
    fn used(&mut self, millis: u64) -> u64 {
        let sheet = self.sheet(millis);
        let accounts = [self.account.clone()];
        let sheets = [sheet];
        standings(&views(&accounts, &sheets), at(millis))[0].used
    }

    fn shares(&mut self, millis: u64) -> Vec<u64> {
        let leases = self.sheet(millis).leases;
        leases.iter().map(|lease| lease.amounts[0]).collect()
    }
}

#[test]
fn a_share_is_nobody_elses() {
    for shape in [
        bucket(),
        Shape::Sliding {
            every: Span::from_secs(10),
        },
        day(),
    ] {
        let mut table = Table::open(shape);
        let wish = table.wish(60);
        assert_eq!(table.report(1, &wish, 0), ('L', true));
        assert_eq!(table.reserve(2, 41, 0), 'B');
        assert_eq!(table.reserve(2, 40, 0), 'A');
        let wish = table.wish(1);
        assert_eq!(table.report(3, &wish, 0), ('L', false));
        assert_eq!(table.used(0), 100);
    }
}

fn day() -> Shape {
    Shape::Fixed {
        window: Calendar::Day,
        timezone: jiff::tz::TimeZone::UTC,
    }
}

#[test]
fn what_is_spent_is_charged_and_what_is_given_back_is_free() {
    let mut table = Table::open(day());
    let wish = table.wish(60);
    table.report(1, &wish, 0);
    let told = table.tell(10, 30);
    assert_eq!(table.report(1, &told, 100).0, 'L');
    assert_eq!((table.shares(100), table.used(100)), (vec![20], 30));
    assert_eq!(table.reserve(2, 71, 100), 'B');
    assert_eq!(table.reserve(2, 70, 100), 'A');
}

#[test]
fn a_report_that_is_repeated_or_late_counts_once() {
    let mut table = Table::open(day());
    let wish = table.wish(60);
    assert_eq!(table.report(1, &wish, 0), ('L', true));
    assert_eq!(table.report(1, &wish, 1), ('L', true));
    assert_eq!(table.shares(1), [60]);
    let first = table.tell(10, 0);
    table.report(1, &first, 2);
    let second = table.tell(5, 5);
    table.report(1, &second, 3);
    table.report(1, &second, 4);
    assert_eq!(table.report(1, &first, 5).0, 'O');
    assert_eq!(table.report(1, &wish, 6).0, 'O');
    assert_eq!((table.shares(6), table.used(6)), (vec![40], 55));
    // All given back: the numbers are remembered while a report may be under way.
    let last = table.tell(0, 40);
    table.report(1, &last, 7);
    assert_eq!(table.report(1, &second, 8).0, 'O');
    assert_eq!(table.report(1, &last, 9).0, 'L');
    assert_eq!((table.shares(9), table.used(9)), (vec![0], 15));
}

#[test]
fn a_share_that_is_not_renewed_counts_as_spent_when_it_ended() {
    // A bucket refills by 10 a second: seen 5 s after its end, the share has come back by 50.
    let mut table = Table::open(bucket());
    let wish = table.wish(60);
    table.report(1, &wish, 0);
    assert_eq!(table.used(1999), 60);
    assert_eq!(table.used(7000), 10);
    let told = table.tell(5, 5);
    assert_eq!(table.report(1, &told, 7000).0, 'X');
    assert_eq!(table.used(7000), 10);

    let every = Span::from_secs(10);
    let mut table = Table::open(Shape::Sliding { every });
    let wish = table.wish(60);
    table.report(1, &wish, 0);
    assert_eq!(table.used(11_999), 60);
    assert_eq!(table.used(12_001), 0);
}

#[test]
fn two_shares_end_in_their_order() {
    let mut table = Table::open(bucket());
    let mut late = table.wish(30);
    late.ttl = 6_000_000;
    table.report(1, &late, 0);
    let early = table.wish(30);
    table.report(2, &early, 0);
    // 30 at 2 s, which is all back by 5 s; 30 at 6 s, of which 10 are back at 7 s.
    assert_eq!(table.used(5000), 30);
    assert_eq!(table.used(7000), 20);
}

#[test]
fn a_share_ends_with_its_window() {
    let mut table = Table::open(day());
    let midnight = 86_400_000 - START % 86_400 * 1000;
    let wish = table.wish(60);
    table.report(1, &wish, midnight - 500);
    assert_eq!(table.used(midnight - 1), 60);
    assert_eq!(table.used(midnight), 0);
    let told = table.tell(20, 0);
    assert_eq!(table.report(1, &told, midnight + 1).0, 'X');
    assert_eq!(table.used(midnight + 1), 0);
}

#[test]
fn a_share_grows_only_in_plenty() {
    let mut table = Table::open(day());
    assert_eq!(table.reserve(2, 30, 0), 'A');
    let mut wish = table.wish(21);
    wish.spare = vec![50];
    assert_eq!(table.report(1, &wish, 0), ('L', false));
    let mut wish = table.wish(20);
    wish.spare = vec![50];
    assert_eq!(table.report(1, &wish, 0), ('L', true));
    // Somebody was denied for it.
    assert_eq!(table.reserve(2, 60, 0), 'B');
    let wish = table.wish(1);
    assert_eq!(table.report(1, &wish, 0), ('L', false));
    let wish = table.wish(1);
    assert_eq!(table.report(1, &wish, 0), ('L', true));
    // An extension does not ask for plenty.
    assert_eq!(table.reserve(2, 60, 0), 'B');
    let mut wish = table.wish(49);
    wish.ahead = true;
    assert_eq!(table.report(1, &wish, 0), ('L', true));
    assert_eq!(table.used(0), 100);
}

#[test]
fn a_share_does_not_grow_while_somebody_waits() {
    let mut table = Table::open(day());
    assert_eq!(table.reserve(2, 30, 0), 'A');
    let stand = Stand {
        queued: 80,
        stay: 1_000_000,
        ..Stand::default()
    };
    assert_eq!(table.reserve_or(2, (80, Some(stand)), 0), 'B');
    let wish = table.wish(1);
    assert_eq!(table.report(1, &wish, 0), ('L', false));
    // What an extension lacks it gets: its caller came before.
    let mut wish = table.wish(1);
    wish.ahead = true;
    assert_eq!(table.report(1, &wish, 0), ('L', true));
}

#[test]
fn what_was_used_beside_a_share_is_debt() {
    let mut table = Table::open(day());
    let wish = table.wish(60);
    table.report(1, &wish, 0);
    let mut told = table.tell(10, 0);
    told.over = vec![70];
    table.report(1, &told, 0);
    table.report(1, &told, 0);
    assert_eq!((table.shares(0), table.used(0)), (vec![50], 130));
}

#[test]
fn a_store_that_forgot_charges_what_it_is_told() {
    let mut table = Table::open(day());
    let wish = table.wish(20);
    table.report(1, &wish, 0);
    // More than it knows of: charged whole, and no share is less than nothing.
    let told = table.tell(30, 10);
    table.report(1, &told, 0);
    assert_eq!((table.shares(0), table.used(0)), (vec![0], 30));
    assert_eq!(table.reserve(2, 71, 0), 'B');
}

#[test]
fn a_share_keeps_its_worth_under_another_amount() {
    let mut table = Table::open(bucket());
    let wish = table.wish(60);
    table.report(1, &wish, 0);
    table.change_amount(200, bucket());
    assert_eq!(table.reserve(2, 141, 0), 'B');
    assert_eq!(table.reserve(2, 139, 0), 'A');
    let told = table.tell(60, 0);
    table.report(1, &told, 0);
    assert_eq!(table.shares(0), [0]);
    assert!(table.used(0) <= 200);
}

#[test]
fn an_account_is_kept_as_long_as_a_share_of_it_matters() {
    let mut table = Table::open(bucket());
    let wish = table.wish(60);
    table.report(1, &wish, 0);
    let ends = table.bench.ends(&table.node);
    let end = ends.iter().filter_map(|(_, end)| *end).max().unwrap();
    let gone = START * 1_000_000 + 2_000_000 + 6_000_000;
    assert!((gone..gone + 10_000).contains(&end), "{end} {gone}");
}
