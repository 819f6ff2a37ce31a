//! The Redis store under the conformance suite, on real servers and their clocks.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tallygate_core::Policy;
use tallygate_sim::servers::{Cluster, Engine, Server};
use tallygate_store::conformance::{Case, Harness, Outcome, Rig, cases};
use tallygate_store::{BoxFuture, RedisOptions, RedisStore, Store};
use tokio::runtime::{Handle, Runtime};

/// Stores on one server, each under a prefix of its own.
#[derive(Clone)]
struct Shared {
    url: String,
    /// What the prefixes begin with.
    prefix: &'static str,
    opened: Arc<AtomicU64>,
    runtime: Handle,
    second: Duration,
}

/// What cases call a second. A machine that stalls in a case gets it again with longer ones: what is wrong with a store is
/// so at any length.
const SECONDS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

struct OneStore {
    store: Arc<RedisStore>,
    url: String,
    policy: Policy,
}

impl Harness for Shared {
    fn open(&self, policy: Policy) -> BoxFuture<'_, Result<Box<dyn Rig>, String>> {
        let number = self.opened.fetch_add(1, Ordering::SeqCst);
        let more = if self.url.contains('?') { '&' } else { '?' };
        let options = format!("prefix={}{number}&timeout=5s", self.prefix);
        let url = format!("{}{more}{options}", self.url);
        Box::pin(async move {
            let store = open(&url, &policy).await?;
            let rig: Box<dyn Rig> = Box::new(OneStore { store, url, policy });
            Ok(rig)
        })
    }

    fn second(&self) -> Duration {
        self.second
    }

    fn together<'a>(&'a self, tasks: Vec<BoxFuture<'static, ()>>) -> BoxFuture<'a, ()> {
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|task| self.runtime.spawn(task))
            .collect();
        Box::pin(async move {
            for task in tasks {
                task.await.expect("a task of a case ends");
            }
        })
    }
}

impl Rig for OneStore {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(length)) // tidy: sleeps because the clock under test is the server's
    }

    fn second_handle(&self) -> BoxFuture<'_, Option<Arc<dyn Store>>> {
        Box::pin(async { Some(self.another().await) })
    }

    fn restart(&self) -> BoxFuture<'_, Option<Arc<dyn Store>>> {
        Box::pin(async { Some(self.another().await) })
    }
}

impl OneStore {
    async fn another(&self) -> Arc<dyn Store> {
        open(&self.url, &self.policy)
            .await
            .expect("the server is there")
    }
}

async fn open(url: &str, policy: &Policy) -> Result<Arc<RedisStore>, String> {
    let options = RedisOptions::parse(url).map_err(|error| error.to_string())?;
    let store = RedisStore::open(options, policy).await;
    store.map_err(|error| error.to_string())
}

/// Puts a server through every case, a few at a time. Where they disturb each other's clocks, a case must hold alone.
fn conforms(url: String) {
    let only = std::env::var("TALLYGATE_CASE").unwrap_or_default();
    let chosen = cases().into_iter();
    let chosen = chosen.filter(|case| case.name.contains(&only)).collect();
    conforms_in(url, "t", chosen);
}

/// The first few cases of each group.
pub(crate) fn few_of_each_group(few: usize) -> Vec<Case> {
    let mut taken: HashMap<&str, usize> = HashMap::new();
    let mut chosen = cases();
    chosen.retain(|case| {
        let group = case.name.split("::").next().unwrap_or_default();
        let taken = taken.entry(group).or_default();
        *taken += 1;
        *taken <= few
    });
    chosen
}

/// The same for some cases, under prefixes that begin with `prefix`.
pub(crate) fn conforms_in(url: String, prefix: &'static str, chosen: Vec<Case>) {
    let runtime = Runtime::new().expect("a runtime starts");
    let shared = Arc::new(Shared {
        url,
        prefix,
        opened: Arc::default(),
        runtime: runtime.handle().clone(),
        second: SECONDS[0],
    });
    let failed = runtime.block_on(async {
        let mut failed = Vec::new();
        for case in together(&shared, chosen).await {
            if let Some(what) = at_ever_longer_seconds(case, &shared).await {
                failed.push(what);
            }
        }
        failed
    });
    assert!(
        failed.is_empty(),
        "{} failed\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// Runs cases beside each other; answers those that did not pass.
async fn together(shared: &Arc<Shared>, chosen: Vec<Case>) -> Vec<Case> {
    let turns = Arc::new(tokio::sync::Semaphore::new(8));
    let mut running = Vec::new();
    for case in chosen {
        let (shared, turns) = (shared.clone(), turns.clone());
        running.push(tokio::spawn(async move {
            let _turn = turns.acquire_owned().await.expect("turns are open");
            (case, case.run(&*shared).await)
        }));
    }
    let mut left = Vec::new();
    for case in running {
        let (case, outcome) = case.await.expect("a case ends");
        if !matches!(outcome, Outcome::Passed) {
            left.push(case);
        }
    }
    left
}

/// What is wrong, if it is at every length of a second.
async fn at_ever_longer_seconds(case: Case, shared: &Shared) -> Option<String> {
    let mut last = None;
    for second in SECONDS {
        let harness = Shared {
            second,
            ..shared.clone()
        };
        let what = match case.run(&harness).await {
            Outcome::Passed => return None,
            Outcome::Skipped(why) => format!("{} skipped: {why}", case.name),
            Outcome::Failed(failure) => format!("{}: {failure}", case.name),
        };
        eprintln!("at {second:?}: {what}");
        last = Some(what);
    }
    last
}

#[test]
fn redis_conforms() {
    let server = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    conforms(server.url());
}

#[test]
fn valkey_conforms() {
    let server = Server::start(Engine::Valkey, &[]).expect("valkey-server starts");
    conforms(server.url());
}

#[test]
fn a_cluster_conforms() {
    let cluster = Cluster::start(Engine::Valkey, 3, 3, &[]).expect("a cluster forms");
    conforms(cluster.url());
}
