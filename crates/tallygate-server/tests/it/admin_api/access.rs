//! Who gets in.

use http::Method;
use serde_json::{Value, json};

use super::{administered, ask, made};
use crate::http::{Answer, ask_with};
use crate::world::{LIMITS, World};

/// Every path of the document that begins with `/api/`, with its method.
fn documented() -> Vec<(Method, String)> {
    let document: Value =
        serde_json::from_str(tallygate_server::admin::OPENAPI).expect("the document is JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    let api = paths.filter(|(path, _)| path.starts_with("/api/"));
    api.flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").keys();
        methods.map(|method| {
            let method = method.to_uppercase().parse().expect("a method");
            (method, path.replace("{id}", "x").replace("{limit}", "all"))
        })
    })
    .collect()
}

#[tokio::test]
async fn with_keys_only_administrators_get_in_anywhere() {
    let (world, root) = administered(LIMITS).await;
    let caller = made(
        &world,
        Some(&root),
        json!({ "id": "caller", "roles": ["call", "decide"] }),
    )
    .await;
    let gone = made(
        &world,
        Some(&root),
        json!({ "id": "gone", "roles": ["admin"] }),
    )
    .await;
    let revoked = ask(
        &world,
        Some(&root),
        Method::DELETE,
        ("/api/keys/gone", Value::Null),
    )
    .await;
    assert_eq!(revoked.status, 200);
    let paths = documented();
    assert!(paths.len() >= 6, "{paths:?}");
    for (method, path) in paths {
        for (key, status) in [
            (None, 401),
            (Some("tg-nobody"), 401),
            (Some(gone.as_str()), 401),
            (Some(caller.as_str()), 403),
        ] {
            let reply = ask(&world, key, method.clone(), (&path, Value::Null)).await;
            assert_eq!(reply.status, status, "{method} {path}");
            let error = &reply.json()["error"];
            assert!(error["mend"].is_string(), "{method} {path}: {error}");
        }
    }
    for open in ["/healthz", "/metrics", "/openapi.json"] {
        let reply = ask(&world, None, Method::GET, (open, Value::Null)).await;
        assert_eq!(reply.status, 200, "{open}");
    }
}

#[tokio::test]
async fn a_key_in_the_query_is_not_looked_at() {
    let (world, root) = administered(LIMITS).await;
    let path = format!("/api/keys?key={root}");
    let reply = ask(&world, None, Method::GET, (&path, Value::Null)).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn without_keys_only_this_machine_gets_in_and_no_page_of_another_site() {
    let world = World::new(LIMITS).await;
    let addr = world.admin_addr();
    let list =
        async |headers: &[&str]| -> Answer { ask_with(addr, "GET /api/keys", headers).await };
    let own = format!("host: {addr}");
    let port = addr.port();
    for welcome in [
        vec![own.clone()],
        vec![format!("host: localhost:{port}")],
        vec!["host: [::1]".to_owned()],
        vec![own.clone(), format!("origin: http://{addr}")],
    ] {
        let headers: Vec<&str> = welcome.iter().map(String::as_str).collect();
        let answer = list(&headers).await;
        assert_eq!(answer.status, 200, "{welcome:?}: {}", answer.body);
    }
    for foreign in [
        vec!["host: attacker.example".to_owned()],
        vec!["host: 127.0.0.1.attacker.example".to_owned()],
        vec!["host: localhost.attacker.example".to_owned()],
        vec!["host: 10.0.0.1".to_owned()],
        vec!["host: ".to_owned()],
        vec![own.clone(), "origin: http://attacker.example".to_owned()],
        vec![own.clone(), "origin: null".to_owned()],
        vec![own.clone(), "origin: http://localhost:1".to_owned()],
        vec![
            own.clone(),
            format!("origin: http://{addr}"),
            "origin: http://attacker.example".to_owned(),
        ],
    ] {
        let headers: Vec<&str> = foreign.iter().map(String::as_str).collect();
        let answer = list(&headers).await;
        assert_eq!(answer.status, 403, "{foreign:?}");
    }
}

#[tokio::test]
async fn without_keys_a_listener_that_others_reach_answers_nobody() {
    let world = World::exposed(LIMITS).await;
    let reply = ask(&world, None, Method::GET, ("/api/keys", Value::Null)).await;
    assert_eq!(reply.status, 403);
    let reply = ask(&world, None, Method::GET, ("/metrics", Value::Null)).await;
    assert_eq!(reply.status, 200);
}
