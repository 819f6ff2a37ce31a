//! A store that goes away and comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tallygate_core::{
    Amounts, Decision, Extended, Outcome, Policy, Receipt, ReservationId, Standing, Time,
};
use tallygate_sim::{ApiCall, Reply};
use tallygate_store::{
    BoxFuture, MemoryOptions, MemoryStore, OutageStats, Reserve, SettleError, Settlement, Store,
    StoreError, StoreHealth, StoreStats,
};
use tallygate_tokens::Endpoint;

use crate::quiet::Recorder;
use crate::world::{LIMITS, World, within};

/// A store in memory that can be made to look as if it were elsewhere and gone.
struct Remote {
    behind: Arc<MemoryStore>,
    gone: AtomicBool,
    /// Whether it keeps the ends that it cannot be told of.
    keeps: AtomicBool,
    stats: Mutex<OutageStats>,
}

const REASON: &str = "no answer from 10.0.0.9:6379 within 250ms";

impl Remote {
    fn new(policy: &Policy) -> Arc<Self> {
        Arc::new(Self {
            behind: MemoryStore::new(policy, MemoryOptions::default()),
            gone: AtomicBool::new(false),
            keeps: AtomicBool::new(false),
            stats: Mutex::default(),
        })
    }

    fn go(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    fn come_back(&self) {
        self.gone.store(false, Ordering::SeqCst);
    }

    fn keeping(&self, outcome: Outcome) -> Result<&MemoryStore, SettleError> {
        match self.reached() {
            Err(_) if self.keeps.load(Ordering::SeqCst) => Err(SettleError::Kept { outcome }),
            reached => Ok(reached?),
        }
    }

    fn reached(&self) -> Result<&MemoryStore, StoreError> {
        match self.gone.load(Ordering::SeqCst) {
            false => Ok(&self.behind),
            true => Err(StoreError::Down {
                reason: REASON.to_owned(),
                retry_after: Duration::from_millis(1_500),
            }),
        }
    }
}

impl Store for Remote {
    fn reserve<'a>(&'a self, ask: Reserve<'a>) -> BoxFuture<'a, Result<Decision, StoreError>> {
        Box::pin(async move { self.reached()?.reserve(ask).await })
    }

    fn settle<'a>(
        &'a self,
        id: ReservationId,
        usage: Settlement,
    ) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        Box::pin(async move { self.keeping(Outcome::Settled)?.settle(id, usage).await })
    }

    fn cancel<'a>(&'a self, id: ReservationId) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        Box::pin(async move { self.keeping(Outcome::Cancelled)?.cancel(id).await })
    }

    fn extend<'a>(
        &'a self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Extended, SettleError>> {
        Box::pin(async move { self.reached()?.extend(id, more, ttl).await })
    }

    fn peek<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Vec<Standing>, StoreError>> {
        Box::pin(async move { self.reached()?.peek(subject).await })
    }

    fn replace_policy(&self, policy: Arc<Policy>) -> Result<(), StoreError> {
        self.behind.replace_policy(policy)
    }

    fn stats(&self) -> StoreStats {
        self.behind.stats()
    }

    fn health(&self) -> StoreHealth {
        match self.reached() {
            Ok(_) => StoreHealth::Up,
            Err(error) => StoreHealth::Down {
                reason: error.to_string(),
            },
        }
    }

    fn outage(&self) -> OutageStats {
        self.stats.lock().expect("no test panics with it").clone()
    }

    fn now(&self) -> Time {
        self.behind.now()
    }
}

/// A world whose store can go.
async fn world(settings: &str) -> (World, Arc<Remote>) {
    let mut store = None;
    let world = World::with_store(settings, |config| {
        let remote = Remote::new(config.policy());
        store = Some(Arc::clone(&remote));
        remote
    })
    .await;
    (world, store.expect("made"))
}

async fn readiness(world: &World) -> (u16, String) {
    let reply = within(world.admin.get("/readyz")).await.expect("an answer");
    (
        reply.status,
        String::from_utf8_lossy(&reply.body).into_owned(),
    )
}

/// A 503 that says when to come again, in both headers.
fn says_when(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.json());
    let millis: u64 = reply
        .header("retry-after-ms")
        .and_then(|text| text.parse().ok())
        .expect("retry-after-ms");
    assert!((1_500..1_750).contains(&millis), "{millis}");
    assert_eq!(reply.header("retry-after"), Some("2"));
}

