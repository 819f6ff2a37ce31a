//! What wakes a waiter of another process: the message, and no beat.
//!
//! By the beat every waiter would be served in the end. So the processes' clock stands still here while one waits: no beat
//! falls, and nothing else that is due by a clock happens.
use crate::live::open;
use crate::support::rule;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use tallygate_core::{Admission, Amounts, Decision, Metric, Metrics, Policy, Shape};
use tallygate_sim::servers::{Cluster, Engine, Server};
use tallygate_store::{RedisStore, Reserve, SettledBy, Store, WaitsFor};
use tokio::task::yield_now;

/// How long the store keeps a place in line that is not made good, by its own clock.
const STAY: Duration = Duration::from_millis(700);

/// After which a message is lost.
const LOST: Duration = Duration::from_secs(60);

/// A clock that stands still; after [`LOST`] it goes on, and beats fall again.
struct Still {
    since: tokio::time::Instant,
    _stands: Sender<()>,
}

impl Still {
    fn begin() -> Self {
        let (stands, over) = channel::<()>();
        // A paused clock goes on by itself when all wait for it, but not while something blocks.
        tokio::task::spawn_blocking(move || over.recv_timeout(LOST));
        tokio::time::pause();
        Self {
            since: tokio::time::Instant::now(),
            _stands: stands,
        }
    }

    fn passed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

fn one_slot() -> Policy {
    let limits = [(Metric::CONCURRENCY, 1, Shape::Concurrency)];
    Policy::new(vec![rule("slots", &[], &limits)], Metrics::default()).expect("a policy")
}

async fn take(store: &RedisStore) -> Admission {
    let slot = Reserve {
        subject: &[],
        demand: Amounts::ZERO.with(Metric::CONCURRENCY, 1),
        ttl: Duration::from_secs(600),
        max_wait: Duration::from_secs(600),
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    match store.reserve(slot).await {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("an admission instead of {other:?}"),
    }
}

/// Lets a slot pass from one process to another that waits for it; answers whether the waiter's place was surely kept until then,
/// and so the message sent. How often the script was run for that is told by `runs`.
async fn hand_over(one: &RedisStore, other: &Arc<RedisStore>, runs: impl Fn() -> u64) -> bool {
    let held = take(one).await;
    let still = Still::begin();
    let began = Instant::now();
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { take(&other).await }
    });
    while other.stats().waiters == 0 {
        yield_now().await;
    }
    let before = runs();
    one.cancel(held.id).await.expect("it is open");
    let was_kept = began.elapsed() < STAY;
    let admission = match was_kept {
        true => {
            let admission = waiting.await.expect("the task ends");
            assert_eq!(still.passed(), Duration::ZERO, "no message came");
            let calls = runs() - before;
            // Giving back, taking, leaving the line; the last may be still to come.
            assert!((2..=3).contains(&calls), "{calls} calls");
            drop(still);
            admission
        }
        false => {
            drop(still);
            waiting.await.expect("the task ends")
        }
    };
    other.cancel(admission.id).await.expect("it is open");
    was_kept
}

/// Hands it over again and again; a machine that is busy may take so long that a place lapses now and then.
async fn all_are_woken(url: &str, runs: impl Fn() -> u64) {
    const WAKES: usize = 20;
    let url = format!("{url}?timeout=5s");
    let one = open(&url, &one_slot()).await;
    let other = open(&url, &one_slot()).await;
    let mut woken = 0;
    while woken < WAKES {
        woken += usize::from(hand_over(&one, &other, &runs).await);
    }
}

/// How often the script was run on these servers.
fn runs_on(servers: &[Server]) -> u64 {
    servers.iter().map(crate::support::script_calls).sum()
}

#[tokio::test]
async fn what_is_given_back_wakes_another_process_by_a_message() {
    let server = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    let servers = std::slice::from_ref(&server);
    all_are_woken(&server.url(), || runs_on(servers)).await;
}

#[tokio::test]
async fn what_is_given_back_wakes_another_process_of_a_cluster_by_a_message() {
    let cluster = Cluster::start(Engine::Valkey, 3, 0, &[]).expect("a cluster forms");
    all_are_woken(&cluster.url(), || runs_on(cluster.nodes())).await;
}
