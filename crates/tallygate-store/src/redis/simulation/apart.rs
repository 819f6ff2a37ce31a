//! Demands on several servers: what one takes of the first for a moment, and gives back, denies nobody else.
use super::engine::Engine;
use super::network::{Network, Weather};
use super::rule;
use crate::redis::link::{Call, LinkError, Notice, Route};
use crate::redis::pump::Carrier;
use crate::redis::{RedisOptions, RedisStore};
use crate::store::{BoxFuture, Reserve, SettledBy, Store, WaitsFor};
use parking_lot::Mutex;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Admission, Amounts, Calendar, Decision, Extended, Metric, Metrics, Policy, Shape, Span,
};
use tallygate_sim::Rng;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};

/// A way on which what would take of one account is held up while it is shut.
struct Gate {
    behind: Arc<dyn Carrier>,
    shut: Mutex<Option<Vec<u8>>>,
    opens: Notify,
}

impl Gate {
    fn open(&self) {
        *self.shut.lock() = None;
        self.opens.notify_waiters();
    }

    fn stops(&self, call: &Call) -> bool {
        const RESERVE: u8 = 1;
        let shut = self.shut.lock();
        let names = |key: &Vec<u8>| call.keys.contains(key);
        let takes = call.args.iter().skip(1).any(|op| op[0] == RESERVE);
        takes && shut.as_ref().is_some_and(names)
    }
}

impl Carrier for Gate {
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Vec<Value>, LinkError>> {
        Box::pin(async move {
            let opens = self.opens.notified();
            if self.stops(call) {
                opens.await;
            }
            self.behind.call(call).await
        })
    }

    fn route(&self, tag: u32) -> Route {
        self.behind.route(tag)
    }

    fn is_cluster(&self) -> bool {
        self.behind.is_cluster()
    }

    fn subscribe(&self, channels: Vec<String>) -> mpsc::Receiver<Notice> {
        self.behind.subscribe(channels)
    }

    fn open_circuits(&self) -> watch::Receiver<usize> {
        self.behind.open_circuits()
    }
}

/// Two processes, one of them behind a gate, on servers of which each has one of two limits.
struct World {
    network: Arc<Network>,
    gate: Arc<Gate>,
    gated: Arc<RedisStore>,
    free: Arc<RedisStore>,
}

type Subject = &'static [(&'static str, &'static str)];

const ALICE: Subject = &[("user", "alice")];

/// A rate for all that one request uses up, and a quota a user.
fn policy() -> Policy {
    let slow = Shape::Bucket {
        every: Span::from_secs(100_000),
        burst: None,
        strict: false,
    };
    let day = Shape::Fixed {
        window: Calendar::Day,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let rate = rule("rate", &[], &[(Metric::REQUESTS, 1, slow)]);
    let quota = rule("quota", &["user"], &[(Metric::TOKENS, 100, day)]);
    Policy::new(vec![rate, quota], Metrics::default()).unwrap()
}

fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

fn request(amount: u64) -> Amounts {
    tokens(amount).with(Metric::REQUESTS, 1)
}

/// One that does not wait.
fn ask(demand: Amounts) -> Reserve<'static> {
    Reserve {
        subject: ALICE,
        demand,
        ttl: Duration::from_secs(3600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Rates,
        settled_by: SettledBy::AnyNode,
    }
}

fn patient(demand: Amounts) -> Reserve<'static> {
    Reserve {
        max_wait: Duration::from_secs(200_000),
        ..ask(demand)
    }
}

async fn admitted(store: &RedisStore, ask: Reserve<'_>) -> Admission {
    match store.reserve(ask).await {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("{other:?}"),
    }
}

impl World {
    async fn new(delay: u64) -> Self {
        let policy = policy();
        let weather = Weather {
            lost: 0,
            delay,
            stall: 3 * delay,
        };
        let network = Network::new(Engine::start(), delay, (weather, &policy));
        network.with(|inner| inner.is_apart = true);
        let gate = Arc::new(Gate {
            behind: network.wire().1,
            shut: Mutex::default(),
            opens: Notify::new(),
        });
        let options = RedisOptions::parse("redis://simulated").expect("the URL is one");
        let gated = RedisStore::over(gate.clone(), &options, &policy).await;
        let free = RedisStore::over(network.wire().1, &options, &policy).await;
        let world = Self {
            network,
            gate,
            gated: gated.expect("no folder is asked for"),
            free: free.expect("no folder is asked for"),
        };
        // The rate is used up, and half of the quota.
        admitted(&world.free, ask(request(50))).await;
        world
    }

