//! Keys from their making to their end.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tallygate_core::Time;
use tallygate_store::{Clock, MemoryOptions, MemoryStore};

use super::{administered, ask, audited, made, peek};
use crate::quiet::Recorder;
use crate::world::{LIMITS, World};

#[tokio::test]
async fn the_first_key_closes_every_door_and_must_be_able_to_open_them() {
    let world = World::new(LIMITS).await;
    assert_eq!(peek(&world, "tg-nobody").await, 200, "anybody");
    let wanted = json!({ "id": "first", "roles": ["call"] });
    let refused = ask(&world, None, Method::POST, ("/api/keys", wanted)).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["error"]["type"], "no_admin");
    let wanted = json!({ "id": "root", "roles": ["admin"] });
    let first = ask(&world, None, Method::POST, ("/api/keys", wanted)).await;
    assert_eq!(first.status, 201);
    let warnings = first.json()["warnings"].as_array().expect("warnings").len();
    assert_eq!(
        warnings, 2,
        "every caller needs a key now; it is gone with the process"
    );
    let root = first.json()["key"].as_str().expect("a key").to_owned();
    assert_eq!(peek(&world, "tg-nobody").await, 401);
    assert_eq!(peek(&world, &root).await, 403, "it may administer, no more");
    let last = ask(
        &world,
        Some(&root),
        Method::DELETE,
        ("/api/keys/root", Value::Null),
    )
    .await;
    assert_eq!(
        (last.status, last.json()["error"]["type"].clone()),
        (409, json!("no_admin"))
    );
}

