//! What only the store itself can see.
use super::{MemoryOptions, MemoryStore};
use crate::store::{Reserve, SettledBy, Store, WaitsFor};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Metric, Metrics, Mode, Policy, Rule, Shape, StoreDown};

fn one_slot() -> Policy {
    let rule = Rule {
        name: "slot".to_owned(),
        when: Vec::new(),
        per: Vec::new(),
        limits: vec![(Metric::CONCURRENCY, 1, Shape::Concurrency)],
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    };
    Policy::new(vec![rule], Metrics::default()).expect("the policy of a test is valid")
}

/// The thread of a store that is dropped ends, and lets go of the counters.
#[test]
fn the_thread_ends_with_the_store() {
    for held in [0, 1] {
        let (store, thread) = MemoryStore::start(&one_slot(), MemoryOptions::default());
        let ask = Reserve {
            subject: &[],
            demand: Amounts::ZERO.with(Metric::CONCURRENCY, held),
            ttl: Duration::from_secs(3600),
            max_wait: Duration::ZERO,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        store.try_reserve(&ask).unwrap();
        let shared = Arc::downgrade(&store.shared);
        // What holds nothing is none.
        assert_eq!(store.stats().reservations, usize::from(held > 0));
        drop(store);
        thread.unwrap().join().unwrap();
        assert_eq!(shared.strong_count(), 0, "the counters are let go of");
    }
}
