//! What happens while the store is out of reach.
//!
//! A call without an answer is sent again for a while ([`patience`]); all operations take effect once, however often they
//! are sent. After that, and at once while the circuit is open:
//!
//! - a demand is decided by what its limits say they do then ([`Choice`], the one place);
//! - the end of a reservation is kept and delivered when the store is back ([`super::spool`]), and its caller told so;
//! - all else fails with the reason and with when to try again.
//!
//! Those who wait for room wait for the store as well, as long as they would have waited in line.
mod choice;
mod keeping;
mod patience;
mod tending;
mod uncounted;
mod waiting;

pub(crate) use self::choice::Choice;
use self::patience::{Patient, Trouble};
use self::tending::Signals;
use self::uncounted::Uncounted;
use super::metrics::MetricNames;
use super::opening::RedisOpenError;
use super::options::RedisOptions;
use super::pump::Carrier;
use super::spool::{self, Spool};
use super::store::{Errand, Shared};
use crate::store::{OutageStats, Reserve, StoreError, StoreHealth};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Denial, Span, Standing};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// What a store knows of being out of reach.
pub(crate) struct Outage {
    /// How many servers are out of reach.
    circuits: watch::Receiver<usize>,
    trouble: Arc<Trouble>,
    pub(crate) uncounted: Uncounted,
    spool: Spool,
    late: Mutex<Late>,
    bell: Arc<Notify>,
    /// Dropped with the store: its task ends.
    alive: watch::Sender<()>,
    /// Callers that wait for the store.
    waiting: AtomicUsize,
    most_waiting: usize,
    alone: AtomicU64,
}

/// Why the store gave no answer, and when it may be asked again.
struct Down {
    reason: String,
    retry_after: Duration,
}

impl Outage {
    /// How often anything was sent again because no answer came.
    pub(crate) fn sent_again(&self) -> u64 {
        self.trouble.resent()
    }

    /// What the metrics are called from now on: as before, and some more.
    pub(crate) fn name_metrics(&self, metrics: MetricNames) {
        self.spool.name_metrics(metrics);
    }

    /// What is to be known of the store behind `carrier`, and the way there that calls shall take.
    ///
    /// # Errors
    /// When the folder for what cannot be delivered cannot be used.
    pub(crate) async fn open(
        carrier: Arc<dyn Carrier>,
        options: &RedisOptions,
        metrics: MetricNames,
    ) -> Result<(Self, Arc<dyn Carrier>), RedisOpenError> {
        let bell = Arc::new(Notify::new());
        let spool = opened(options, metrics, bell.clone()).await?;
        let circuits = carrier.open_circuits();
        let patient = Patient::new(carrier, options.deadline, bell.clone());
        let outage = Self {
            circuits,
            trouble: patient.trouble(),
            uncounted: Uncounted::default(),
            spool,
            late: Mutex::default(),
            bell,
            alive: watch::Sender::new(()),
            waiting: AtomicUsize::new(0),
            most_waiting: options.waiters,
            alone: AtomicU64::new(0),
        };
        Ok((outage, Arc::new(patient)))
    }

    /// Delivers what is kept from now on.
    pub(crate) fn start(shared: &Arc<Shared>) {
        let outage = &shared.outage;
        let signals = Signals {
            bell: outage.bell.clone(),
            circuits: outage.circuits.clone(),
            alive: outage.alive.subscribe(),
        };
        let tending = tending::tend(Arc::downgrade(shared), signals);
        shared.pump.runtime().spawn(tending);
    }

    /// Whether a server is known to be out of reach: calls to it are not even sent.
    pub(crate) fn is_open(&self) -> bool {
        *self.circuits.borrow() > 0
    }

    pub(crate) fn health(&self) -> StoreHealth {
        match self.trouble.last() {
            Some(reason) => StoreHealth::Down { reason },
            // On a Cluster, another server has answered since.
            None if self.is_open() => StoreHealth::Down {
                reason: self
                    .trouble
                    .latest_or("a server of the Cluster is out of reach"),
            },
            None => StoreHealth::Up,
        }
    }