#[tokio::test]
async fn a_key_counts_as_its_subject_and_a_revoked_one_as_nobody() {
    let settings = "limits: [{ name: each, per: [user, key], requests: 2, every: 8000h }]";
    let (world, root) = administered(settings).await;
    let wanted = json!({ "id": "alice-1", "roles": ["decide"], "subject": { "user": "alice" } });
    let alice = made(&world, Some(&root), wanted.clone()).await;
    let world = world.keyed(&alice);
    let reserved = world
        .post("/tallygate/v1/reserve", r#"{"demand":{"tokens":1}}"#)
        .await;
    assert_eq!(reserved.status, 200);
    let standings = world
        .standings(&[("user", "alice"), ("key", "alice-1")])
        .await;
    assert_eq!(standings[0].used, 1);
    let taken = ask(
        &world,
        Some(&root),
        Method::POST,
        ("/api/keys", wanted.clone()),
    )
    .await;
    assert_eq!(
        (taken.status, taken.json()["error"]["type"].clone()),
        (409, json!("taken"))
    );

    let path = ("/api/keys/alice-1", Value::Null);
    let revoked = ask(&world, Some(&root), Method::DELETE, path.clone()).await;
    assert_eq!(revoked.json()["state"], "revoked");
    assert_eq!(peek(&world, &alice).await, 401);
    let again = ask(&world, Some(&root), Method::DELETE, path).await;
    assert_eq!(again.status, 409);
    let taken = ask(&world, Some(&root), Method::POST, ("/api/keys", wanted)).await;
    assert_eq!(taken.status, 409, "an id is not used again");
    assert_eq!(
        audited(&world, &root).await,
        [
            "key.revoke alice-1 by root",
            "key.create alice-1 by root",
            "key.create root by anonymous"
        ]
    );
}

#[tokio::test]
async fn ids_of_the_configuration_are_not_given_again_and_changed_there_only() {
    let hash = format!("sha256:{}", "0".repeat(64));
    let root = "tg-root";
    let settings = format!(
        "{LIMITS}\nkeys: [{{ id: filed, hash: '{hash}' }}, {{ id: root, hash: '{}', role: admin }}]",
        tallygate_server::identify::KeyHash::of(root.as_bytes())
    );
    let world = World::new(&settings).await;
    for (method, path, body) in [
        (Method::POST, "/api/keys", json!({ "id": "filed" })),
        (Method::DELETE, "/api/keys/filed", Value::Null),
        (Method::POST, "/api/keys/filed/rotate", Value::Null),
    ] {
        let reply = ask(&world, Some(root), method, (path, body)).await;
        assert_eq!(reply.status, 409, "{path}");
        let mend = reply.json()["error"]["mend"].to_string();
        assert!(
            mend.contains("configuration") || mend.contains("there"),
            "{mend}"
        );
    }
    let list = ask(&world, Some(root), Method::GET, ("/api/keys", Value::Null)).await;
    assert_eq!(list.json()["of_configuration"], json!(["filed", "root"]));
}

/// A world whose clock is moved by hand, and that clock.
async fn timed(settings: &str) -> (World, Clock) {
    let clock = Clock::manual(Time::from_secs(1_800_000_000));
    let options = MemoryOptions {
        clock: clock.clone(),
        ..MemoryOptions::default()
    };
    let world = World::with_store(settings, |config| {
        let store: Arc<dyn tallygate_store::Store> = MemoryStore::new(config.policy(), options);
        store
    })
    .await;
    (world, clock)
}

#[tokio::test]
async fn an_expired_key_is_refused_from_the_instant_on() {
    let (world, clock) = timed(LIMITS).await;
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    let wanted = json!({ "id": "short", "roles": ["decide"], "ttl_ms": 60_000 });
    let short = made(&world, Some(&root), wanted).await;
    let wanted = json!({ "id": "dated", "roles": ["decide"], "expires": "2027-01-15T08:01:00Z" });
    let dated = made(&world, Some(&root), wanted).await;
    clock.pass(Duration::from_millis(59_999));
    assert_eq!(peek(&world, &short).await, 200);
    assert_eq!(peek(&world, &dated).await, 200);
    clock.pass(Duration::from_millis(1));
    assert_eq!(peek(&world, &short).await, 401);
    assert_eq!(peek(&world, &dated).await, 401);
    let shown = ask(
        &world,
        Some(&root),
        Method::GET,
        ("/api/keys/short", Value::Null),
    )
    .await;
    assert_eq!(shown.json()["state"], "expired");
    assert_eq!(shown.json()["expires"], "2027-01-15T08:01:00.000Z");
    let rotated = ("/api/keys/short/rotate", Value::Null);
    assert_eq!(
        ask(&world, Some(&root), Method::POST, rotated).await.status,
        409
    );
}

#[tokio::test]
async fn a_key_that_is_there_may_be_given_another_end() {
    let (world, clock) = timed(LIMITS).await;
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    let alice = json!({ "id": "alice", "roles": ["decide"], "expires": "never" });
    let alice = made(&world, Some(&root), alice).await;
    let end = async |id: &str, body: Value| {
        let path = format!("/api/keys/{id}");
        let reply = ask(&world, Some(&root), Method::PATCH, (&path, body)).await;
        (reply.status, reply.json())
    };
    let (status, told) = end("alice", json!({ "expires": "2027-01-15T08:00:01Z" })).await;
    assert_eq!(
        (status, &told["expires"]),
        (200, &json!("2027-01-15T08:00:01.000Z"))
    );
    let (_, told) = end("alice", json!({ "expires": "never" })).await;
    assert_eq!(told["expires"], Value::Null);
    assert_eq!(end("alice", json!({ "ttl_ms": 60_000 })).await.0, 200);
    for (id, body, status, says) in [
        ("alice", json!({}), 400, "`expires` is missing"),
        (
            "alice",
            json!({ "expires": "soon" }),
            400,
            "`expires` is no instant",
        ),
        (
            "alice",
            json!({ "expires": "9999-12-31" }),
            400,
            "later than the last instant that can be told",
        ),
        (
            "alice",
            json!({ "expires": "2027-01-15" }),
            400,
            "in the past",
        ),
        (
            "alice",
            json!({ "ttl_ms": 5, "roles": [] }),
            400,
            "unknown field `roles`",
        ),
        ("bob", json!({ "ttl_ms": 5 }), 404, "there is no key `bob`"),
        ("root", json!({ "ttl_ms": 5 }), 409, "is the last key"),
    ] {
        let (found, told) = end(id, body.clone()).await;
        let message = told["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{body}: {told}");
        assert!(message.contains(says), "{told}");
    }
    clock.pass(Duration::from_millis(59_999));
    assert_eq!(peek(&world, &alice).await, 200);
    clock.pass(Duration::from_millis(1));
    assert_eq!(peek(&world, &alice).await, 401);
    assert_eq!(
        end("alice", json!({ "expires": "never" })).await.0,
        409,
        "it has ended"
    );
    assert_eq!(audited(&world, &root).await[0], "key.expire alice by root");
}

#[tokio::test]
async fn a_rotated_key_is_good_until_its_grace_is_over() {
    let (world, clock) = timed(LIMITS).await;
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    let old = made(
        &world,
        Some(&root),
        json!({ "id": "a", "roles": ["decide"] }),
    )
    .await;
    let rotate = async |grace: Value| {
        let reply = ask(
            &world,
            Some(&root),
            Method::POST,
            ("/api/keys/a/rotate", grace),
        )
        .await;
        assert_eq!(reply.status, 200);
        let told = reply.json();
        (
            told["key"].as_str().expect("a key").to_owned(),
            told["old_key_until"].clone(),
        )
    };
    let (new, until) = rotate(json!({ "grace_ms": 3_600_000 })).await;
    assert_eq!(until, "2027-01-15T09:00:00.000Z");
    assert_eq!(
        (peek(&world, &old).await, peek(&world, &new).await),
        (200, 200)
    );
    clock.pass(Duration::from_secs(3_600));
    assert_eq!(
        (peek(&world, &old).await, peek(&world, &new).await),
        (401, 200)
    );
    let (newest, until) = rotate(Value::Null).await;
    assert_eq!(until, Value::Null);
    assert_eq!(
        (peek(&world, &new).await, peek(&world, &newest).await),
        (401, 200)
    );
    let revoked = ask(
        &world,
        Some(&root),
        Method::DELETE,
        ("/api/keys/a", Value::Null),
    )
    .await;
    assert_eq!(revoked.status, 200);
    assert_eq!(peek(&world, &newest).await, 401);
}

#[tokio::test]
async fn no_answer_but_the_making_one_and_no_line_of_the_log_holds_a_key_or_a_hash() {
    let recorder = Recorder::default();
    // The runtime of this test has this thread alone, so all of the server's work is recorded.
    let _recording = recorder.start();
    let (world, root) = administered(LIMITS).await;
    let alice = made(&world, Some(&root), json!({ "id": "alice" })).await;
    ask(
        &world,
        Some(&alice),
        Method::GET,
        ("/api/keys", Value::Null),
    )
    .await;
    let rotated = ask(
        &world,
        Some(&root),
        Method::POST,
        ("/api/keys/alice/rotate", Value::Null),
    )
    .await;
    let newer = rotated.json()["key"].as_str().expect("a key").to_owned();
    let hash = |key: &str| tallygate_server::identify::KeyHash::of(key.as_bytes()).to_string();
    let secrets = [&root, &alice, &newer]
        .map(|key| [key.clone(), hash(key)])
        .concat();
    let logged = recorder.lines("tallygate::admin");
    assert!(
        !logged.is_empty(),
        "something is logged, or this shows nothing"
    );
    for secret in secrets.iter().map(String::as_str).chain(["alice"]) {
        assert_eq!(recorder.lines(secret), Vec::<String>::new());
    }
    for path in ["/api/keys", "/api/keys/alice", "/api/audit", "/metrics"] {
        let told = ask(&world, Some(&root), Method::GET, (path, Value::Null)).await;
        let text = String::from_utf8_lossy(&told.body).into_owned();
        for secret in &secrets {
            assert!(
                !text.contains(secret.trim_start_matches("sha256:")),
                "{path}"
            );
        }
    }
}
