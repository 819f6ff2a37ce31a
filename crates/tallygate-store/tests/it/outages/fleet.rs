//! Several processes' worth of stores on one server.
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Admission, Amounts, Calendar, Decision, Metric, Metrics, Mode, Policy, Rule, Shape, StoreDown,
};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{
    RedisOptions, RedisStore, Reserve, SettledBy, Store, StoreError, StoreHealth, WaitsFor,
};

pub(super) const ALICE: &[(&str, &str)] = &[("user", "alice")];

/// A calendar month: nothing comes back while a test runs.
pub(super) fn month() -> Shape {
    Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    }
}

/// A quota of tokens by user.
pub(super) fn quota(name: &str, tokens: u64, store_down: StoreDown) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: vec!["user".to_owned()],
        limits: vec![(Metric::TOKENS, tokens, month())],
        mode: Mode::Enforce,
        store_down,
    }
}

pub(super) fn policy(rules: impl Into<Vec<Rule>>) -> Policy {
    Policy::new(rules.into(), Metrics::default()).expect("the rules are good")
}

/// A server that has forgotten nothing of what it answered when it comes back.
pub(super) fn durable(engine: Engine) -> Server {
    let lines = ["appendonly yes", "appendfsync always"];
    Server::start(engine, &lines).expect("the server starts")
}

/// How long a call may take: longer than a server does that shares its machine and its disk with other tests.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn options(server: &Server) -> RedisOptions {
    RedisOptions::parse(&url(server)).expect("the URL is one")
}

pub(super) fn url(server: &Server) -> String {
    format!("{}?timeout={}ms", server.url(), TIMEOUT.as_millis())
}

pub(super) async fn open(server: &Server, policy: &Policy) -> Arc<RedisStore> {
    let store = RedisStore::open(options(server), policy).await;
    store.expect("the server is there")
}

/// Three of them, as in as many processes.
pub(super) async fn three(server: &Server, policy: &Policy) -> [Arc<RedisStore>; 3] {
    [
        open(server, policy).await,
        open(server, policy).await,
        open(server, policy).await,
    ]
}

pub(super) fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

pub(super) fn ask(amount: u64) -> Reserve<'static> {
    Reserve {
        subject: ALICE,
        demand: tokens(amount),
        ttl: Duration::from_secs(600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    }
}

pub(super) fn patient(amount: u64, max_wait: Duration) -> Reserve<'static> {
    Reserve {
        max_wait,
        ..ask(amount)
    }
}

pub(super) async fn admitted(store: &RedisStore, ask: Reserve<'_>) -> Admission {
    match store.reserve(ask).await {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("not admitted: {other:?}"),
    }
}

/// What the store says when it is down and its limits are closed.
pub(super) async fn refused(store: &RedisStore, ask: Reserve<'_>) -> (String, Duration) {
    match store.reserve(ask).await {
        Err(StoreError::Down {
            reason,
            retry_after,
        }) => (reason, retry_after),
        other => panic!("not refused: {other:?}"),
    }
}

/// What is taken of Alice's only limit.
pub(super) async fn used(store: &RedisStore) -> u64 {
    let standings = store.peek(ALICE).await.expect("the store answers");
    standings[0].used
}

/// Waits until the store is seen to be well, or not.
pub(super) async fn until_up(store: &RedisStore, up: bool) {
    let seen = async {
        while (store.health() == StoreHealth::Up) != up {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
    seen.expect("the store turns in time");
}

/// Waits until all that was kept is delivered.
pub(super) async fn until_delivered(store: &RedisStore) {
    let seen = async {
        while store.outage().kept > 0 {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
    seen.expect("it is delivered in time");
}
