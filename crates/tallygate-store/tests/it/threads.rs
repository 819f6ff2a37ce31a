//! The memory store on the machine's clock, under threads that really run at once.
use crate::support::{CALM_LAPS, ask, block_on, bucket, policy, tokens};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};
use tallygate_core::{Amounts, Decision, Metric, Shape};
use tallygate_store::{
    MemoryOptions, MemoryStore, Reserve, Settlement, Store, StoreError, StoreStats,
};

const ALICE: &[(&str, &str)] = &[("user", "alice")];

/// Waits that only a broken store makes last.
const LONG: Duration = Duration::from_secs(60);

fn real_store(limits: &[(Metric, u64, Shape)]) -> Arc<MemoryStore> {
    MemoryStore::new(&policy(limits), MemoryOptions::default())
}

fn waiting(demand: Amounts) -> Reserve<'static> {
    Reserve {
        max_wait: LONG,
        ..ask(ALICE, demand)
    }
}

/// A bucket so slow that nothing comes back while a test runs.
fn still_bucket() -> Shape {
    bucket(Duration::from_secs(366 * 86_400))
}

#[test]
fn four_threads_take_exactly_the_limit() {
    let store = real_store(&[(Metric::TOKENS, 2_500, still_bucket())]);
    let admitted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let decision = store.try_reserve(&ask(ALICE, tokens(1)));
                    let taken = matches!(decision, Ok(Decision::Admit(_)));
                    admitted.fetch_add(u64::from(taken), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(admitted.load(Ordering::SeqCst), 2_500);
    assert_eq!(store.peek_now(ALICE)[0].used, 2_500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_waiters_all_end() {
    let store = real_store(&[
        (
            Metric::TOKENS,
            40_000,
            bucket_of(Duration::from_secs(1), 400),
        ),
        (Metric::CONCURRENCY, 8, Shape::Concurrency),
    ]);
    let demand = tokens(10).with(Metric::CONCURRENCY, 1);
    let tasks: Vec<_> = (0..2000)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let Ok(Decision::Admit(admission)) = store.reserve(waiting(demand)).await else {
                    return false;
                };
                tokio::task::yield_now().await;
                store
                    .settle(admission.id, Settlement::Exact(demand))
                    .await
                    .is_ok()
            })
        })
        .collect();
    let served = tokio::time::timeout(LONG, async {
        let mut served = 0;
        for task in tasks {
            served += u64::from(task.await.unwrap());
        }
        served
    });
    assert_eq!(served.await.unwrap(), 2000);
    let stats = store.stats();
    assert_eq!((stats.reservations, stats.waiters), (0, 0));
}

fn bucket_of(every: Duration, burst: u64) -> Shape {
    Shape::Bucket {
        every: every.into(),
        burst: Some(burst),
        strict: false,
    }
}

/// A busy machine may be late, but a store must never be early.
#[test]
fn a_waiter_is_never_woken_early() {
    // Half the round in which the store's thread looks after things anyway.
    let much = Duration::from_millis(125);
    let mut laps = (0..CALM_LAPS).map(|_| half_are_late_by());
    assert!(laps.any(|late| late < much), "woken late in each lap");
}

fn half_are_late_by() -> Duration {
    let store = real_store(&[(Metric::TOKENS, 1, bucket(Duration::from_millis(3)))]);
    let mut late: Vec<Duration> = (0..50)
        .map(|_| {
            let taken = block_on(store.reserve(waiting(tokens(1)))).expect("the store answers");
            assert!(matches!(taken, Decision::Admit(_)));
            let Decision::Deny(denial) = store
                .try_reserve(&ask(ALICE, tokens(1)))
                .expect("the store answers")
            else {
                return Duration::ZERO;
            };
            let woken = block_on(store.reserve(waiting(tokens(1)))).expect("the store answers");
            assert!(matches!(woken, Decision::Admit(_)));
            let now = store.now();
            assert!(
                now >= denial.retry_at,
                "woken {:?} early",
                denial.retry_at.since(now)
            );
            Duration::from(now.since(denial.retry_at))
        })
        .collect();
    late.sort_unstable();
    eprintln!(
        "woken late by {:?} at p50, {:?} at most",
        late[25], late[49]
    );
    late[25]
}

