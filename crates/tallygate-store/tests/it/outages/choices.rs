//! What each choice does while the server is away.
use super::fleet::{
    ALICE, admitted, ask, durable, open, options, patient, policy, quota, refused, three, tokens,
    until_up, used,
};
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Extended, FullError, Outcome, Replay, StoreDown};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{
    RedisStore, Reserve, SettleError, Settlement, Store, StoreError, StoreHealth,
};
use tokio::time::Instant;

fn started() -> Server {
    Server::start(Engine::Redis, &[]).expect("redis-server starts")
}

#[tokio::test]
async fn a_closed_limit_refuses_and_says_when_to_come_again() {
    let server = durable(Engine::Redis);
    let store = open(&server, &policy([quota("q", 100, StoreDown::Closed)])).await;
    admitted(&store, ask(30)).await;
    server.kill();
    let (reason, _) = refused(&store, ask(1)).await;
    assert!(reason.contains(&server.addr().to_string()), "{reason}");
    assert!(matches!(store.health(), StoreHealth::Down { .. }));
    until_up(&store, false).await;
    let began = Instant::now();
    for _ in 0..100 {
        let (_, retry_after) = refused(&store, ask(1)).await;
        assert!(retry_after <= Duration::from_secs(1), "{retry_after:?}");
        assert!(retry_after > Duration::ZERO);
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "they fail at once"
    );
    server.restart().expect("it comes back");
    until_up(&store, true).await;
    admitted(&store, ask(70)).await;
    assert_eq!(used(&store).await, 100);
}

/// Readiness does not wait for a call to fail.
#[tokio::test]
async fn an_idle_store_knows_that_its_server_is_gone_and_back() {
    for engine in [Engine::Redis, Engine::Valkey] {
        let server = durable(engine);
        let store = open(&server, &policy([quota("q", 100, StoreDown::Closed)])).await;
        server.kill();
        until_up(&store, false).await;
        assert_eq!(store.outage().resent, 0, "nobody called");
        until_reason(&store, &server.addr().to_string()).await;
        server.restart().expect("it comes back");
        until_up(&store, true).await;
        admitted(&store, ask(100)).await;
    }
}

/// Waits until the store says why it is down.
async fn until_reason(store: &RedisStore, reason: &str) {
    let seen = async {
        while !matches!(store.health(), StoreHealth::Down { reason: said } if said.contains(reason))
        {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(10), seen).await;
    seen.expect("the server is named");
}

/// A caller that would have waited for room waits for the store.
#[tokio::test]
async fn who_waits_waits_for_the_store_to_come_back() {
    let server = durable(Engine::Redis);
    let store = open(&server, &policy([quota("q", 100, StoreDown::Closed)])).await;
    server.kill();
    let began = Instant::now();
    let short = refused(&store, patient(1, Duration::from_millis(300))).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "{short:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{short:?}");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { admitted(&store, patient(40, Duration::from_secs(20))).await }
    });
    while store.stats().waiters == 0 {
        tokio::task::yield_now().await;
    }
    server.restart().expect("it comes back");
    let admission = waiting.await.expect("it is answered");
    assert!(admission.waited > Duration::ZERO);
    assert!(admission.waited < began.elapsed());
    assert_eq!(store.stats().waiters, 0);
    assert_eq!(used(&store).await, 40);
}

/// Those who wait for the store are as many as may wait in line, and no more.
#[tokio::test]
async fn there_is_a_bound_on_who_waits_for_the_store() {
    let server = started();
    let rules = policy([quota("q", 100, StoreDown::Closed)]);
    let store = RedisStore::open(options(&server).with_waiters(1), &rules).await;
    let store = store.expect("the server is there");
    server.kill();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.reserve(patient(1, Duration::from_secs(60))).await }
    });
    while store.stats().waiters == 0 {
        tokio::task::yield_now().await;
    }
    let full = store.reserve(patient(1, Duration::from_secs(60))).await;
    assert_eq!(full, Err(StoreError::Full(FullError::Waiters(1))));
    waiting.abort();
    assert!(waiting.await.is_err());
    assert_eq!(store.stats().waiters, 0, "who leaves makes room");
}

#[tokio::test]
async fn open_limits_admit_and_do_not_count() {
    let server = started();
    let store = open(&server, &policy([quota("q", 100, StoreDown::Open)])).await;
    server.kill();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let admission = admitted(&store, ask(90)).await;
        assert_eq!(admission.reserved, tokens(90));
        assert_eq!(admission.replay, Replay::Fresh);
        ids.push(admission.id);
    }
    assert_eq!(store.outage().uncounted, 5);
    assert_eq!(store.stats().reservations, 5);
    let [settled, cancelled, extended, ..] = ids[..] else {
        panic!("there are five");
    };
    let receipt = store
        .settle(settled, Settlement::Exact(tokens(60)))
        .await
        .expect("it settles here");
    assert_eq!(receipt.outcome, Outcome::Settled);
    assert_eq!(
        (receipt.charged, receipt.returned),
        (tokens(60), tokens(30))
    );
    let repeat = store.settle(settled, Settlement::Exact(tokens(1))).await;
    assert_eq!(repeat, Ok(receipt));
    let late = store.cancel(settled).await;
    assert_eq!(late, Err(SettleError::Standing(Box::new(receipt))));
    let receipt = store.cancel(cancelled).await.expect("it is cancelled here");
    assert_eq!(receipt.returned, tokens(90));
    let granted = store.extend(extended, tokens(5), None).await;
    let Ok(Extended::Granted { reserved, .. }) = granted else {
        panic!("{granted:?}");
    };
    assert_eq!(reserved, tokens(95));
    assert_eq!(store.stats().reservations, 3);
    server.restart().expect("it comes back");
    until_up(&store, true).await;
    assert_eq!(used(&store).await, 0, "nothing was counted");
    let receipt = store.settle(extended, Settlement::Exact(tokens(95))).await;
    assert_eq!(receipt.map(|receipt| receipt.charged), Ok(tokens(95)));
    assert_eq!(used(&store).await, 0, "nor is it afterwards");
}

