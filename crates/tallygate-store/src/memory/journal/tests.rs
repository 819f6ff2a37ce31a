//! Stores on a disk that fails: what they keep, what they refuse, and how they say so.
mod kept;
mod losses;
mod refused;
mod slow;
mod trouble;

use super::{Durability, OpenError, PATIENCE, Site};
use crate::clock::Clock;
use crate::folder::{DataFolder, Faulty, Purpose};
use crate::memory::{MemoryOptions, MemoryStore};
use crate::store::{Reserve, SettledBy, StoreError, WaitsFor};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Admission, Amounts, Bounds, Decision, Metric, Metrics, Mode, Policy, Rule, Shape, StoreDown,
    Time,
};

/// The middle of a month.
const START: Time = Time::from_millis(1_794_571_201_250);

/// A disk and a clock, with segments so short that they are full soon.
struct Ground {
    disk: Faulty,
    clock: Clock,
    durability: Durability,
    /// How long a write may take.
    patience: Duration,
}

impl Ground {
    fn new(durability: Durability) -> Self {
        Self {
            disk: Faulty::new(),
            clock: Clock::manual(START),
            durability,
            patience: PATIENCE,
        }
    }

    fn open(&self, policy: &Policy) -> Arc<MemoryStore> {
        self.try_open(policy)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_open(&self, policy: &Policy) -> Result<Arc<MemoryStore>, OpenError> {
        let disk = Box::new(self.disk.clone());
        let folder = DataFolder::over(Path::new("data"), disk, Purpose::Own).unwrap();
        let site = Site {
            segment: 600,
            retry: Duration::from_millis(5),
            patience: self.patience,
            ..Site::new(folder, Bounds::default())
        };
        let options = MemoryOptions {
            clock: self.clock.clone(),
            ..MemoryOptions::default()
        };
        MemoryStore::open_at(&site, policy, options, self.durability)
    }

    /// The ground with another disk.
    fn with(&self, disk: Faulty) -> Self {
        Self {
            disk,
            clock: self.clock.clone(),
            durability: self.durability,
            patience: self.patience,
        }
    }
}

fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

/// A limit on the tokens of each user over a day.
fn daily(amount: u64, store_down: StoreDown) -> Policy {
    let shape = Shape::Bucket {
        every: Duration::from_secs(86_400).into(),
        burst: None,
        strict: false,
    };
    with_shape(amount, shape, store_down)
}

/// A limit on the tokens of each user.
fn with_shape(amount: u64, shape: Shape, store_down: StoreDown) -> Policy {
    with_limits(vec![(Metric::TOKENS, amount, shape)], store_down)
}

fn with_limits(limits: Vec<(Metric, u64, Shape)>, store_down: StoreDown) -> Policy {
    let rule = Rule {
        name: "day".to_owned(),
        when: Vec::new(),
        per: vec!["user".to_owned()],
        limits,
        mode: Mode::Enforce,
        store_down,
    };
    Policy::new(vec![rule], Metrics::default()).unwrap()
}

const ALICE: &[(&str, &str)] = &[("user", "alice")];

/// Alice's ask.
fn ask(amount: u64) -> Reserve<'static> {
    Reserve {
        subject: ALICE,
        demand: tokens(amount),
        ttl: Duration::from_secs(3600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    }
}

fn admitted(decision: Result<Decision, StoreError>) -> Admission {
    match decision {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("an admission expected: {other:?}"),
    }
}

/// How much of Alice's limit is taken.
fn used(store: &MemoryStore) -> u64 {
    store.peek_now(ALICE)[0].used
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

/// Waits for what another thread is about to do.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::yield_now();
    }
}
