//! The users' calls, and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tallygate_sim::{ApiCall, Client, Reply, Rng, words};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::stage::{Manner, USERS, User};

/// What became of one user's calls.
#[derive(Debug, Default)]
pub(super) struct Tally {
    admitted: AtomicU64,
    denied: AtomicU64,
    failed: AtomicU64,
    tokens: AtomicU64,
}

/// A tally at one instant.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tallied {
    pub(super) admitted: u64,
    pub(super) denied: u64,
    /// Answered otherwise, or not at all.
    pub(super) failed: u64,
    /// Input and output, as the answers' usage says.
    pub(super) tokens: u64,
}

impl Tally {
    pub(super) fn read(&self) -> Tallied {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tallied {
            admitted: read(&self.admitted),
            denied: read(&self.denied),
            failed: read(&self.failed),
            tokens: read(&self.tokens),
        }
    }

    fn note(&self, reply: &Reply) {
        let counter = match reply.status {
            200 => &self.admitted,
            429 => &self.denied,
            _ => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(usage) = reply.answer().usage {
            self.tokens
                .fetch_add(usage.input + usage.output, Ordering::Relaxed);
        }
    }
}

/// All users at work, until told to stop.
pub(super) struct Traffic {
    pub(super) tallies: [Arc<Tally>; 3],
    workers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Traffic {
    /// Lets the users loose on the gateway at `url`, each with its key.
    pub(super) fn start(url: &str, keys: &[String; 3], seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let tallies: [Arc<Tally>; 3] = Default::default();
        let mut workers = JoinSet::new();
        for (index, (user, key)) in USERS.iter().zip(keys).enumerate() {
            for number in 0..user.workers {
                let worker = Worker {
                    user,
                    client: Client::new(url).with_key(key),
                    rng: Rng::new(seed ^ (index * 100 + number) as u64),
                    tally: Arc::clone(&tallies[index]),
                };
                workers.spawn(worker.run(stopped.clone()));
            }
        }
        Self {
            tallies,
            workers,
            stop,
        }
    }

    /// Starts no other call, and lets those under way end; callers that stand in line leave it soon.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            self.workers.shutdown().await;
        }
    }
}

struct Worker {
    user: &'static User,
    client: Client,
    rng: Rng,
    tally: Arc<Tally>,
}

impl Worker {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        while !*stopped.borrow_and_update() {
            let call = self.call();
            let pause = match self.client.call(&call).await {
                Ok(reply) => {
                    self.tally.note(&reply);
                    // Alice does not read what a denial says; a good client would wait for `retry_after`.
                    if reply.status == 200 {
                        Duration::ZERO
                    } else {
                        IMPATIENCE
                    }
                }
                Err(_) => {
                    self.tally.failed.fetch_add(1, Ordering::Relaxed);
                    IMPATIENCE
                }
            };
            // Either the pause is over or the demo is.
            drop(tokio::time::timeout(pause, stopped.changed()).await);
        }
    }

    fn call(&mut self) -> ApiCall {
        let size = self.user.prompt / 2 + self.rng.below(self.user.prompt);
        let prompt = words::text(&mut self.rng, size);
        let call =
            ApiCall::new(self.user.endpoint, self.user.model, &prompt).max_tokens(self.user.answer);
        match self.user.manner {
            Manner::Impatient => call.header("x-tallygate-max-wait-ms", "0"),
            Manner::Patient => call,
            Manner::Streaming => call.streamed(),
        }
    }
}

/// Longer than any answer takes.
const GRACE: Duration = Duration::from_secs(2);

/// How soon a denied user tries again.
const IMPATIENCE: Duration = Duration::from_millis(400);
