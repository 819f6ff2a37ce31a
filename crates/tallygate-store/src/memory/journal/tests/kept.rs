//! What a restart keeps, and how the folder stays small.
use super::super::{Durability, format};
use super::{
    Ground, START, admitted, ask, block_on, daily, tokens, until, used, with_limits, with_shape,
};
use crate::clock::Clock;
use crate::folder::Files;
use crate::store::{SettledBy, Settlement, Store};
use std::time::Duration;
use tallygate_core::{
    Amounts, Calendar, Decision, Metric, Metrics, Mode, Outcome, Policy, Rule, Shape, StoreDown,
};

fn day() -> Shape {
    Shape::Bucket {
        every: Duration::from_secs(86_400).into(),
        burst: None,
        strict: false,
    }
}

fn names(ground: &Ground) -> Vec<String> {
    let mut names = ground.disk.list().unwrap();
    names.retain(|name| name.starts_with("counters/"));
    names
}

/// Deadlines that pass while nothing runs take effect at the start.
#[test]
fn a_deadline_passes_while_nothing_runs() {
    let ground = Ground::new(Durability::Sync);
    let policy = daily(100, StoreDown::Closed);
    let store = ground.open(&policy);
    let held = admitted(block_on(store.reserve(ask(40))));
    drop(store);
    ground.clock.pass(Duration::from_secs(3600));
    let store = ground.with(ground.disk.death()).open(&policy);
    assert_eq!(store.stats().reservations, 0);
    match block_on(store.settle(held.id, Settlement::Exact(tokens(1)))) {
        Err(crate::SettleError::Standing(receipt)) => {
            assert_eq!(receipt.outcome, Outcome::Expired);
            assert_eq!(receipt.charged, tokens(40));
        }
        other => panic!("{other:?}"),
    }
}

/// Time does not go back over a restart, though the clock did.
#[test]
fn time_does_not_go_back() {
    let ground = Ground::new(Durability::Sync);
    let policy = daily(86_400, StoreDown::Closed);
    let store = ground.open(&policy);
    ground.clock.pass(Duration::from_secs(1000));
    admitted(block_on(store.reserve(ask(86_400))));
    drop(store);
    let mut earlier = ground.with(ground.disk.death());
    earlier.clock = Clock::manual(START);
    let store = earlier.open(&policy);
    assert_eq!(used(&store), 86_400, "nothing has flowed back");
    let denied = block_on(store.reserve(ask(1)));
    let Ok(Decision::Deny(denial)) = denied else {
        panic!("{denied:?}");
    };
    assert_eq!(denial.retry_after, Duration::from_secs(1));
}

/// Calendar windows go by the wall clock after a restart as before it, however far the two clocks are apart.
#[test]
fn a_month_stays_the_same_month() {
    let shape = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let policy = with_shape(100, shape, StoreDown::Closed);
    for days in [-40, 40] {
        let ground = Ground::new(Durability::Sync);
        ground.clock.step_wall(days * 86_400_000_000_000);
        let store = ground.open(&policy);
        admitted(block_on(store.reserve(ask(60))));
        drop(store);
        let store = ground.with(ground.disk.death()).open(&policy);
        assert_eq!(used(&store), 60, "{days}");
        store.tick();
        assert_eq!(used(&store), 60, "{days}");
    }
}

/// What the policy says now is in force; rules as before keep their counters.
#[test]
fn the_policy_of_the_start_is_in_force() {
    let ground = Ground::new(Durability::Relaxed);
    let store = ground.open(&daily(100, StoreDown::Closed));
    admitted(store.try_reserve(&ask(60)));
    block_on(store.close());
    let after = ground.with(ground.disk.power_loss(3));
    let store = after.open(&daily(50, StoreDown::Closed));
    assert_eq!(used(&store), 60);
    let denied = block_on(store.reserve(ask(1)));
    assert!(matches!(denied, Ok(Decision::Deny(_))), "{denied:?}");
}

/// Full segments become a state, and go; a start reads little, whatever was written before.
#[test]
fn the_folder_stays_small() {
    let ground = Ground::new(Durability::Sync);
    let policy = daily(u64::from(u32::MAX), StoreDown::Closed);
    let store = ground.open(&policy);
    for _ in 0..300 {
        let held = admitted(block_on(store.reserve(ask(5))));
        block_on(store.settle(held.id, Settlement::Exact(tokens(3)))).unwrap();
    }
    until("old segments go", || names(&ground).len() < 60);
    let after = ground.with(ground.disk.power_loss(4));
    let first = format::state_name(1);
    assert!(!names(&after).contains(&first), "{:?}", names(&after));
    assert_eq!(used(&after.open(&policy)), 900);
}

/// However often it is started and stopped with nothing to do, the folder does not fill up.
#[test]
fn starts_alone_do_not_fill_it() {
    let mut ground = Ground::new(Durability::Relaxed);
    let policy = daily(100, StoreDown::Closed);
    for _ in 0..200 {
        let store = ground.open(&policy);
        block_on(store.close());
        until("the archive keeps up", || names(&ground).len() < 80);
        ground = ground.with(ground.disk.death());
    }
    assert_eq!(used(&ground.open(&policy)), 0);
}

