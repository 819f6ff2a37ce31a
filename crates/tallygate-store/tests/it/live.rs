//! Stores on real servers, and a load on them that notes what callers were told.
use crate::support::{ask, rule};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tallygate_core::{
    Admission, Amounts, Decision, Denial, Metric, Metrics, Policy, Receipt, Shape, Span,
};
use tallygate_store::{
    RedisOptions, RedisStore, Reserve, SettleError, Settlement, Store, StoreError,
};

/// Label and value.
pub(crate) type Pair<'a> = (&'a str, &'a str);

pub(crate) async fn open(url: &str, policy: &Policy) -> Arc<RedisStore> {
    let options = RedisOptions::parse(url).expect("a URL");
    let store = RedisStore::open(options, policy).await;
    store.unwrap_or_else(|error| panic!("{error}"))
}

/// Never forgets within a test, and gives back what is returned to the last token.
pub(crate) fn hour() -> Shape {
    Shape::Sliding {
        every: Span::from_secs(3600),
    }
}

/// Three rules that count apart by different labels, from narrow to broad: so many tokens of each, and slots.
pub(crate) fn layered(user: u64, tenant: u64, all: u64) -> Policy {
    let slots = (Metric::CONCURRENCY, 10_000, Shape::Concurrency);
    let tokens = |amount| (Metric::TOKENS, amount, hour());
    let rules = vec![
        rule("all", &[], &[tokens(all), slots.clone()]),
        rule("tenant", &["tenant"], &[tokens(tenant), slots.clone()]),
        rule("user", &["user"], &[tokens(user), slots]),
    ];
    Policy::new(rules, Metrics::default()).expect("a policy")
}

pub(crate) fn call(tokens: u64) -> Amounts {
    Amounts::ZERO
        .with(Metric::TOKENS, tokens)
        .with(Metric::CONCURRENCY, 1)
}

pub(crate) fn used(tokens: u64) -> Settlement {
    Settlement::Exact(Amounts::ZERO.with(Metric::TOKENS, tokens))
}

pub(crate) fn admitted(decision: Result<Decision, StoreError>) -> Admission {
    match decision {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("an admission instead of {other:?}"),
    }
}

pub(crate) fn denied(decision: Result<Decision, StoreError>) -> Denial {
    match decision {
        Ok(Decision::Deny(denial)) => denial,
        other => panic!("a denial instead of {other:?}"),
    }
}

/// Tokens and slots that are taken of the rules of [`layered`]: by all, the tenant, the user. Waits for a store that another process
/// has found again, and this one has not yet.
pub(crate) async fn taken(store: &dyn Store, subject: &[Pair<'_>]) -> [(u64, u64); 3] {
    let mut found = None;
    until("answer", async || {
        found = store.peek(subject).await.ok();
        found.is_some()
    })
    .await;
    let standings = found.expect("there was an answer");
    let of = |name: &str| {
        let mut used = standings
            .iter()
            .filter(|one| &*one.limit.name == name)
            .map(|one| one.used);
        (used.next().expect("tokens"), used.next().expect("slots"))
    };
    [of("all"), of("tenant"), of("user")]
}

/// Asks until it holds; panics after a while.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(60), "no {what}");
        tokio::time::sleep(Duration::from_millis(10)).await; // tidy: sleeps because the other side is a process
    }
}

/// How long reservations of a load stand.
pub(crate) const TTL: Duration = Duration::from_secs(5);

/// What callers under load were told.
#[derive(Default)]
pub(crate) struct Load {
    stop: AtomicBool,
    told: Mutex<Told>,
}

/// What was told so far.
#[derive(Default, Clone)]
pub(crate) struct Told {
    /// When each admission was.
    pub(crate) admissions: Vec<Instant>,
    pub(crate) denials: u64,
    /// Tokens that receipts say were charged, by user.
    pub(crate) charged: [u64; USERS],
    /// Reservations that the store did not know any more.
    pub(crate) unknown: u64,
    /// Calls that found no store.
    pub(crate) failures: Vec<String>,
    /// How often a caller that had found the store found none.
    pub(crate) interruptions: u64,
    /// The longest that a caller found none.
    pub(crate) outage: Duration,
    /// When somebody found none, first and last.
    pub(crate) first_failure: Option<Instant>,
}

impl Told {
    /// How many were admitted in a span of time.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> u64 {
        let within = self
            .admissions
            .iter()
            .filter(|at| (from..=to).contains(*at));
        within.count() as u64
    }
}

