//! Who may change what, once somebody else has.

use http::Method;
use serde_json::{Value, json};
use tallygate_server::Server;
use tallygate_server::identify::KeyHash;
use tallygate_sim::servers::{Engine, Server as Redis};

use super::{administered, ask, made};
use crate::world::{LIMITS, World, config, patient};

async fn refused(
    world: &World,
    by: Option<&str>,
    method: Method,
    asked: (&str, Value),
) -> (u16, Value) {
    let reply = ask(world, by, method, asked).await;
    let error = reply.json()["error"].clone();
    assert!(error["mend"].is_string(), "{error}");
    (reply.status, error["type"].clone())
}

#[tokio::test]
async fn the_first_key_and_the_last_administrator_have_no_end() {
    let world = World::new(LIMITS).await;
    for end in [
        json!({ "ttl_ms": 1 }),
        json!({ "ttl_ms": 86_400_000 }),
        json!({ "expires": "2100-01-01" }),
    ] {
        let mut wanted = json!({ "id": "root", "roles": ["admin"] });
        wanted
            .as_object_mut()
            .expect("fields")
            .extend(end.as_object().expect("fields").clone());
        let (status, kind) = refused(&world, None, Method::POST, ("/api/keys", wanted)).await;
        assert_eq!((status, kind), (409, json!("no_admin")));
    }
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    let wanted = json!({ "id": "guest", "roles": ["admin"], "ttl_ms": 60_000 });
    let guest = made(&world, Some(&root), wanted).await;
    let last = ("/api/keys/root", Value::Null);
    for by in [&root, &guest] {
        let (status, kind) = refused(&world, Some(by), Method::DELETE, last.clone()).await;
        assert_eq!((status, kind), (409, json!("no_admin")));
    }
    made(
        &world,
        Some(&guest),
        json!({ "id": "next", "roles": ["admin"] }),
    )
    .await;
    let gone = ask(&world, Some(&guest), Method::DELETE, last).await;
    assert_eq!(gone.status, 200);
}

#[tokio::test]
async fn an_administrator_of_the_configuration_stays() {
    let root = "tg-root";
    let settings = format!(
        "{LIMITS}\nkeys: [{{ id: filed, hash: '{}', role: admin }}]",
        KeyHash::of(root.as_bytes())
    );
    let world = World::new(&settings).await;
    let eve = made(
        &world,
        Some(root),
        json!({ "id": "eve", "roles": ["admin"] }),
    )
    .await;
    let gone = ask(
        &world,
        Some(&eve),
        Method::DELETE,
        ("/api/keys/eve", Value::Null),
    )
    .await;
    assert_eq!(gone.status, 200, "{}", gone.json());
}

#[tokio::test]
async fn names_that_the_audit_log_has_for_nobody_are_no_ids() {
    let (world, root) = administered(LIMITS).await;
    for id in ["anonymous", "local"] {
        let wanted = json!({ "id": id });
        let (status, kind) =
            refused(&world, Some(&root), Method::POST, ("/api/keys", wanted)).await;
        assert_eq!((status, kind), (400, json!("invalid")));
    }
}

/// The other node has not heard of it when the change comes, or it has: the change is refused either way.
#[tokio::test]
async fn two_administrators_who_revoke_each_other_at_two_nodes_leave_one() {
    let redis = Redis::start(Engine::Redis, &[]).expect("a server");
    let node = async || {
        let settings = format!("store: {}\nlimits: []", patient(&redis.url()));
        let server = Server::open(config("", &settings)).await;
        World::of(server.expect("a server")).await
    };
    let one = node().await;
    let ann = made(&one, None, json!({ "id": "ann", "roles": ["admin"] })).await;
    let bob = made(&one, Some(&ann), json!({ "id": "bob", "roles": ["admin"] })).await;
    let other = node().await;
    let (first, second) = tokio::join!(
        ask(
            &one,
            Some(&ann),
            Method::DELETE,
            ("/api/keys/bob", Value::Null)
        ),
        ask(
            &other,
            Some(&bob),
            Method::DELETE,
            ("/api/keys/ann", Value::Null)
        ),
    );
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "{} {}", first.json(), second.json());
}
