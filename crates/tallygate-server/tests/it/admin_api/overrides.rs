//! Limits that are others for a while.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tallygate_server::{Config, Server};
use tallygate_store::registry::MemoryRegistry;
use tallygate_store::{MemoryOptions, MemoryStore, Store};

use super::{administered, ask, audited};
use crate::world::{World, within};

const LIMITS: &str = "limits:
  - { name: day, per: [user], tokens: 1000, every: day }
  - { name: pace, requests: 10, tokens: 500, every: 8000h }";

async fn put(world: &World, root: &str, limit: &str, body: Value) -> (u16, Value) {
    let path = format!("/api/overrides/{limit}");
    let reply = ask(world, Some(root), Method::PUT, (&path, body)).await;
    (reply.status, reply.json())
}

/// The amount of the limit `day` as the store has it.
async fn amount(world: &World) -> u64 {
    let standings = world.standings(&[("user", "alice")]).await;
    let day = standings
        .iter()
        .find(|standing| &*standing.limit.name == "day");
    day.expect("a limit").limit.amount
}

async fn until_amount(world: &World, wanted: u64) {
    let changes = async {
        while amount(world).await != wanted {
            tokio::task::yield_now().await;
        }
    };
    within(changes).await;
}

#[tokio::test]
async fn an_override_is_in_force_until_its_end_and_what_was_taken_stays_taken() {
    let (world, root) = administered(LIMITS).await;
    let world = world.keyed(&root);
    let body = json!({ "amount": 5_000, "ttl_ms": 400, "reason": "a launch" });
    let (status, told) = put(&world, &root, "day", body).await;
    assert_eq!(status, 200, "{told}");
    let set = &told["overrides"][0];
    assert_eq!(
        (set["amount"].clone(), set["configured"].clone()),
        (json!(5_000), json!(1_000))
    );
    assert_eq!(
        (set["by"].clone(), set["in_force"].clone()),
        (json!("root"), json!(true))
    );
    assert_eq!(amount(&world).await, 5_000);
    let limits = ask(
        &world,
        Some(&root),
        Method::GET,
        ("/api/limits", Value::Null),
    )
    .await;
    assert_eq!(limits.json()["limits"][0]["override"]["reason"], "a launch");
    until_amount(&world, 1_000).await;
    let list = ask(
        &world,
        Some(&root),
        Method::GET,
        ("/api/overrides", Value::Null),
    )
    .await;
    assert_eq!(list.json(), json!({ "overrides": [] }));
}

#[tokio::test]
async fn overrides_are_replaced_cleared_and_noted() {
    let (world, root) = administered(LIMITS).await;
    for amount in [2_000, 3_000] {
        let body = json!({ "amount": amount, "ttl_ms": 3_600_000 });
        assert_eq!(put(&world, &root, "day", body).await.0, 200);
    }
    assert_eq!(amount(&world).await, 3_000);
    let path = ("/api/overrides/day", Value::Null);
    let cleared = ask(&world, Some(&root), Method::DELETE, path.clone()).await;
    assert_eq!(
        (cleared.status, cleared.json()),
        (200, json!({ "overrides": [] }))
    );
    assert_eq!(amount(&world).await, 1_000);
    assert_eq!(
        ask(&world, Some(&root), Method::DELETE, path).await.status,
        404
    );
    assert_eq!(
        audited(&world, &root).await[..3],
        [
            "override.clear day by root",
            "override.set day by root",
            "override.set day by root"
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_overridden_is_refused_with_its_mend() {
    let (world, root) = administered(LIMITS).await;
    let hour = |body: Value| {
        let mut body = body;
        body["ttl_ms"] = 3_600_000.into();
        body
    };
    for (limit, body, status, says) in [
        ("none", hour(json!({ "amount": 5 })), 404, "GET /api/limits"),
        (
            "pace",
            hour(json!({ "amount": 5 })),
            400,
            "name one of: requests, tokens",
        ),
        (
            "pace",
            hour(json!({ "amount": 5, "metric": "cost" })),
            400,
            "it counts: requests, tokens",
        ),
        (
            "day",
            hour(json!({ "amount": 0 })),
            400,
            "1 to 9007199254740992",
        ),
        (
            "day",
            hour(json!({ "amount": 5, "burst": 5 })),
            400,
            "leave `burst` out",
        ),
        ("day", hour(json!({})), 400, "`amount` is missing"),
        (
            "day",
            json!({ "amount": 5 }),
            400,
            "belongs into the configuration",
        ),
        (
            "day",
            json!({ "amount": 5, "until": "2020-01-01" }),
            400,
            "in the past",
        ),
    ] {
        let (found, told) = put(&world, &root, limit, body).await;
        assert_eq!(found, status, "{limit} {told}");
        assert!(told.to_string().contains(says), "{says}: {told}");
    }
    let (status, _) = put(
        &world,
        &root,
        "pace",
        hour(json!({ "amount": 5, "metric": "tokens", "burst": 7 })),
    )
    .await;
    assert_eq!(status, 200);
}

fn config(text: &str) -> Config {
    Config::parse(text, "test.yaml", &|_| None).expect("a good configuration")
}

#[tokio::test]
async fn a_changed_configuration_keeps_the_overrides_and_limits_that_go_take_theirs_out() {
    let (world, root) = administered(LIMITS).await;
    let body = json!({ "amount": 5_000, "ttl_ms": 3_600_000 });
    put(&world, &root, "day", body).await;
    let settings = |limits: &str| config(&format!("admin: none\nstore: memory\n{limits}"));
    let more = LIMITS.replace("1000", "2000");
    world.server.reload(settings(&more)).expect("taken over");
    assert_eq!(amount(&world).await, 5_000);
    world
        .server
        .reload(settings("limits: [{ name: other, tokens: 7, every: day }]"))
        .expect("taken over");
    let list = ask(
        &world,
        Some(&root),
        Method::GET,
        ("/api/overrides", Value::Null),
    )
    .await;
    assert_eq!(list.json()["overrides"][0]["in_force"], false);
    world.server.reload(settings(LIMITS)).expect("taken over");
    assert_eq!(amount(&world).await, 5_000, "it has not ended");
}

#[tokio::test]
async fn overrides_and_keys_outlive_the_server_where_the_registry_does() {
    let registry = MemoryRegistry::new();
    let start = async || {
        let config = config(&format!("admin: none\n{LIMITS}"));
        let store: Arc<dyn Store> = MemoryStore::new(config.policy(), MemoryOptions::default());
        let server = Server::with_registry(config, store, registry.clone()).await;
        World::of(server.expect("a server")).await
    };
    let world = start().await;
    let root = super::made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    let body = json!({ "amount": 5_000, "ttl_ms": 3_600_000 });
    put(&world, &root, "day", body).await;
    let (_, running) = world.stop();
    within(running).await.expect("ended").expect("well");
    let world = start().await;
    assert_eq!(amount(&world).await, 5_000);
    let list = ask(
        &world,
        Some(&root),
        Method::GET,
        ("/api/overrides", Value::Null),
    )
    .await;
    assert_eq!(list.status, 200);
    assert_eq!(
        ask(&world, None, Method::GET, ("/api/overrides", Value::Null))
            .await
            .status,
        401
    );
}