    /// Begins a demand that has taken 30 of the quota, will be denied by the rate, and is on its way there.
    async fn begin_in_vain(&self) {
        let accounts = self.gated.accounts(ALICE);
        let mut rates = accounts
            .iter()
            .filter(|account| account.rule.rule.labels(&[]).count() == 0);
        let key = rates.next().map(|account| account.key.clone());
        assert!(key.is_some());
        *self.gate.shut.lock() = key;
        let store = self.gated.clone();
        tokio::spawn(async move {
            let decision = store.reserve(ask(request(30))).await;
            assert!(matches!(decision, Ok(Decision::Deny(_))), "{decision:?}");
        });
        let begun = Instant::now();
        while self.quota_used().await < 80 {
            assert!(begun.elapsed() < Duration::from_secs(1), "it takes nothing");
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn quota_used(&self) -> u64 {
        let standings = self.free.peek(ALICE).await.expect("it answers");
        let mut quotas = standings.iter().filter(|one| &*one.limit.name == "quota");
        quotas.next().map_or(0, |quota| quota.used)
    }

    /// Lets it go on a few milliseconds from now, when whoever asks now has been denied once.
    fn let_go_soon(&self) {
        let gate = self.gate.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(5)).await;
            gate.open();
        });
    }

    /// Whether the process behind the gate has taken anything lately.
    fn takes(&self) -> Option<String> {
        self.network.with(|inner| {
            let asked = inner
                .log
                .iter()
                .filter_map(|line| line.split_once("n0 asks ["));
            let mut asked = asked.filter_map(|(_, rest)| rest.split_once(']'));
            let taken = asked.find(|(ops, _)| ops.split(", ").any(|op| op == "1"));
            taken.map(|(ops, said)| format!("[{ops}]{said}"))
        })
    }
}

/// Somebody waits for the rate, and others take small amounts of the quota all the while.
async fn stand_in_line(key: Option<&'static str>) {
    let world = World::new(5).await;
    let store = world.gated.clone();
    let waiting = tokio::spawn(async move {
        let named = Reserve {
            idempotency_key: key,
            ..patient(request(40))
        };
        let decision = store.reserve(named).await;
        panic!("nothing can have ended its wait: {decision:?}");
    });
    while world.gated.stats().waiters == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    world.network.with(|inner| inner.log.clear());
    let mut rng = Rng::new(7);
    for _ in 0..150 {
        sleep(Duration::from_millis(rng.below(40))).await;
        let small = admitted(&world.free, ask(tokens(50))).await;
        let given_back = world.free.cancel(small.id).await;
        assert!(given_back.is_ok(), "{given_back:?}");
    }
    assert!(!waiting.is_finished());
    assert_eq!(world.takes(), None, "who waits in line takes something");
    waiting.abort();
}

#[test]
fn who_stands_in_line_takes_nothing_of_other_servers() {
    for key in [None, Some("k")] {
        super::runtime().block_on(stand_in_line(key));
    }
}

/// One who is denied by what another takes for a moment is told nothing before that is decided.
async fn ask_beside_one_that_turns_back(asks: Reserve<'static>) {
    let world = World::new(1).await;
    world.begin_in_vain().await;
    world.let_go_soon();
    admitted(&world.free, asks).await;
    assert_eq!(world.quota_used().await, 80);
}

#[test]
fn what_turns_back_denies_nobody() {
    // There is room for 20 beside what turns back, and for 50 without.
    for asks in [ask(tokens(30)), patient(tokens(30))] {
        super::runtime().block_on(ask_beside_one_that_turns_back(asks));
    }
}

/// The same of an extension.
async fn extend_beside_one_that_turns_back() {
    let world = World::new(1).await;
    let small = admitted(&world.free, ask(tokens(10))).await;
    world.begin_in_vain().await;
    world.let_go_soon();
    let extended = world.free.extend(small.id, tokens(30), None).await;
    assert!(
        matches!(extended, Ok(Extended::Granted { .. })),
        "{extended:?}"
    );
}

#[test]
fn what_turns_back_denies_no_extension() {
    super::runtime().block_on(extend_beside_one_that_turns_back());
}

/// What stays in the way is told soon.
async fn ask_beside_one_that_stays() {
    let world = World::new(1).await;
    world.begin_in_vain().await;
    for asks in [ask(tokens(30)), patient(tokens(30))] {
        let since = Instant::now();
        let decision = world.free.reserve(asks).await;
        assert!(matches!(decision, Ok(Decision::Deny(_))), "{decision:?}");
        let took = since.elapsed();
        assert!(took < Duration::from_millis(100), "after {took:?}");
    }
    world.gate.open();
}

#[test]
fn what_stays_in_the_way_is_told_soon() {
    super::runtime().block_on(ask_beside_one_that_stays());
}

/// Whom this process knows to be denied by a later server does not take anything of an earlier one.
async fn ask_where_denied_before() {
    let world = World::new(1).await;
    let first = world.gated.reserve(ask(request(10))).await;
    assert!(matches!(first, Ok(Decision::Deny(_))), "{first:?}");
    world.network.with(|inner| inner.log.clear());
    for user in ["bob", "cyd"] {
        let other = Reserve {
            subject: &[("user", user)],
            idempotency_key: Some(user),
            ..ask(request(10))
        };
        let decision = world.gated.reserve(other).await;
        assert!(matches!(decision, Ok(Decision::Deny(_))), "{decision:?}");
    }
    assert_eq!(world.takes(), None, "what is known to be in vain is tried");
}

#[test]
fn who_is_known_to_be_denied_takes_nothing() {
    super::runtime().block_on(ask_where_denied_before());
}