/// Futures polled a while, then dropped, while others settle and so answer them at any moment.
#[test]
fn callers_that_leave_at_any_moment_strand_nothing() {
    let slot = (Metric::CONCURRENCY, 1, Shape::Concurrency);
    let store = real_store(&[slot, (Metric::TOKENS, 1_000_000, still_bucket())]);
    let demand = tokens(10).with(Metric::CONCURRENCY, 1);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for turn in 0..400 {
                    match turn % 4 {
                        0 => hold_a_moment(store, demand),
                        polls => leave_after(store, demand, polls + thread),
                    }
                }
            });
        }
    });
    let stats = store.stats();
    assert_eq!((stats.reservations, stats.waiters), (0, 0));
    let standings = store.peek_now(ALICE);
    assert_eq!(standings[0].used, 0);
    assert_eq!(standings[1].used, 0);
}

fn hold_a_moment(store: &MemoryStore, demand: Amounts) {
    let decision = store.try_reserve(&ask(ALICE, demand));
    std::thread::yield_now();
    give_back(store, decision);
}

fn give_back(store: &MemoryStore, decision: Result<Decision, StoreError>) {
    if let Ok(Decision::Admit(admission)) = decision {
        let receipt = store.cancel_now(admission.id);
        assert!(receipt.is_ok(), "what was admitted can be cancelled");
    }
}

/// Polls a waiting caller so many times, then drops it; one that is admitted meanwhile gives back.
fn leave_after(store: &MemoryStore, demand: Amounts, polls: u64) {
    let mut future = store.reserve(waiting(demand));
    for _ in 0..polls {
        let once = poll_fn(|context| Poll::Ready(future.as_mut().poll(context)));
        if let Poll::Ready(decision) = block_on(once) {
            return give_back(store, decision);
        }
        std::thread::yield_now();
    }
}

/// A settle, a cancel and an expiry on one thread wake callers on others, in order.
#[test]
fn an_end_wakes_a_caller_on_another_thread() {
    let store = real_store(&[(Metric::CONCURRENCY, 1, Shape::Concurrency)]);
    let slot = Amounts::ZERO.with(Metric::CONCURRENCY, 1);
    for how in 0..3 {
        let held = store.try_reserve(&Reserve {
            ttl: if how == 2 {
                Duration::from_millis(20)
            } else {
                LONG
            },
            ..ask(ALICE, slot)
        });
        let Ok(Decision::Admit(held)) = held else {
            panic!("the slot is free: {held:?}");
        };
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| block_on(store.reserve(waiting(slot))));
            while store.stats().waiters == 0 && !waiter.is_finished() {
                std::thread::yield_now();
            }
            match how {
                0 => drop(store.settle_now(held.id, Settlement::Exact(slot)).unwrap()),
                1 => drop(store.cancel_now(held.id).unwrap()),
                _ => {}
            }
            let Ok(Ok(Decision::Admit(admission))) = waiter.join() else {
                panic!("the waiter was not admitted");
            };
            store.cancel_now(admission.id).unwrap();
        });
    }
}

/// The store's own thread does what is due while nobody calls.
#[test]
fn a_deadline_passes_by_itself() {
    let store = real_store(&[(Metric::CONCURRENCY, 1, Shape::Concurrency)]);
    let brief = Reserve {
        ttl: Duration::from_millis(5),
        ..ask(ALICE, Amounts::ZERO.with(Metric::CONCURRENCY, 1))
    };
    let Decision::Admit(held) = store.try_reserve(&brief).unwrap() else {
        panic!("the slot is free");
    };
    let begun = Instant::now();
    while store.stats().reservations > 0 && begun.elapsed() < LONG {
        std::thread::yield_now();
    }
    assert_eq!(
        store.stats(),
        StoreStats {
            counters: 1,
            ..StoreStats::default()
        }
    );
    assert!(store.now() >= held.expires_at);
}
