//! The conformance suite: what every store must do, as cases that any store can be put through unchanged.
//!
//! A store's tests implement [`Harness`] and call [`run_all`]; the [`Report`] says which cases hold. A case knows
//! the store by its [`Store`] trait alone and asserts promises, not implementations: `shapes` (every shape of a
//! limit), `atomic` (all or nothing, never over), `settling` (settled as if known), `once` (exactly once),
//! `deadlines` (nothing leaks), `waits` (exact waits), `lines` (no starvation), `policies`, `subjects` and
//! `handles` (several processes, restarts).
//!
//! Cases are plain futures for any executor. On a virtual clock they are exact to the nanosecond; on a real
//! one they allow for the time that passes by itself, and never ask that anything be fast.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tallygate_core::{Policy, Time};
//! use tallygate_store::conformance::{Harness, Rig, run_all};
//! use tallygate_store::{BoxFuture, Clock, MemoryOptions, MemoryStore, Store};
//!
//! struct Memory;
//! struct OneMemory(Arc<MemoryStore>);
//!
//! impl Harness for Memory {
//!     fn open(&self, policy: Policy) -> BoxFuture<'_, Result<Box<dyn Rig>, String>> {
//!         let clock = Clock::manual(Time::from_secs(1_800_000_000));
//!         let options = MemoryOptions { clock, ..MemoryOptions::default() };
//!         let rig: Box<dyn Rig> = Box::new(OneMemory(MemoryStore::new(&policy, options)));
//!         Box::pin(async { Ok(rig) })
//!     }
//! }
//!
//! impl Rig for OneMemory {
//!     fn store(&self) -> Arc<dyn Store> {
//!         self.0.clone()
//!     }
//!
//!     fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
//!         Box::pin(async move {
//!             self.0.clock().pass(length);
//!             self.0.tick();
//!         })
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
//! # runtime.block_on(async {
//! let report = run_all(&Memory).await;
//! assert_eq!(report.failed().count(), 0, "{report}");
//! # });
//! ```
/// The cases of a module, in the order they are run.
macro_rules! cases {
    ($group:literal: $($name:ident,)*) => {
        &[$($crate::conformance::Case {
            name: concat!($group, "::", stringify!($name)),
            run: |harness| Box::pin($name(harness)),
        },)*]
    };
}

mod atomic;
mod deadlines;
mod handles;
mod lines;
mod once;
mod policies;
mod poll;
mod rules;
mod settling;
mod shapes;
mod subjects;
mod trial;
mod verdict;
mod waiting;
mod waits;

use crate::store::{BoxFuture, Store};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::Policy;

pub use verdict::{Failure, Outcome};
use verdict::{Stop, Verdict};

/// How the suite gets at stores of one kind.
pub trait Harness: Send + Sync {
    /// Opens a store with fresh counters under this policy; why it could not be, if so.
    fn open(&self, policy: Policy) -> BoxFuture<'_, Result<Box<dyn Rig>, String>>;

    /// The length that the cases call a second. Where time is real, shorter makes the suite faster and longer
    /// makes it firmer on a busy machine: nothing may stall for that long.
    fn second(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// How long, by the machine's clock, a case waits for what needs no time to pass before it fails.
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Runs tasks at the same time: on threads or tasks of a runtime where there are any, else by turns.
    fn together<'a>(&'a self, tasks: Vec<BoxFuture<'static, ()>>) -> BoxFuture<'a, ()> {
        Box::pin(poll::by_turns(tasks))
    }
}

/// One store under test.
pub trait Rig: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;

    /// Lets a length of time pass for the store, and what is due by then take effect.
    fn pass(&self, length: Duration) -> BoxFuture<'_, ()>;

    /// A second handle on the same counters, as another process would have it; none where counters are private.
    fn second_handle(&self) -> BoxFuture<'_, Option<Arc<dyn Store>>> {
        Box::pin(std::future::ready(None))
    }

    /// Ends the store as a crash would and opens what it left behind; none where nothing outlives it.
    fn restart(&self) -> BoxFuture<'_, Option<Arc<dyn Store>>> {
        Box::pin(std::future::ready(None))
    }
}

/// One thing that every store must do.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name, unique in the suite: `group::what_holds`.
    pub name: &'static str,
    run: fn(&dyn Harness) -> BoxFuture<'_, Verdict>,
}

impl Case {
    /// Puts a fresh store of the harness through the case. A panic is a failure.
    pub async fn run(&self, harness: &dyn Harness) -> Outcome {
        match poll::caught((self.run)(harness)).await {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(Stop::Skipped(why))) => Outcome::Skipped(why),
            Ok(Err(Stop::Failed(failure))) => Outcome::Failed(failure),
            Err(panic) => Outcome::Failed(Failure::new(panic)),
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Puts stores of the harness through every case, one after another.
pub async fn run_all(harness: &dyn Harness) -> Report {
    let mut results = Vec::new();
    for case in cases() {
        results.push((case.name, case.run(harness).await));
    }
    Report { results }
}

/// What came of the suite.
#[derive(Debug, Clone)]
pub struct Report {
    /// Every case by name, in the order of the suite.
    pub results: Vec<(&'static str, Outcome)>,
}

impl Report {
    /// The names of the cases that failed.
    pub fn failed(&self) -> impl Iterator<Item = &'static str> + '_ {
        let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
        let results = self.results.iter();
        results.filter_map(move |(name, outcome)| failed(outcome).then_some(*name))
    }

    /// The names of the cases that the store's kind does not have.
    pub fn skipped(&self) -> impl Iterator<Item = &'static str> + '_ {
        let skipped = |outcome: &Outcome| matches!(outcome, Outcome::Skipped(_));
        let results = self.results.iter();
        results.filter_map(move |(name, outcome)| skipped(outcome).then_some(*name))
    }
}

/// One line a case that did not pass, then the sum.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.results {
            match outcome {
                Outcome::Passed => {}
                Outcome::Failed(failure) => writeln!(f, "FAILED  {name}: {failure}")?,
                Outcome::Skipped(why) => writeln!(f, "skipped {name}: {why}")?,
            }
        }
        let (failed, skipped) = (self.failed().count(), self.skipped().count());
        let passed = self.results.len() - failed - skipped;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Every case of the suite.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        shapes::CASES,
        atomic::CASES,
        settling::CASES,
        once::CASES,
        deadlines::CASES,
        waits::CASES,
        lines::CASES,
        policies::CASES,
        subjects::CASES,
        handles::CASES,
    ]
    .concat()
}