/// The sizes that docs/durability.md names.
#[test]
fn sizes_are_as_documented() {
    const USERS: u64 = 2_000;
    let limits = vec![
        (Metric::REQUESTS, 1_000, day()),
        (Metric::TOKENS, 10_000_000, day()),
    ];
    let policy = with_limits(limits, StoreDown::Closed);
    let ground = Ground::new(Durability::Relaxed);
    let store = ground.open(&policy);
    let call = tokens(1_000).with(Metric::REQUESTS, 1);
    let mut records = 0;
    for user in 0..USERS {
        ground.clock.pass(Duration::from_millis(17));
        let name = user.to_string();
        let ask = crate::Reserve {
            subject: &[("user", &name)],
            demand: call,
            ..ask(0)
        };
        let mut books = store.shared.books.lock();
        let now = ground.clock.now();
        let before = books.ledger.journal_length();
        let Ok(Decision::Admit(held)) = books.reserve(&ask, now) else {
            panic!("there is room");
        };
        let used = tallygate_core::Used::Exactly(call.with(Metric::TOKENS, 700));
        books.ledger.settle(held.id, used, now).unwrap();
        records += books.ledger.journal_length() - before;
    }
    let size = |store: &crate::MemoryStore| {
        let mut bytes = Vec::new();
        store.shared.books.lock().ledger.save(&mut bytes);
        bytes.len() as u64
    };
    let with_receipts = size(&store);
    ground.clock.pass(Duration::from_secs(700));
    let held = admitted(store.try_reserve(&ask(1)));
    store.cancel_now(held.id).unwrap();
    let (pair, subject) = (records as u64 / USERS, size(&store) / USERS);
    let receipt = with_receipts / USERS - subject;
    eprintln!("pair {pair}, subject {subject}, receipt {receipt}");
    assert!(pair <= 60 && subject <= 60 && receipt <= 60);
}

/// Metrics of the user's own go by their names: in another order after a restart they keep their counters and what is held.
#[test]
fn metrics_in_another_order_keep_their_reservations() {
    let policy = |names: &[&str]| {
        let metrics = Metrics::with_custom(names).unwrap();
        let limits = ["images", "minutes"].map(|name| (metrics.find(name).unwrap(), 100, day()));
        let rules = limits.map(|limit| Rule {
            name: metrics.name(limit.0).to_string(),
            when: Vec::new(),
            per: vec!["user".to_owned()],
            limits: vec![limit],
            mode: Mode::Enforce,
            store_down: StoreDown::Closed,
        });
        let both = [
            metrics.find("images").unwrap(),
            metrics.find("minutes").unwrap(),
        ];
        (Policy::new(rules.into(), metrics).unwrap(), both)
    };
    let ground = Ground::new(Durability::Sync);
    let (before, [images, minutes]) = policy(&["images", "minutes"]);
    let store = ground.open(&before);
    let demand = Amounts::ZERO.with(images, 7).with(minutes, 20);
    let held = admitted(block_on(store.reserve(crate::Reserve { demand, ..ask(0) })));
    drop(store);
    let (after, [images, minutes]) = policy(&["minutes", "pages", "images"]);
    let store = ground.with(ground.disk.death()).open(&after);
    let said = Amounts::ZERO.with(images, 3).with(minutes, 4);
    let settled = block_on(store.settle(held.id, Settlement::Exact(said))).unwrap();
    assert_eq!(settled.charged, said);
    let standings = store.peek_now(super::ALICE);
    let used: Vec<(&str, u64)> = standings
        .iter()
        .map(|one| (&*one.limit.metric_name, one.used))
        .collect();
    assert_eq!(used, [("images", 3), ("minutes", 4)]);
}

/// A call that a killed process was serving counts as used, and its place among those in flight is free; what somebody else may
/// settle stays open.
#[test]
fn a_killed_process_leaves_no_call_in_flight() {
    let limits = vec![
        (Metric::TOKENS, 100, day()),
        (Metric::CONCURRENCY, 3, Shape::Concurrency),
    ];
    let policy = with_limits(limits, StoreDown::Closed);
    let ground = Ground::new(Durability::Sync);
    let store = ground.open(&policy);
    assert_eq!(store.orphans(), 0);
    let call = |amount, settled_by| crate::Reserve {
        demand: tokens(amount).with(Metric::CONCURRENCY, 1),
        settled_by,
        max_wait: Duration::from_secs(60),
        ..ask(0)
    };
    let at_once = |amount, settled_by| crate::Reserve {
        max_wait: Duration::ZERO,
        ..call(amount, settled_by)
    };
    let reserve = |ask| admitted(block_on(store.reserve(ask)));
    let (this, any) = (SettledBy::ThisNode, SettledBy::AnyNode);
    reserve(at_once(10, this));
    let ours = reserve(call(20, any));
    let done = reserve(call(1, this));
    // It comes in when the one before it ends.
    let in_line = block_on(async {
        let last = store.reserve(call(5, this));
        let ends = async { store.settle(done.id, Settlement::Exact(tokens(1))).await };
        let (last, ended) = tokio::join!(last, ends);
        assert!(ended.is_ok());
        admitted(last)
    });
    drop(store);
    let after = ground.with(ground.disk.death());
    let store = after.open(&policy);
    assert_eq!((store.orphans(), store.stats().reservations), (2, 1));
    let used: Vec<u64> = store
        .peek_now(super::ALICE)
        .iter()
        .map(|one| one.used)
        .collect();
    assert_eq!(used, [36, 1]);
    match block_on(store.cancel(in_line.id)) {
        Err(crate::SettleError::Standing(receipt)) => {
            assert_eq!(
                (receipt.outcome, receipt.charged),
                (Outcome::Expired, tokens(5))
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(block_on(store.settle(ours.id, Settlement::Exact(tokens(2)))).is_ok());
    drop(store);
    assert_eq!(
        after.with(after.disk.death()).open(&policy).orphans(),
        0,
        "once"
    );
}