    /// A demand was admitted from a share: alone, if the store is away.
    pub(crate) fn spent_share(&self) {
        if self.trouble.is_known() {
            self.alone.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Callers that wait for the store to come back.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> OutageStats {
        let late = *self.late.lock();
        OutageStats {
            uncounted: self.uncounted.admitted(),
            alone: self.alone.load(Ordering::Relaxed),
            resent: self.trouble.resent(),
            kept: self.spool.len(),
            settled: late.settled,
            cancelled: late.cancelled,
            charged: late.charged,
            returned: late.returned,
            debt: late.debt,
            overtaken: late.overtaken,
            lost: self.spool.lost(),
            unsaved: self.spool.trouble(),
            unreadable: 0,
            unreadable_last: None,
            outages: self.trouble.outages(),
            outage_last: Some(self.trouble.latest()).filter(|reason| !reason.is_empty()),
        }
    }
}

/// What came of ends that were kept, once they were delivered.
#[derive(Debug, Clone, Copy, Default)]
struct Late {
    settled: u64,
    cancelled: u64,
    overtaken: u64,
    charged: Amounts,
    returned: Amounts,
    debt: Amounts,
}

/// The queue of what cannot be delivered, with what an earlier process left in its folder.
async fn opened(
    options: &RedisOptions,
    metrics: MetricNames,
    bell: Arc<Notify>,
) -> Result<Spool, RedisOpenError> {
    let Some(folder) = options.data.clone() else {
        return Ok(Spool::in_memory(spool::MOST, bell));
    };
    let opening =
        tokio::task::spawn_blocking(move || Spool::open(&folder, metrics, (spool::MOST, bell)));
    let opened = opening
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    opened.map_err(|error| RedisOpenError::Data {
        folder: error.folder.display().to_string(),
        reason: error.reason,
    })
}

impl Shared {
    /// Decides, also while the store is out of reach.
    pub(crate) async fn decide(self: &Arc<Self>, ask: Reserve<'_>) -> Result<Decision, StoreError> {
        let began = Instant::now();
        match self.ask_the_store(ask).await {
            Err(StoreError::Down {
                reason,
                retry_after,
            }) => {
                let down = Down {
                    reason,
                    retry_after,
                };
                self.decide_without(ask, down, began).await
            }
            answer => answer,
        }
    }

    /// Decides with the store; who stands in line there leaves when it goes, if his limits do not say to stay.
    async fn ask_the_store(self: &Arc<Self>, ask: Reserve<'_>) -> Result<Decision, StoreError> {
        if ask.max_wait.is_zero() || self.is_apart() || !self.has_a_choice(&ask) {
            return self.reserve(ask).await;
        }
        tokio::select! {
            biased;
            answer = self.reserve(ask) => return answer,
            () = self.outage.gone() => {}
        }
        // It fails at once, with when to try again.
        self.reserve(Reserve {
            max_wait: Duration::ZERO,
            ..ask
        })
        .await
    }

    fn has_a_choice(&self, ask: &Reserve<'_>) -> bool {
        let desk = self.desk();
        !desk.rules.all_closed() && Choice::of(&desk.resolve(ask.subject)) != Choice::Closed
    }

    async fn decide_without(
        self: &Arc<Self>,
        ask: Reserve<'_>,
        mut down: Down,
        began: Instant,
    ) -> Result<Decision, StoreError> {
        let mut place = None;
        loop {
            let errand = self.errand(&ask);
            let choice = Choice::of(&errand.ask.accounts);
            if let Some(decision) = self.decide_alone(choice, &errand) {
                return Ok(waited(decision, began));
            }
            let left = ask.max_wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                return self.refuse(choice, &errand, down);
            }
            if place.is_none() {
                place = Some(self.outage.enter()?);
            }
            self.outage.change(down.retry_after, left).await;
            let left = ask.max_wait.saturating_sub(began.elapsed());
            let again = Reserve {
                max_wait: left,
                ..ask
            };
            match self.ask_the_store(again).await {
                Err(StoreError::Down {
                    reason,
                    retry_after,
                }) => {
                    down = Down {
                        reason,
                        retry_after,
                    };
                }
                answer => return answer.map(|decision| waited(decision, began)),
            }
        }
    }

    /// What is decided without the store, if anything can be.
    fn decide_alone(&self, choice: Choice, errand: &Errand) -> Option<Decision> {
        match choice {
            Choice::Open => Some(self.outage.uncounted.admit(errand, self.now())),
            Choice::Share => {
                let decision = self.leases.decide_alone(errand, self.now())?;
                self.outage.spent_share();
                Some(decision)
            }
            Choice::Closed => None,
        }
    }

    fn refuse(&self, choice: Choice, errand: &Errand, down: Down) -> Result<Decision, StoreError> {
        if choice != Choice::Share {
            return Err(StoreError::Down {
                reason: down.reason,
                retry_after: down.retry_after,
            });
        }
        let span = Span::from(down.retry_after);
        Ok(Decision::Deny(Denial {
            blocked_by: unshared(errand, down.retry_after),
            retry_after: down.retry_after,
            retry_at: self.now().plus(span),
        }))
    }
}

/// The limits whose share is used up here: nothing is left of them to this process.
fn unshared(errand: &Errand, reset: Duration) -> Vec<Standing> {
    let shared = choice::shared(&errand.ask.accounts);
    let limits = shared.flat_map(|account| account.rule.rule.limits());
    let touched = limits.filter(|limit| errand.ask.demand.get(limit.metric()) > 0);
    touched
        .map(|limit| Standing {
            limit: limit.info().clone(),
            used: limit.info().amount,
            remaining: 0,
            debt: 0,
            reset,
        })
        .collect()
}

fn waited(decision: Decision, began: Instant) -> Decision {
    match decision {
        Decision::Admit(mut admission) => {
            admission.waited = began.elapsed();
            Decision::Admit(admission)
        }
        other => other,
    }
}
