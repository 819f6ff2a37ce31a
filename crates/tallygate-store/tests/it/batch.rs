//! Crowds on a real server: a batch through a narrow limit, and a flood on a wide one.
use crate::support::{bucket, open_redis, policy};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Admission, Amounts, Decision, Metric};
use tallygate_sim::limit::{Fit, Meter};
use tallygate_sim::servers::{Engine, Server};
use tallygate_sim::{At, MockLimit, MockMetric, Rng, Sizes};
use tallygate_store::{RedisStore, Reserve, SettledBy, Settlement, Store, WaitsFor};

/// How long reservations stand unsettled.
const TTL: Duration = Duration::from_secs(60);

const JOBS: usize = 150;
const EVERY: Duration = Duration::from_millis(100);
const AMOUNT: u64 = 20_000;

/// Waits as long as it takes.
async fn admitted(store: &RedisStore, demand: Amounts) -> Admission {
    let ask = Reserve {
        subject: &[("user", "u")],
        demand,
        ttl: TTL,
        max_wait: Duration::from_secs(120),
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    match store.reserve(ask).await {
        Ok(Decision::Admit(admission)) => admission,
        other => panic!("{other:?}"),
    }
}

/// One job: holds half as much again as it uses. The server's time of the admission, and what was used.
async fn job(store: Arc<RedisStore>, used: u64, call: Duration) -> (At, u64) {
    let tokens = |amount| Amounts::ZERO.with(Metric::TOKENS, amount);
    let admission = admitted(&store, tokens(used + used / 2)).await;
    tokio::time::sleep(call).await; // tidy: sleeps because the call of a job takes time
    let ended = store
        .settle(admission.id, Settlement::Exact(tokens(used)))
        .await;
    ended.expect("the reservation is open");
    let at = admission.expires_at.as_nanos() - u64::try_from(TTL.as_nanos()).expect("a minute");
    (At::from_nanos(at), used)
}

/// Whatever is given back and woken in between: what was used never passes the limit, by an oracle that shares no code with it.
#[test]
fn a_batch_of_two_processes_never_passes_a_strict_provider_of_its_size() {
    let server = Server::start(Engine::Valkey, &[]).expect("valkey-server starts");
    let policy = policy(&[(Metric::TOKENS, AMOUNT, bucket(EVERY))]);
    let sizes = Sizes {
        median: 500,
        sigma_per_mille: 800,
        min: 50,
        max: 5_000,
    };
    let mut rng = Rng::new(7);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let mut calls = runtime.block_on(async {
        let stores = [
            open_redis(&server, &policy).await,
            open_redis(&server, &policy).await,
        ];
        let start = |number: usize| {
            let used = sizes.draw(&mut rng);
            let call = Duration::from_micros(rng.below(5_000));
            tokio::spawn(job(stores[number % 2].clone(), used, call))
        };
        let jobs: Vec<_> = (0..JOBS).map(start).collect();
        let mut calls = Vec::new();
        for job in jobs {
            calls.push(job.await.expect("a job ends"));
        }
        calls
    });
    calls.sort_unstable();
    let limit = MockLimit::per_minute(MockMetric::Tokens, AMOUNT).every(EVERY);
    let mut provider = Meter::new(&limit, calls[0].0);
    for (number, (at, used)) in calls.iter().enumerate() {
        let fit = provider.fit(*at, *used);
        assert_eq!(fit, Fit::Now, "call {number} of {used} tokens at {at:?}");
        provider.charge(*at, *used);
    }
}

#[test]
fn a_flood_on_a_wide_limit_is_admitted_at_once() {
    let server = Server::start(Engine::Valkey, &[]).expect("valkey-server starts");
    let minute = || bucket(Duration::from_secs(60));
    let policy = policy(&[
        (Metric::REQUESTS, 4_000, minute()),
        (Metric::TOKENS, 1_000_000, minute()),
    ]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let store = open_redis(&server, &policy).await;
        let acquire = |_| {
            let store = store.clone();
            tokio::spawn(async move { admitted(&store, Amounts::call(100, 100)).await })
        };
        let callers: Vec<_> = (0..2_000).map(acquire).collect();
        let mut ids = Vec::new();
        for caller in callers {
            let admission = caller.await.expect("a caller is answered");
            assert!(admission.waited.is_zero(), "{:?}", admission.waited);
            ids.push(admission.id);
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2_000);
        let standings = store
            .peek(&[("user", "u")])
            .await
            .expect("the server answers");
        let requests = standings
            .iter()
            .find(|one| one.limit.metric == Metric::REQUESTS);
        // What has come back meanwhile is a matter of the machine's speed.
        let used = requests.map_or(0, |one| one.used);
        assert!((1..=2_000).contains(&used), "{used}");
    });
}