/// Users of a load; all are of one tenant.
pub(crate) const USERS: usize = 4;

/// What each call of a load reserves, and what it uses of it.
pub(crate) const RESERVED: u64 = 10;
pub(crate) const USED: u64 = 7;

impl Load {
    /// Callers on each of these stores; they go on until [`Self::stop`].
    pub(crate) fn begin(
        stores: &[Arc<RedisStore>],
        callers: usize,
    ) -> (Arc<Self>, Vec<tokio::task::JoinHandle<()>>) {
        let load = Arc::new(Self::default());
        let callers = (0..callers).flat_map(|number| {
            let stores = stores.iter().cloned();
            stores.map(move |store| (number, store))
        });
        let tasks = callers
            .map(|(number, store)| tokio::spawn(load.clone().work(store, number % USERS)))
            .collect();
        (load, tasks)
    }

    pub(crate) fn told(&self) -> Told {
        self.told.lock().clone()
    }

    /// Waits until so many more were admitted.
    pub(crate) async fn admits(&self, more: usize) {
        let enough = self.told.lock().admissions.len() + more;
        until("admissions", async || {
            self.told.lock().admissions.len() >= enough
        })
        .await;
    }

    /// Waits until the limit is reached.
    pub(crate) async fn is_denied(&self) {
        let before = self.told.lock().denials;
        until("denials", async || self.told.lock().denials > before + 20).await;
    }

    /// Lets all callers come to an end.
    pub(crate) async fn stop(&self, tasks: Vec<tokio::task::JoinHandle<()>>) -> Told {
        self.stop.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.expect("a caller ends");
        }
        self.told()
    }

    async fn work(self: Arc<Self>, store: Arc<RedisStore>, user: usize) {
        let name = format!("u{user}");
        let subject = [("user", name.as_str()), ("tenant", "t")];
        let mut failing = None;
        while !self.stop.load(Ordering::SeqCst) {
            let began = Instant::now();
            let asked = Reserve {
                ttl: TTL,
                ..ask(&subject, call(RESERVED))
            };
            match store.reserve(asked).await {
                Ok(decision) => {
                    self.recovered(&mut failing);
                    self.decided(&store, user, decision).await;
                }
                Err(error) => self.failed(&mut failing, began, &error).await,
            }
        }
    }

    async fn decided(&self, store: &RedisStore, user: usize, decision: Decision) {
        match decision {
            Decision::Admit(admission) => {
                self.told.lock().admissions.push(Instant::now());
                self.settle(store, user, &admission).await;
            }
            _ => {
                self.told.lock().denials += 1;
                tokio::time::sleep(Duration::from_millis(2)).await; // tidy: sleeps because callers are not a flood
            }
        }
    }

    /// Settles, again and again while there is no store.
    async fn settle(&self, store: &RedisStore, user: usize, admission: &Admission) {
        let mut failing = None;
        loop {
            let began = Instant::now();
            let settled = store.settle(admission.id, used(USED)).await;
            let charged = |receipt: &Receipt| receipt.charged.get(Metric::TOKENS);
            match settled {
                Ok(receipt) => self.told.lock().charged[user] += charged(&receipt),
                Err(SettleError::Standing(receipt)) => {
                    self.told.lock().charged[user] += charged(&receipt);
                }
                Err(SettleError::Unknown) => self.told.lock().unknown += 1,
                Err(error) => {
                    self.failed(&mut failing, began, &error).await;
                    continue;
                }
            }
            return self.recovered(&mut failing);
        }
    }

    async fn failed(
        &self,
        failing: &mut Option<Instant>,
        began: Instant,
        error: &(dyn std::error::Error + Sync),
    ) {
        if failing.replace(failing.unwrap_or(began)).is_none() {
            self.told.lock().interruptions += 1;
        }
        self.note_failure(began, error);
        tokio::time::sleep(Duration::from_millis(5)).await; // tidy: sleeps because callers come again after a moment
    }

    fn note_failure(&self, began: Instant, error: &(dyn std::error::Error + Sync)) {
        let mut told = self.told.lock();
        told.failures.push(error.to_string());
        told.first_failure.get_or_insert(began);
    }

    fn recovered(&self, failing: &mut Option<Instant>) {
        if let Some(began) = failing.take() {
            let mut told = self.told.lock();
            told.outage = told.outage.max(began.elapsed());
        }
    }
}