#[tokio::test]
async fn an_open_limit_knows_its_idempotency_keys() {
    let server = started();
    let store = open(&server, &policy([quota("q", 100, StoreDown::Open)])).await;
    server.kill();
    let named = Reserve {
        idempotency_key: Some("job-17"),
        ..ask(10)
    };
    let first = admitted(&store, named).await;
    let second = admitted(&store, named).await;
    assert_eq!((second.id, second.replay), (first.id, Replay::Open));
    store.cancel(first.id).await.expect("it is cancelled");
    let third = admitted(&store, named).await;
    assert_eq!(third.replay, Replay::Ended(Outcome::Cancelled));
    let other = Reserve {
        idempotency_key: Some("job-18"),
        ..ask(10)
    };
    assert_ne!(admitted(&store, other).await.id, first.id);
}

/// Nothing was leased: nothing may be spent.
#[tokio::test]
async fn a_share_that_was_not_leased_is_denied() {
    let server = started();
    let rules = [
        quota("shared", 100, StoreDown::Share),
        quota("comfort", 50, StoreDown::Open),
    ];
    let store = open(&server, &policy(rules)).await;
    server.kill();
    until_up_or_asked(&store).await;
    let Ok(Decision::Deny(denial)) = store.reserve(ask(10)).await else {
        panic!("it is denied");
    };
    let names: Vec<_> = denial
        .blocked_by
        .iter()
        .map(|standing| (standing.limit.name.to_string(), standing.remaining))
        .collect();
    assert_eq!(names, [("shared".to_owned(), 0)]);
    assert!(denial.retry_after > Duration::ZERO);
    assert!(denial.retry_after <= Duration::from_secs(1));
}

async fn until_up_or_asked(store: &tallygate_store::RedisStore) {
    let _ = store.peek(ALICE).await;
    until_up(store, false).await;
}

/// The strictest word counts; a limit that only watches has none.
#[tokio::test]
async fn a_closed_limit_beside_others_refuses() {
    let server = started();
    let mut shadow = quota("watch", 1, StoreDown::Closed);
    shadow.mode = tallygate_core::Mode::Shadow;
    let free = [quota("comfort", 50, StoreDown::Open), shadow];
    let mut strict = free.to_vec();
    strict.push(quota("budget", 100, StoreDown::Closed));
    let (free, strict) = (policy(free), policy(strict));
    let (free, strict) = (open(&server, &free).await, open(&server, &strict).await);
    server.kill();
    admitted(&free, ask(10)).await;
    refused(&strict, ask(10)).await;
    let nobody = Reserve {
        subject: &[],
        demand: Amounts::ZERO,
        ..ask(0)
    };
    refused(&strict, nobody).await;
}

/// Who stands in line for room when the store goes is not left standing there by an open limit.
#[tokio::test]
async fn an_open_limit_lets_its_line_go_when_the_store_goes() {
    let server = started();
    let store = open(&server, &policy([quota("q", 100, StoreDown::Open)])).await;
    admitted(&store, ask(100)).await;
    let waiting = tokio::spawn({
        let store = store.clone();
        let month = Reserve {
            ttl: Duration::from_secs(60),
            ..patient(40, Duration::from_secs(3600 * 24 * 40))
        };
        async move { admitted(&store, month).await }
    });
    while store.stats().waiters == 0 {
        tokio::task::yield_now().await;
    }
    server.kill();
    let _ = store.peek(ALICE).await;
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    let admission = waited.expect("in time").expect("it is answered");
    assert_eq!(store.outage().uncounted, 1);
    store.cancel(admission.id).await.expect("it ends here");
}

/// Three processes, and a server that is away for a while: no more than the limit is admitted over all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_limits_hold_over_an_outage() {
    let server = durable(Engine::Redis);
    let stores = three(&server, &policy([quota("q", 2_000, StoreDown::Closed)])).await;
    let tasks: Vec<_> = (0..12)
        .map(|task: usize| {
            let store = stores[task % 3].clone();
            tokio::spawn(async move {
                let (mut taken, mut downs) = (0, 0);
                loop {
                    match store.reserve(ask(3)).await {
                        Ok(Decision::Admit(_)) => taken += 3,
                        Ok(_) => return (taken, downs),
                        Err(_) => downs += 1,
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await; // tidy: sleeps because the load is to last over the outage
                }
            })
        })
        .collect();
    while used(&stores[0]).await < 300 {
        tokio::task::yield_now().await;
    }
    server.kill();
    until_up(&stores[1], false).await;
    tokio::time::sleep(Duration::from_secs(2)).await; // tidy: sleeps because the server is to be away for a while
    server.restart().expect("it comes back");
    let (mut taken, mut downs) = (0, 0);
    for task in tasks {
        let (more, failed) = task.await.expect("it ends");
        taken += more;
        downs += failed;
    }
    assert!(downs > 12, "{downs} calls met the outage");
    assert!(taken <= 2_000, "{taken} were admitted");
    let counted = used(&stores[2]).await;
    assert!(counted >= taken && counted <= 2_000, "{counted}, {taken}");
}
