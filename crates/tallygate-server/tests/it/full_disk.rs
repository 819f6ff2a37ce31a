//! Counters in a folder whose disk takes no writes for a while.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tallygate_sim::ApiCall;
use tallygate_store::folder::{DataFolder, Faulty, Purpose, Trouble};
use tallygate_store::{Durability, MemoryOptions, MemoryStore, Store, StoreHealth};

use crate::world::{World, within};

const LIMITS: &str = "limits: [{ name: day, tokens: 100_000, every: 8000h }]\n";

async fn world(settings: &str, disk: &Faulty) -> (World, Arc<MemoryStore>) {
    let mut opened = None;
    let world = World::with_store(settings, |config| {
        let files = Box::new(disk.clone());
        let folder = DataFolder::over(Path::new("data"), files, Purpose::Own).expect("one of ours");
        let options = MemoryOptions::default();
        let store = MemoryStore::open(config.policy(), options, folder, Durability::Sync);
        let store = store.expect("a new folder");
        opened = Some(Arc::clone(&store));
        store
    })
    .await;
    (world, opened.expect("made"))
}

async fn readiness(world: &World) -> (u16, String) {
    let reply = within(world.admin.get("/readyz")).await.expect("an answer");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    (reply.status, text)
}

/// Waits for what the store's own thread is about to find out.
async fn until_health(store: &MemoryStore, is_up: bool) {
    within(async {
        while (store.health() == StoreHealth::Up) != is_up {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn reserve(world: &World) -> (u16, serde_json::Value) {
    let asked = r#"{"demand": {"input_tokens": 500}}"#;
    let reply = world.post("/tallygate/v1/reserve", asked).await;
    (reply.status, reply.json())
}

async fn settle(world: &World, id: &serde_json::Value) -> (u16, serde_json::Value) {
    let body = format!(r#"{{"reservation": {id}, "usage": {{"input_tokens": 300}}}}"#);
    let reply = world.post("/tallygate/v1/settle", body).await;
    (reply.status, reply.json())
}

/// The default: new calls are refused, ends are taken, and all of it is told.
#[tokio::test]
async fn a_closed_limit_refuses_and_an_end_is_taken() {
    let disk = Faulty::new();
    let (world, store) = world(LIMITS, &disk).await;
    let (_, made) = reserve(&world).await;
    let (_, other) = reserve(&world).await;
    disk.suffer(Some(Trouble::Full(10)));
    let kept = json!({ "outcome": "kept", "to_be": "settled" });
    assert_eq!(
        settle(&world, &made["reservation"]).await,
        (202, kept.clone())
    );
    until_health(&store, false).await;
    let (status, refused) = reserve(&world).await;
    assert_eq!(
        (status, &refused["error"]["type"]),
        (503, &json!("store_down"))
    );
    assert_eq!(world.call(&ApiCall::chat("gpt-4o", "hi")).await.status, 503);
    assert_eq!(settle(&world, &other["reservation"]).await, (202, kept));
    let (status, text) = readiness(&world).await;
    assert_eq!(status, 503);
    assert!(
        text.starts_with("not ready\nthe data folder cannot be written to: folder data: "),
        "{text}"
    );
    let metrics = within(world.admin.get("/metrics"))
        .await
        .expect("an answer");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "tallygate_store_up 0",
        "tallygate_store_unsaved 1",
        "tallygate_store_kept 2",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    disk.suffer(None);
    until_health(&store, true).await;
    assert_eq!(readiness(&world).await, (200, "ready\n".to_owned()));
    assert_eq!(reserve(&world).await.0, 200);
    let metrics = within(world.admin.get("/metrics"))
        .await
        .expect("an answer");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "tallygate_store_up 1",
        "tallygate_store_kept 0",
        r#"tallygate_settled_total{metric="input_tokens"} 600"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    // What was kept stands.
    assert_eq!(settle(&world, &made["reservation"]).await.0, 200);
}

#[tokio::test]
async fn an_open_limit_goes_on() {
    let disk = Faulty::new();
    let (world, store) = world(&format!("store_down: open\n{LIMITS}"), &disk).await;
    let (_, made) = reserve(&world).await;
    disk.suffer(Some(Trouble::ReadOnly));
    assert_eq!(settle(&world, &made["reservation"]).await.0, 202);
    until_health(&store, false).await;
    assert_eq!(world.call(&ApiCall::chat("gpt-4o", "hi")).await.status, 200);
    let (status, text) = readiness(&world).await;
    assert_eq!(status, 200);
    assert!(
        text.starts_with("ready\nthe data folder cannot be written to"),
        "{text}"
    );
}
