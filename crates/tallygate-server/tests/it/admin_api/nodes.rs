//! Two nodes that share one store.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tallygate_server::Server;
use tallygate_sim::servers::{Engine, Server as Redis};

use super::{ask, made, peek};
use crate::world::{World, config, patient, within};

/// Within which a change made at one node is heeded by the others: a second, with room for a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

async fn node(redis: &Redis) -> World {
    let settings = format!(
        "store: {}\nlimits: [{{ name: day, tokens: 1000, every: day }}]",
        patient(&redis.url())
    );
    let server = Server::open(config("", &settings)).await;
    World::of(server.expect("a server")).await
}

/// Waits until `asked` answers as wanted; no longer than a change may take.
async fn soon<T: PartialEq + std::fmt::Debug>(wanted: T, asked: impl AsyncFn() -> T) {
    let begun = Instant::now();
    let waiting = async {
        while asked().await != wanted {
            tokio::task::yield_now().await;
        }
    };
    within(waiting).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_key_that_is_revoked_at_one_node_is_refused_at_the_other_within_a_second() {
    let redis = Redis::start(Engine::Redis, &[]).expect("a server");
    let (one, other) = (node(&redis).await, node(&redis).await);
    let root = made(&one, None, json!({ "id": "root", "roles": ["admin"] })).await;
    soon(401, async || peek(&other, "tg-nobody").await).await;
    let wanted = json!({ "id": "alice", "roles": ["decide"] });
    let created = made(&one, Some(&root), wanted).await;
    soon(200, async || peek(&other, &created).await).await;
    let path = ("/api/keys/alice", Value::Null);
    let revoked = ask(&other, Some(&root), Method::DELETE, path).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(
        peek(&other, &created).await,
        401,
        "at once where it was asked for"
    );
    soon(401, async || peek(&one, &created).await).await;
    // A node that comes later knows all of it.
    let third = node(&redis).await;
    assert_eq!(peek(&third, &created).await, 401);
    let listed = ask(
        &third,
        Some(&root),
        Method::GET,
        ("/api/keys/alice", Value::Null),
    )
    .await;
    assert_eq!(listed.json()["state"], "revoked");
}

#[tokio::test]
async fn an_override_set_at_one_node_is_in_force_at_the_other_within_a_second() {
    let redis = Redis::start(Engine::Redis, &[]).expect("a server");
    let (one, other) = (node(&redis).await, node(&redis).await);
    let body = json!({ "amount": 5_000, "ttl_ms": 3_600_000 });
    let set = ask(&one, None, Method::PUT, ("/api/overrides/day", body)).await;
    assert_eq!(set.status, 200);
    let amount = async || other.standings(&[]).await[0].limit.amount;
    soon(5_000, amount).await;
}

#[tokio::test]
async fn a_store_that_was_emptied_lets_nobody_in() {
    let redis = Redis::start(Engine::Redis, &[]).expect("a server");
    let world = node(&redis).await;
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    let list = async |key: Option<String>| {
        let path = ("/api/keys", Value::Null);
        ask(&world, key.as_deref(), Method::GET, path).await.status
    };
    assert_eq!(list(Some(root.clone())).await, 200);
    redis.command(&["FLUSHALL"]).expect("emptied");
    soon(401, async || list(Some(root.clone())).await).await;
    assert_eq!(list(None).await, 401);
    assert_eq!(peek(&world, &root).await, 401);
}

#[tokio::test]
async fn a_node_whose_store_is_away_knows_the_keys_it_knew_and_makes_none() {
    let redis = Redis::start(Engine::Redis, &[]).expect("a server");
    let world = node(&redis).await;
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    redis.kill();
    let list = async |key: &str| {
        let path = ("/api/keys", Value::Null);
        ask(&world, Some(key), Method::GET, path).await.status
    };
    assert_eq!((list(&root).await, list("tg-nobody").await), (200, 401));
    let wanted = ("/api/keys", json!({ "id": "alice" }));
    let refused = ask(&world, Some(&root), Method::POST, wanted).await;
    assert_eq!(refused.status, 503, "{}", refused.json());
    assert!(
        !refused.json().to_string().contains("tg-"),
        "no key is told"
    );
}
