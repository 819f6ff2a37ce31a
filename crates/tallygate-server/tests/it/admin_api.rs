//! The admin API: who may use it, and what it does.

use http::Method;
use serde_json::{Value, json};
use tallygate_sim::{Client, Reply};

use crate::world::{LIMITS, World, within};

mod access;
mod bounds;
mod explaining;
mod keys;
mod nodes;
mod order;
mod overrides;
mod reloading;
mod rights;
mod streams;

/// Asks the admin API with a key, or without one.
pub(crate) async fn ask(
    world: &World,
    key: Option<&str>,
    method: Method,
    ask: (&str, Value),
) -> Reply {
    let base = world.admin_base.clone();
    let client = match key {
        Some(key) => Client::new(base).with_key(key),
        None => Client::new(base),
    };
    let (path, body) = ask;
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let request = client
        .request(method, path, body.into())
        .expect("a request");
    let opened = within(client.send(request)).await.expect("an answer");
    within(opened.read()).await.expect("a body")
}

/// A key made at the admin API.
pub(crate) async fn made(world: &World, by: Option<&str>, wanted: Value) -> String {
    let made = ask(world, by, Method::POST, ("/api/keys", wanted)).await;
    assert_eq!(made.status, 201, "{}", made.json());
    made.json()["key"].as_str().expect("a key").to_owned()
}

/// A world with one key, which may administer, and that key.
pub(crate) async fn administered(settings: &str) -> (World, String) {
    let world = World::new(settings).await;
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    (world, root)
}

/// The status of a call of the decision API with a key.
pub(crate) async fn peek(world: &World, key: &str) -> u16 {
    let client = Client::new(&world.base).with_key(key);
    let reply = within(client.get("/tallygate/v1/limits")).await;
    reply.expect("an answer").status
}

/// What the audit log says was done to what by whom, the latest first.
pub(crate) async fn audited(world: &World, root: &str) -> Vec<String> {
    let log = ask(world, Some(root), Method::GET, ("/api/audit", Value::Null)).await;
    assert_eq!(log.status, 200);
    let log = log.json();
    let entries = log["audit"].as_array().expect("entries").iter();
    entries
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
            assert_eq!(entry["from"], "127.0.0.1");
            format!("{} {} by {}", text("action"), text("target"), text("by"))
        })
        .collect()
}

#[tokio::test]
async fn a_body_has_a_bound_and_known_fields() {
    let (world, root) = administered(LIMITS).await;
    let post = async |body: Value| {
        let reply = ask(&world, Some(&root), Method::POST, ("/api/keys", body)).await;
        (reply.status, reply.json()["error"]["field"].clone())
    };
    let large = "x".repeat(70_000);
    assert_eq!(post(json!({ "id": large })).await.0, 413);
    assert_eq!(post(json!({ "id": "x".repeat(257) })).await.0, 400);
    assert_eq!(post(json!({ "id": "x".repeat(256) })).await.0, 201);
    assert_eq!(
        post(json!({ "id": "a", "rolez": [] })).await,
        (400, json!("rolez"))
    );
    assert_eq!(
        post(json!({ "id": "a", "roles": ["boss"] })).await,
        (400, json!("roles"))
    );
    assert_eq!(
        post(json!({ "id": "a", "subject": { "model": "m" } })).await,
        (400, json!("subject.model"))
    );
    assert_eq!(
        post(json!({ "id": "a", "downgrade": "no" })).await,
        (400, json!("downgrade"))
    );
    assert_eq!(post(json!({ "roles": ["call"] })).await, (400, json!("id")));
    assert_eq!(
        post(json!({ "id": "a", "expires": "soon" })).await,
        (400, json!("expires"))
    );
    assert_eq!(
        post(json!({ "id": "a", "expires": "2020-01-01" })).await.0,
        400
    );
}
