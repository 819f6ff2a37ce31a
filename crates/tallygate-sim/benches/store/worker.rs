//! What a worker process does: laps of its duty, one for each line of its input, each answered with a line of JSON.

use std::io::BufRead;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tallygate_core::{Amounts, Decision, Outcome as End, Policy, ReservationId};
use tallygate_store::{
    MemoryOptions, MemoryStore, RedisOptions, RedisStore, Reserve, SettleError, Settlement, Store,
    StoreError,
};

use super::{Outcome, drain, flood, kill, machine, memory, pairs, wake};

/// Before a worker's post on its command line.
pub(super) const WORKER: &str = "--worker";

/// What a worker says first.
pub(super) const READY: &str = "ready";

/// Who a worker is, and what it is to do.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Post {
    /// Its number among `count`.
    pub(super) number: usize,
    pub(super) count: usize,
    /// The server; empty: counters in its own memory.
    pub(super) url: String,
    pub(super) duty: Duty,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Duty {
    Pairs(pairs::Duty),
    Drain(drain::Duty),
    Flood(flood::Duty),
    Wake(wake::Duty),
    Kill(kill::Duty),
    Memory(memory::Duty),
}

/// The post on our command line, if we are a worker.
pub(super) fn post() -> Option<Outcome<Post>> {
    let mut args = std::env::args().skip_while(|arg| arg != WORKER);
    args.next()?;
    let text = args.next().unwrap_or_default();
    Some(serde_json::from_str(&text).map_err(Into::into))
}

pub(super) fn run(post: Post) -> Outcome {
    // One thread: the processors are shared with the server and the other workers.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match post.duty.clone() {
            Duty::Pairs(duty) => pairs::work(&post, duty).await,
            Duty::Drain(duty) => drain::work(&post, duty).await,
            Duty::Flood(duty) => flood::work(&post, duty).await,
            Duty::Wake(duty) => wake::work(&post, duty).await,
            Duty::Kill(duty) => kill::work(&post, duty).await,
            Duty::Memory(duty) => memory::work(&post, duty).await,
        }
    })
}

impl Post {
    pub(super) async fn store(&self, policy: &Policy) -> Outcome<Arc<dyn Store>> {
        if self.url.is_empty() {
            return Ok(MemoryStore::new(policy, MemoryOptions::default()));
        }
        let options = RedisOptions::parse(&self.url)?;
        Ok(RedisStore::open(options, policy).await?)
    }
}

/// The next line of the input; none at its end.
pub(super) async fn order() -> Outcome<Option<String>> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        read.map(|count| (count > 0).then(|| line.trim().to_owned()))
    });
    Ok(read.await??)
}

/// Reserves; asks again while the store is said to be out of reach, as it is on a machine that halts for long, and counts that.
pub(super) async fn reserve(
    store: &dyn Store,
    ask: Reserve<'_>,
    down: &mut usize,
) -> Outcome<Decision> {
    loop {
        match store.reserve(ask).await {
            Err(StoreError::Down { retry_after, .. }) => machine::wait(retry_after).await,
            other => return Ok(other?),
        }
        *down += 1;
    }
}

/// Settles with what was used, in the same manner.
pub(super) async fn settle(
    store: &dyn Store,
    (id, used): (ReservationId, Amounts),
    down: &mut usize,
) -> Outcome {
    loop {
        match store.settle(id, Settlement::Exact(used)).await {
            Err(SettleError::Store(StoreError::Down { retry_after, .. })) => {
                machine::wait(retry_after).await;
            }
            // It is delivered once the store is back.
            Err(SettleError::Kept { .. }) => {
                *down += 1;
                return Ok(());
            }
            // Its deadline has passed meanwhile: it counts as used.
            Err(SettleError::Standing(receipt)) if receipt.outcome == End::Expired => {
                return Ok(());
            }
            other => return Ok(other.map(drop)?),
        }
        *down += 1;
    }
}

pub(super) fn say_ready() {
    println!("{READY}");
}

pub(super) fn say(answer: &impl Serialize) -> Outcome {
    println!("{}", serde_json::to_string(answer)?);
    Ok(())
}
