//! A disk that takes long to sync: what is answered meanwhile, what a crash costs then, and one that never comes to an end.
use super::{Ground, admitted, ask, block_on, daily, tokens, until, used};
use crate::memory::MemoryStore;
use crate::memory::journal::{Durability, RELAXED_BOUND};
use crate::store::{BoxFuture, SettleError, Settlement, Store, StoreError, StoreHealth};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use tallygate_core::{Decision, Outcome, ReservationId, StoreDown, Time};

const LIMIT: u64 = 1 << 40;

/// How long each sync takes.
const SYNC: Duration = Duration::from_millis(300);

/// An answer, and when it came.
#[derive(Debug, Clone, Copy)]
struct Given {
    id: ReservationId,
    at: Time,
}

/// Callers who ask again and again on a disk whose syncs take long, all in virtual time.
struct Day<'a> {
    ground: &'a Ground,
    store: &'a MemoryStore,
    dice: u64,
    given: Vec<Given>,
    waiting: Vec<BoxFuture<'a, Result<Decision, StoreError>>>,
}

impl Day<'_> {
    fn roll(&mut self, end: u64) -> u64 {
        let mixed = self.dice.wrapping_mul(6_364_136_223_846_793_005);
        self.dice = mixed.wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % end
    }

    /// Asks at random moments for as long as a sync takes.
    fn pass(&mut self) {
        let end = self.store.now().plus(SYNC.into());
        while self.store.now() < end {
            let step = Duration::from_micros(self.roll(20_000));
            self.ground.clock.pass(step);
            self.waiting.push(self.store.reserve(ask(1)));
            self.hear();
        }
    }

    /// Notes the answers that have come.
    fn hear(&mut self) {
        let at = self.store.now();
        let mut context = Context::from_waker(Waker::noop());
        let given = &mut self.given;
        self.waiting
            .retain_mut(|asked| match asked.as_mut().poll(&mut context) {
                Poll::Ready(decision) => {
                    let id = admitted(decision).id;
                    given.push(Given { id, at });
                    false
                }
                Poll::Pending => true,
            });
    }

    /// All that was asked is answered once the disk has synced.
    fn sync(&mut self) {
        self.ground.disk.release();
        until("who waits is answered", || {
            self.hear();
            self.waiting.is_empty()
        });
    }
}

/// `relaxed`: however long a sync takes, what a crash costs was answered within the bound.
#[test]
fn no_more_than_the_bound_is_lost_on_a_slow_disk() {
    let policy = daily(LIMIT, StoreDown::Closed);
    let (mut lost, mut waited) = (0, 0);
    for seed in 0..24 {
        let ground = Ground::new(Durability::Relaxed);
        let store = ground.open(&policy);
        block_on(store.close());
        let mut day = Day {
            ground: &ground,
            store: &store,
            dice: seed,
            given: Vec::new(),
            waiting: Vec::new(),
        };
        for _ in 0..seed % 4 {
            ground.disk.hold_syncs();
            day.pass();
            waited += day.waiting.len();
            day.sync();
        }
        ground.disk.hold_syncs();
        day.pass();
        let Day { given, waiting, .. } = day;
        assert!(!waiting.is_empty(), "they wait for the disk");
        let left = match seed % 3 {
            0 => ground.disk.death(),
            _ => ground.disk.power_loss(seed),
        };
        drop(waiting);
        let after = ground.with(left).open(&policy);
        let usage = Settlement::Exact(tokens(1));
        let missing = |one: &&Given| after.settle_now(one.id, usage).is_err();
        let missing: Vec<Time> = given.iter().filter(missing).map(|one| one.at).collect();
        let (first, last) = (missing.iter().min(), missing.iter().max());
        if let (Some(first), Some(last)) = (first, last) {
            let cost = Duration::from(last.since(*first));
            assert!(cost <= RELAXED_BOUND, "{seed}: {cost:?}");
            lost += missing.len();
        }
    }
    assert!(lost > 0 && waited > 0, "{lost} lost, {waited} waited");
}

