//! Memory stores on a disk that can fail.
use crate::support::{START, on_threads, pass};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallygate_core::Policy;
use tallygate_store::conformance::{Harness, Rig};
use tallygate_store::folder::{DataFolder, Faulty, Purpose};
use tallygate_store::{BoxFuture, Clock, Durability, MemoryOptions, MemoryStore, OpenError, Store};

/// Stores for the suite, each on a disk of its own; a restart is a loss of power.
pub(crate) struct Lasting(pub(crate) Durability);

/// A store, its disk and its clock.
pub(crate) struct Site {
    pub(crate) disk: Faulty,
    pub(crate) clock: Clock,
    pub(crate) durability: Durability,
}

impl Site {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            disk: Faulty::new(),
            clock: Clock::manual(START),
            durability,
        }
    }

    pub(crate) fn open(&self, policy: &Policy) -> Arc<MemoryStore> {
        self.try_open(policy)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn try_open(&self, policy: &Policy) -> Result<Arc<MemoryStore>, OpenError> {
        let disk = Box::new(self.disk.clone());
        let folder = DataFolder::over(Path::new("data"), disk, Purpose::Own);
        let options = MemoryOptions {
            clock: self.clock.clone(),
            ..MemoryOptions::default()
        };
        let folder = folder.expect("the folder is one of ours");
        MemoryStore::open(policy, options, folder, self.durability)
    }

    /// The same with what a loss of power leaves of its disk.
    pub(crate) fn after_power_loss(&self, seed: u64) -> Self {
        Self {
            disk: self.disk.power_loss(seed),
            clock: self.clock.clone(),
            durability: self.durability,
        }
    }
}

struct LastingRig {
    policy: Policy,
    now: Mutex<(Site, Arc<MemoryStore>)>,
    losses: AtomicU64,
}

impl LastingRig {
    fn store(&self) -> Arc<MemoryStore> {
        self.now.lock().expect("no test panics in it").1.clone()
    }
}

impl Harness for Lasting {
    fn open(&self, policy: Policy) -> BoxFuture<'_, Result<Box<dyn Rig>, String>> {
        let site = Site::new(self.0);
        let opened = site.try_open(&policy).map_err(|error| error.to_string());
        let rig = opened.map(|store| {
            Box::new(LastingRig {
                policy,
                now: Mutex::new((site, store)),
                losses: AtomicU64::new(0),
            }) as Box<dyn Rig>
        });
        Box::pin(std::future::ready(rig))
    }

    fn together<'a>(&'a self, tasks: Vec<BoxFuture<'static, ()>>) -> BoxFuture<'a, ()> {
        Box::pin(async move { on_threads(tasks) })
    }
}

impl Rig for LastingRig {
    fn store(&self) -> Arc<dyn Store> {
        self.store()
    }

    fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move { pass(&self.store(), length) })
    }

    fn restart(&self) -> BoxFuture<'_, Option<Arc<dyn Store>>> {
        Box::pin(async {
            let store = self.store();
            // A relaxed store promises no more than what is older than its bound.
            store.close().await;
            let mut now = self.now.lock().expect("no test panics in it");
            let seed = self.losses.fetch_add(1, Ordering::SeqCst);
            let site = now.0.after_power_loss(seed);
            let store = site.open(&self.policy);
            *now = (site, store.clone());
            Some(store as Arc<dyn Store>)
        })
    }
}
