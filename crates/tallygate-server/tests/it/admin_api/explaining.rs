//! What limits are, and reading the configuration anew.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tallygate_server::reload::Watcher;

use super::{administered, ask, audited, made};

#[tokio::test]
async fn explain_tells_what_applies_where_it_stands_and_what_it_promises() {
    let settings = "models: { gpt-4o: { upstream: openai } }
limits:
  - { name: each, per: [user], tokens: 100, every: 60s }
  - { name: model, when: { model: gpt-4o, endpoint: chat_completions }, tokens: 100, every: day }
  - { name: other, when: { model: other }, tokens: 100, every: day }";
    let (world, root) = administered(settings).await;
    let key = made(
        &world,
        Some(&root),
        json!({ "id": "a", "roles": ["decide"] }),
    )
    .await;
    let world = world.keyed(&key);
    let body = r#"{"subject":{"user":"alice"},"demand":{"tokens":30}}"#;
    assert_eq!(world.post("/tallygate/v1/reserve", body).await.status, 200);
    let path = (
        "/api/explain?user=alice&model=gpt-4o-2024&model=gpt-4o",
        Value::Null,
    );
    let told = ask(&world, Some(&root), Method::GET, path).await;
    assert_eq!(told.status, 200, "{}", told.json());
    let told = told.json();
    assert_eq!(
        told["subject"],
        json!({ "user": "alice", "model": "gpt-4o", "upstream": "openai", "endpoint": "chat_completions" })
    );
    let limits = told["limits"].as_array().expect("limits");
    let names: Vec<&Value> = limits.iter().map(|limit| &limit["name"]).collect();
    assert_eq!(names, ["each", "model"]);
    assert_eq!(
        (&limits[0]["used"], &limits[0]["limit"]),
        (&json!(30), &json!(100))
    );
    assert!(
        limits[1]["promise"]
            .as_str()
            .expect("words")
            .contains("never more than 100 tokens")
    );
}

#[tokio::test]
async fn a_reload_reads_the_file_now_says_why_not_and_is_noted() {
    let (world, root) = administered("limits: [{ name: one, tokens: 5, every: day }]").await;
    let post = async |path: &str| {
        let reply = ask(&world, Some(&root), Method::POST, (path, Value::Null)).await;
        (reply.status, reply.json().to_string())
    };
    let reload = async || post("/api/reload").await;
    let try_out = async || post("/api/reload?dry_run=true").await;
    let (status, said) = reload().await;
    assert!(
        status == 409 && said.contains("no configuration file"),
        "{said}"
    );
    let file = std::env::temp_dir().join(format!("tallygate-reload-{}.yaml", std::process::id()));
    let write = |limits: &str| {
        std::fs::write(&file, format!("admin: none\nstore: memory\n{limits}")).expect("writable");
    };
    write("limits: [{ name: two, tokens: 5, every: day }]");
    let watcher = Watcher::new(file.clone(), Arc::new(|_| None), world.server.clone()).await;
    let watching = tokio::spawn(watcher.run());
    // The watcher hears from its first moment on.
    tokio::task::yield_now().await;
    assert_eq!(reload().await.0, 200);
    let names = |standings: Vec<tallygate_core::Standing>| {
        let names = standings
            .iter()
            .map(|standing| standing.limit.name.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(world.standings(&[]).await), ["two"]);
    write("limits: [{ name: three, tokens: 0, every: day }]");
    let (status, said) = reload().await;
    assert!(
        status == 409 && said.contains("the old configuration stays"),
        "{said}"
    );
    assert!(said.contains("line 3, column "), "{said}");
    let (status, said) = try_out().await;
    assert!(
        status == 409 && said.contains("would not be taken over: line 3, column "),
        "{said}"
    );
    // A warning is no reason.
    write("limits: [{ name: three, when: { teer: pro }, tokens: 5, every: day }]\nlimitz: []");
    let (_, said) = reload().await;
    let why = "in force: line 4, column 1: `limitz` is not a key of a configuration (did you mean `limits`?)\"";
    assert!(said.contains(why), "{said}");
    assert_eq!(names(world.standings(&[]).await), ["two"]);
    for wrong in ["dry_run=yes", "dryrun=true", "dry_run=true&dry_run=false"] {
        let (status, said) = post(&format!("/api/reload?{wrong}")).await;
        assert!(status == 400 && said.contains("field"), "{said}");
    }
    // One that is in force already changes nothing.
    write("limits: [{ name: two, tokens: 5, every: day }]");
    let none =
        r#"{"limits":{"added":[],"changed":[],"removed":[]},"reloaded":false,"warnings":[]}"#;
    assert_eq!(try_out().await, (200, none.to_owned()));
    let reloads = audited(&world, &root).await;
    assert_eq!(reloads[0], "config.reload  by root");
    assert!(
        !reloads[1].contains("reload"),
        "to try is no change: {reloads:?}"
    );
    watching.abort();
    let _ = std::fs::remove_file(&file);
}