/// Nobody waits for a disk while what would be lost is young; then all do, ends and extensions too, until it has synced.
#[test]
fn answers_come_at_once_until_what_would_be_lost_is_old() {
    let ground = Ground::new(Durability::Relaxed);
    let store = ground.open(&daily(LIMIT, StoreDown::Closed));
    block_on(store.close());
    let mut context = Context::from_waker(Waker::noop());
    ground.disk.hold_syncs();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let mut asked = store.reserve(ask(1));
        let Poll::Ready(decision) = asked.as_mut().poll(&mut context) else {
            panic!("{} answers came at once", ids.len());
        };
        ids.push(admitted(decision).id);
        ground.clock.pass(Duration::from_millis(30));
    }
    // 120 ms after the first one.
    let usage = Settlement::Exact(tokens(1));
    let mut asked = store.reserve(ask(1));
    let mut settled = store.settle(ids[0], usage);
    let mut cancelled = store.cancel(ids[1]);
    let mut extended = store.extend(ids[2], tokens(1), None);
    assert!(asked.as_mut().poll(&mut context).is_pending());
    assert!(settled.as_mut().poll(&mut context).is_pending());
    assert!(cancelled.as_mut().poll(&mut context).is_pending());
    assert!(extended.as_mut().poll(&mut context).is_pending());
    // A refusal changes nothing that could be lost.
    let denied = block_on(store.reserve(ask(LIMIT + 1)));
    assert!(matches!(denied, Ok(Decision::Never(_))), "{denied:?}");
    ground.disk.release();
    admitted(block_on(asked));
    assert!(block_on(settled).is_ok() && block_on(cancelled).is_ok());
    assert!(block_on(extended).is_ok());
    ground.disk.hold_syncs();
    let mut asked = store.reserve(ask(1));
    assert!(
        asked.as_mut().poll(&mut context).is_ready(),
        "the disk has caught up"
    );
}

/// A caller in line that is let through while the disk lags behind is told once that is on it.
#[test]
fn a_caller_in_line_waits_for_the_disk_too() {
    let ground = Ground::new(Durability::Relaxed);
    let store = ground.open(&daily(100, StoreDown::Closed));
    let held = admitted(block_on(store.reserve(ask(100)))).id;
    block_on(store.close());
    ground.disk.hold_syncs();
    let mut context = Context::from_waker(Waker::noop());
    let in_line = crate::store::Reserve {
        max_wait: Duration::from_secs(60),
        ..ask(50)
    };
    let mut waiting = store.reserve(in_line);
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    store.cancel_now(held).unwrap();
    ground.clock.pass(SYNC);
    assert!(
        waiting.as_mut().poll(&mut context).is_pending(),
        "it is let through, and waits for the disk"
    );
    ground.disk.release();
    admitted(block_on(waiting));
}

/// A write that never ends is a disk that takes none: who waits for it is told, and limits do what they say.
#[test]
fn a_write_that_does_not_end_is_a_disk_that_takes_none() {
    for durability in [Durability::Relaxed, Durability::Sync] {
        let ground = Ground {
            patience: Duration::ZERO,
            ..Ground::new(durability)
        };
        let store = ground.open(&daily(100, StoreDown::Closed));
        let held = admitted(block_on(store.reserve(ask(40)))).id;
        block_on(store.close());
        ground.disk.hold_syncs();
        // What is not on disk is old, so that a relaxed store waits as well.
        store.cancel_now(held).unwrap();
        ground.clock.pass(SYNC);
        let held = admitted(store.try_reserve(&ask(40))).id;
        let settled = thread::scope(|scope| {
            let store = &store;
            let usage = Settlement::Exact(tokens(40));
            let settling = scope.spawn(move || block_on(store.settle(held, usage)));
            until("the write is under way", || ground.disk.held() > 0);
            until("it is told", || {
                store.tick();
                settling.is_finished()
            });
            settling.join().unwrap()
        });
        let outcome = Outcome::Settled;
        assert_eq!(settled, Err(SettleError::Kept { outcome }));
        let StoreHealth::Down { reason } = store.health() else {
            panic!("it is down");
        };
        assert_eq!(reason, "folder data: a write has not ended within 0 s");
        let refused = block_on(store.reserve(ask(1)));
        assert!(
            matches!(refused, Err(StoreError::Down { .. })),
            "{refused:?}"
        );
        ground.disk.release();
        until("the disk is back", || store.health() == StoreHealth::Up);
        until("what was kept is delivered", || store.outage().settled == 1);
        admitted(block_on(store.reserve(ask(60))));
        block_on(store.close());
        let after = ground.with(ground.disk.power_loss(3));
        assert_eq!(used(&after.open(&daily(100, StoreDown::Closed))), 100);
    }
}
