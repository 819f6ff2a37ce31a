//! The link against real servers.
mod alone;
mod cluster;
mod elected;
mod encrypted;
mod news;
mod opening;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Value;
use tallygate_sim::servers::{Engine, Server, ServerError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Call, Link, LinkError};
use crate::redis::RedisOptions;

/// Adds to a counter and answers with its value.
const ADD: &str = "return {redis.call('INCRBY', KEYS[1], ARGV[1]), 'as text'}";

/// The deadline of a call, long enough for a busy machine and short enough to wait for it.
const TIMEOUT: Duration = Duration::from_millis(250);

/// What is to happen within a second, with room for a machine that is busy with much else: it would not happen for ever.
const SOON: Duration = Duration::from_secs(15);

fn add(tag: u32, amount: u32) -> Call {
    Call {
        tag,
        keys: vec![format!("tg:{{{tag:08x}}}n").into_bytes()],
        args: vec![amount.to_string().into_bytes()],
    }
}

fn started(engine: Engine, config: &[&str]) -> Server {
    Server::start(engine, config).unwrap_or_else(|error| panic!("{error}"))
}

fn options(url: &str) -> RedisOptions {
    RedisOptions::parse(url).unwrap_or_else(|error| panic!("{error}"))
}

/// Kills, for where another fall may fail.
fn killed(server: &Server) -> Result<(), ServerError> {
    server.kill();
    Ok(())
}

async fn opened(url: &str, script: &str) -> Link {
    let link = Link::open(&options(url), script).await;
    link.unwrap_or_else(|error| panic!("{error}"))
}

async fn sum(link: &Link, call: &Call) -> Result<i64, LinkError> {
    let values = link.call(call).await?;
    assert_eq!(values.len(), 2, "{values:?}");
    match values.first() {
        Some(Value::Int(sum)) => Ok(*sum),
        other => panic!("{other:?}"),
    }
}

fn is_down<T: std::fmt::Debug>(answer: Result<T, LinkError>) -> String {
    match answer {
        Err(LinkError::Down {
            reason,
            retry_after,
        }) => {
            assert!(retry_after <= Duration::from_secs(1), "{retry_after:?}");
            reason
        }
        other => panic!("{other:?}"),
    }
}

fn is_refused<T: std::fmt::Debug>(answer: Result<T, LinkError>) -> String {
    match answer {
        Err(LinkError::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Waits until as many circuits are open, and tells how long that took.
async fn open_circuits(watch: &mut watch::Receiver<usize>, wanted: usize) -> Duration {
    let since = Instant::now();
    let seen = tokio::time::timeout(
        Duration::from_secs(20),
        watch.wait_for(|open| *open == wanted),
    );
    let seen = seen.await.map(|seen| seen.is_ok());
    assert_eq!(seen, Ok(true), "waiting for {wanted} open circuits");
    since.elapsed()
}

/// What calls went through while something happened to their servers.
struct Ordeal {
    /// How long it took to happen.
    happened: Duration,
    /// The longest that one call took.
    longest: Duration,
    /// How late a timer of this process was at most: the machine's part in it.
    late: Duration,
    /// How long calls went on failing after it had happened.
    after: Duration,
}

/// Calls with all of `tags` over and over while `happen` runs, and then until each has been answered once.
async fn endure(
    link: &Link,
    tags: std::ops::Range<u32>,
    happen: impl FnOnce() + Send + 'static,
) -> Ordeal {
    let began = Instant::now();
    let (late, watch) = watch_timers();
    let happening = tokio::task::spawn_blocking(happen);
    let mut longest = Duration::ZERO;
    for tag in tags.clone().cycle() {
        if happening.is_finished() {
            break;
        }
        let since = Instant::now();
        if sum(link, &add(tag, 0)).await.is_err() {
            a_moment().await;
        }
        longest = longest.max(since.elapsed());
    }
    happening.await.unwrap();
    let happened = Instant::now();
    for tag in tags {
        while sum(link, &add(tag, 0)).await.is_err() {
            a_moment().await;
        }
    }
    watch.abort();
    Ordeal {
        happened: happened - began,
        longest,
        late: Duration::from_micros(late.load(Ordering::Relaxed)),
        after: happened.elapsed(),
    }
}

/// Notes by how many microseconds a timer was late at most.
fn watch_timers() -> (Arc<AtomicU64>, JoinHandle<()>) {
    const STEP: Duration = Duration::from_millis(5);
    let late = Arc::new(AtomicU64::new(0));
    let noted = late.clone();
    let watch = tokio::spawn(async move {
        loop {
            let since = Instant::now();
            // tidy: sleeps because it is the lateness of timers that is measured.
            tokio::time::sleep(STEP).await;
            let late = since.elapsed().saturating_sub(STEP).as_micros();
            noted.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    });
    (late, watch)
}

async fn a_moment() {
    // tidy: sleeps because a caller that is refused at once would else take the CPU from the servers.
    tokio::time::sleep(Duration::from_millis(1)).await;
}

impl Ordeal {
    /// Calls went on soon after, and none of them waited for longer than its deadline.
    fn was_short(&self, what: &str) {
        let Self {
            happened,
            longest,
            late,
            after,
        } = self;
        eprintln!(
            "{what}: {happened:?}, then {after:?} until all calls were answered; the longest call {longest:?}"
        );
        assert!(*after < SOON, "{what}: {after:?}");
        let most = 4 * (TIMEOUT + *late);
        assert!(*longest < most, "{what}: {longest:?}, not {most:?}");
    }
}