#[tokio::test]
async fn every_dialect_is_answered_503_with_the_wait() {
    let (world, store) = world(LIMITS).await;
    store.go();
    for (endpoint, model) in [
        (Endpoint::ChatCompletions, "gpt-4o"),
        (Endpoint::Responses, "gpt-4o"),
        (Endpoint::Messages, "claude-sonnet-4-5"),
        (Endpoint::GenerateContent, "gemini-2.5-flash"),
    ] {
        let reply = world.call(&ApiCall::new(endpoint, model, "hi")).await;
        says_when(&reply);
        assert!(
            !reply.json().to_string().contains("10.0.0.9"),
            "callers learn nothing of the machines behind: {}",
            reply.json()
        );
    }
    let asked = r#"{"demand": {"input_tokens": 5}}"#;
    let reply = world.post("/tallygate/v1/reserve", asked).await;
    says_when(&reply);
    assert_eq!(reply.json()["error"]["type"], "store_down");
    let limits = within(world.client.get("/tallygate/v1/limits")).await;
    says_when(&limits.expect("an answer"));
    assert_eq!(
        world.mock.books().totals().admitted,
        0,
        "nothing was sent on"
    );
    let metrics = world.metrics();
    for line in [
        r#"tallygate_decisions_total{door="gateway",decision="deny",reason="store_down"} 4"#,
        r#"tallygate_decisions_total{door="decision",decision="deny",reason="store_down"} 2"#,
        "tallygate_store_up 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    store.come_back();
    assert_eq!(world.call(&ApiCall::chat("gpt-4o", "hi")).await.status, 200);
    assert!(world.metrics().contains("tallygate_store_up 1"));
}

#[tokio::test]
async fn a_settlement_waits_for_the_store_to_come_back() {
    let (world, store) = world(LIMITS).await;
    let made = world
        .post(
            "/tallygate/v1/reserve",
            r#"{"demand": {"input_tokens": 500}}"#,
        )
        .await;
    let body = format!(
        r#"{{"reservation": {}, "usage": {{"input_tokens": 300}}}}"#,
        made.json()["reservation"]
    );
    store.go();
    says_when(&world.post("/tallygate/v1/settle", body.clone()).await);
    store.come_back();
    let settled = world.post("/tallygate/v1/settle", body).await;
    assert_eq!(
        (settled.status, &settled.json()["outcome"]),
        (200, &serde_json::json!("settled"))
    );
}

/// What is kept need not be sent again, and counts once it is delivered.
#[tokio::test]
async fn an_end_that_is_kept_is_accepted() {
    let (world, store) = world(LIMITS).await;
    store.keeps.store(true, Ordering::SeqCst);
    let reserve = r#"{"demand": {"input_tokens": 500}}"#;
    let made = world.post("/tallygate/v1/reserve", reserve).await;
    let id = made.json()["reservation"].clone();
    let settle = format!(r#"{{"reservation": {id}, "usage": {{"input_tokens": 300}}}}"#);
    store.go();
    let kept = world.post("/tallygate/v1/settle", settle).await;
    let body = serde_json::json!({ "outcome": "kept", "to_be": "settled" });
    assert_eq!((kept.status, kept.json()), (202, body));
    let cancel = format!(r#"{{"reservation": {id}}}"#);
    let kept = world.post("/tallygate/v1/cancel", cancel).await;
    let body = serde_json::json!({ "outcome": "kept", "to_be": "cancelled" });
    assert_eq!((kept.status, kept.json()), (202, body));
    let metrics = world.metrics();
    assert!(
        metrics.contains("tallygate_reservations_lost_total 0"),
        "{metrics}"
    );
    *store.stats.lock().expect("no test panics with it") = OutageStats {
        settled: 2,
        kept: 7,
        charged: Amounts::call(300, 0),
        lost: 3,
        ..OutageStats::default()
    };
    for _ in 0..2 {
        let metrics = within(world.admin.get("/metrics"))
            .await
            .expect("an answer");
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        for line in [
            r#"tallygate_reservations_ended_total{outcome="settled"} 2"#,
            r#"tallygate_settled_total{metric="input_tokens"} 300"#,
            "tallygate_store_kept 7",
            "tallygate_store_lost_total 3",
        ] {
            assert!(metrics.contains(line), "{line} is not in {metrics}");
        }
    }
}

/// One line for all that were lost since the last look, however often it is looked.
#[tokio::test]
async fn ends_that_are_lost_are_logged_once_with_their_number() {
    let recorder = Recorder::default();
    let _recording = recorder.start();
    let (world, _) = world(LIMITS).await;
    for lost in [0, 3, 3, 3, 5, 5] {
        world.server.observer().outage(&OutageStats {
            lost,
            ..OutageStats::default()
        });
    }
    let lines = recorder.lines("are lost");
    let [first, second] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert!(
        first.contains("ERROR") && first.contains("ends=3"),
        "{first}"
    );
    assert!(
        second.contains("ERROR") && second.contains("ends=2"),
        "{second}"
    );
}

/// The gateway leaves to the store what the store keeps.
#[tokio::test]
async fn a_call_that_ends_while_the_store_is_away_is_not_lost() {
    let (world, store) = world(LIMITS).await;
    store.keeps.store(true, Ordering::SeqCst);
    let call = ApiCall::chat("gpt-4o", "hi");
    let answered = async {
        let answering = world.call(&call);
        futures_util::pin_mut!(answering);
        loop {
            tokio::select! {
                biased;
                reply = &mut answering => return reply,
                () = tokio::task::yield_now() => {}
            }
            if world.mock.books().totals().admitted > 0 {
                store.go();
            }
        }
    };
    assert_eq!(within(answered).await.status, 200);
    let metrics = world.metrics();
    assert!(
        metrics.contains("tallygate_reservations_lost_total 0"),
        "{metrics}"
    );
    for line in ["tallygate_store_up 0", "tallygate_reservations_open 1"] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn readiness_says_whether_the_store_is_reachable() {
    let (world, store) = world(LIMITS).await;
    let ready = async {
        while readiness(&world).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    within(ready).await;
    assert_eq!(readiness(&world).await, (200, "ready\n".to_owned()));
    store.go();
    let (status, text) = readiness(&world).await;
    assert_eq!(status, 503, "some limit is closed, so calls are refused");
    assert!(
        text.starts_with("not ready\n") && text.contains(REASON),
        "{text}"
    );

    let open = "limits: [{ name: all, requests: 10, every: 60s, store_down: open }]";
    let config = crate::world::config(&crate::world::upstreams(&world.mock), open);
    world.server.reload(config).expect("taken over");
    let (status, text) = readiness(&world).await;
    assert_eq!(status, 200, "no limit refuses calls for it");
    assert!(
        text.starts_with("ready\n") && text.contains(REASON),
        "{text}"
    );
    store.come_back();
    assert_eq!(readiness(&world).await, (200, "ready\n".to_owned()));
}
