//! Callers that go on through an outage, and note what they were told.

use std::ops::RangeBounds;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tallygate_sim::{ApiCall, Client, Reply};
use tokio::task::JoinHandle;

use super::fleet::{Fleet, GATEWAYS, LIMIT, until};

/// Callers at each gateway.
const CALLERS: usize = 3;

/// How long each pauses between two calls. Fleets of all cases run beside each other.
const PACE: Duration = Duration::from_millis(50);

/// What they call.
pub(super) const MODEL: &str = "gpt-4o";

/// An answer: which gateway gave it, its status, when it was asked for and when it was there.
#[derive(Clone, Copy)]
struct Answer {
    gateway: usize,
    status: u16,
    asked: Instant,
    at: Instant,
}

/// What callers were told.
#[derive(Default)]
pub(super) struct Told {
    stop: AtomicBool,
    /// Whether callers go on however many were admitted.
    goes_on: AtomicBool,
    answers: Mutex<Vec<Answer>>,
    tokens: AtomicU64,
}

/// Callers at every gateway.
pub(super) struct Callers {
    told: Arc<Told>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    pub(super) fn begin(fleet: &Fleet) -> Self {
        let told = Arc::<Told>::default();
        let places = fleet.gateways.iter().enumerate();
        let places = places.flat_map(|one| std::iter::repeat_n(one, CALLERS));
        let tasks = places
            .map(|(number, gateway)| tokio::spawn(call_on(told.clone(), number, gateway.client())))
            .collect();
        Self { told, tasks }
    }

    /// Waits until so many more were admitted.
    pub(super) async fn are_admitted(&self, more: u64) {
        let now = Instant::now();
        until("admissions", async || self.told.count(200, now..) >= more).await;
    }

    /// Lets them go on from now on: most of the limit is left for what comes.
    pub(super) fn go_on(&self) {
        self.told.goes_on.store(true, Ordering::SeqCst);
    }

    /// Waits until every gateway has given some answers of this status to calls that began after `since`.
    pub(super) async fn are_told(&self, status: u16, since: Instant) {
        until(&format!("answers of {status}"), async || {
            (0..GATEWAYS).all(|one| self.told.count_of(one, status, since..) > 5)
        })
        .await;
    }

    /// Lets them come to an end.
    pub(super) async fn end(self) -> Arc<Told> {
        self.told.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("a caller ends");
        }
        self.told
    }
}

impl Told {
    /// How many answers of this status came in a span of time.
    pub(super) fn count(&self, status: u16, when: impl RangeBounds<Instant>) -> u64 {
        self.matching(|answer| answer.status == status && when.contains(&answer.at))
    }

    /// The same from one gateway, asked for in that span too.
    pub(super) fn count_of(
        &self,
        gateway: usize,
        status: u16,
        when: impl RangeBounds<Instant>,
    ) -> u64 {
        self.matching(|answer| {
            let is_within = when.contains(&answer.asked) && when.contains(&answer.at);
            (answer.gateway, answer.status) == (gateway, status) && is_within
        })
    }

    /// Whether so many were admitted already that the limit would soon be reached.
    fn is_early(&self) -> bool {
        !self.goes_on.load(Ordering::SeqCst) && self.admitted() >= LIMIT / 3
    }

    pub(super) fn admitted(&self) -> u64 {
        self.count(200, ..)
    }

    /// Tokens that the provider says were used.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::SeqCst)
    }

    fn matching(&self, is_meant: impl Fn(&Answer) -> bool) -> u64 {
        let answers = self.answers.lock().expect("no caller has panicked");
        answers.iter().filter(|one| is_meant(one)).count() as u64
    }

    fn note(&self, gateway: usize, asked: Instant, reply: &Reply) {
        if reply.status == 200 {
            self.tokens.fetch_add(used(reply), Ordering::SeqCst);
        }
        let answer = Answer {
            gateway,
            status: reply.status,
            asked,
            at: Instant::now(),
        };
        self.answers
            .lock()
            .expect("no caller has panicked")
            .push(answer);
    }
}

/// What the provider says that a call used.
pub(super) fn used(reply: &Reply) -> u64 {
    let usage = reply.answer().usage.expect("usage is told");
    usage.input + usage.output
}

/// Calls one gateway again and again.
async fn call_on(told: Arc<Told>, gateway: usize, client: Client) {
    let call = ApiCall::chat(MODEL, "Hello world").max_tokens(5).output(5);
    while !told.stop.load(Ordering::SeqCst) {
        if told.is_early() {
            tokio::time::sleep(PACE).await; // tidy: sleeps because callers on a slow machine wait for its other processes
            continue;
        }
        let asked = Instant::now();
        let reply = client.call(&call).await.expect("an answer");
        match reply.status {
            200 | 429 | 503 => told.note(gateway, asked, &reply),
            other => panic!("a gateway answered {other}"),
        }
        tokio::time::sleep(PACE).await; // tidy: sleeps because callers are not a flood
    }
}
