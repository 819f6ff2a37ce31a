//! What a worker does that may be killed: pair after pair until it is told to stop.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tallygate_core::{Amounts, Decision, Metric};
use tallygate_sim::{Clock, Rng};
use tallygate_store::{Reserve, SettledBy, Store, WaitsFor};

use super::super::Outcome;
use super::super::machine;
use super::super::worker::{self, Post};
use super::{Did, Duty, TASKS, TTL, policy};

/// What it says on its error output before it asks, each time the store was out of reach, and after it has settled.
pub(super) const BEGUN: u8 = b'b';
pub(super) const DOWN: u8 = b'd';
pub(super) const SETTLED: u8 = b's';

/// Orders.
pub(super) const REPORT: &str = "report";
pub(super) const STOP: &str = "stop";

const RESERVED: u64 = 150;
const USED: u64 = 100;

/// What the tasks of a worker share.
struct Shift {
    store: Arc<dyn Store>,
    clock: Clock,
    did: Mutex<Did>,
    over: AtomicBool,
}

pub(in super::super) async fn work(post: &Post, duty: Duty) -> Outcome {
    let shift = Arc::new(Shift {
        store: post.store(&policy(duty)?).await?,
        clock: Clock::machine(),
        did: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let seed = post.number as u64 * 1_000;
    let tasks = (0..TASKS as u64).map(|task| tokio::spawn(shift.clone().pairs(seed + task)));
    let tasks: Vec<_> = tasks.collect();
    worker::say_ready();
    while worker::order().await?.as_deref() == Some(REPORT) {
        shift.say()?;
    }
    shift.over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await??;
    }
    shift.say()
}

impl Shift {
    fn say(&self) -> Outcome {
        let did = std::mem::take(&mut *self.did.lock());
        worker::say(&did)
    }

    async fn pairs(self: Arc<Self>, seed: u64) -> Outcome {
        let mut rng = Rng::new(seed);
        while !self.over.load(Ordering::SeqCst) {
            self.pair(Duration::from_micros(10_000 + rng.below(20_000)))
                .await?;
        }
        Ok(())
    }

    async fn pair(&self, call: Duration) -> Outcome {
        tell(BEGUN)?;
        let (began, mut down) = (Instant::now(), 0);
        let ask = Reserve {
            subject: &[],
            demand: amounts(RESERVED).with(Metric::CONCURRENCY, 1),
            ttl: TTL,
            max_wait: Duration::from_secs(60),
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        let admission = match worker::reserve(&*self.store, ask, &mut down).await? {
            Decision::Admit(admission) => admission,
            other => return Err(format!("the turn comes: {other:?}").into()),
        };
        self.note(began.elapsed(), Some(self.clock.now().nanos()));
        machine::wait(call).await;
        let began = Instant::now();
        worker::settle(&*self.store, (admission.id, amounts(USED)), &mut down).await?;
        self.note(began.elapsed(), None);
        self.note_down(down)?;
        tell(SETTLED)
    }

    fn note_down(&self, times: usize) -> Outcome {
        self.did.lock().down += times;
        (0..times).try_for_each(|_| tell(DOWN))
    }

    fn note(&self, took: Duration, admitted: Option<u64>) {
        let mut did = self.did.lock();
        did.operations.add(took);
        did.admitted.extend(admitted);
    }
}

fn amounts(tokens: u64) -> Amounts {
    Amounts::ZERO
        .with(Metric::REQUESTS, 1)
        .with(Metric::TOKENS, tokens)
}

/// One byte, at once: what follows it may be our end.
fn tell(what: u8) -> Outcome {
    Ok(std::io::stderr().write_all(&[what])?)
}
