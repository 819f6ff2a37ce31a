//! A configuration that is taken over while the audit log cannot be written to.

use std::path::Path;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tallygate_server::reload::Watcher;
use tallygate_server::{Config, Server};
use tallygate_store::folder::{DataFolder, Faulty, Purpose, Trouble};
use tallygate_store::registry::FolderRegistry;
use tallygate_store::{MemoryOptions, MemoryStore};

use super::{ask, made};
use crate::world::{World, config};

#[tokio::test]
async fn what_is_in_force_is_said_to_be_though_it_cannot_be_noted() {
    let disk = Faulty::new();
    let files = Box::new(disk.clone());
    let folder = DataFolder::over(Path::new("data"), files, Purpose::Own).expect("one of ours");
    let registry = FolderRegistry::open(folder).expect("a registry");
    let config = config("", "limits: [{ name: one, tokens: 5, every: day }]");
    let store = MemoryStore::new(config.policy(), MemoryOptions::default());
    let server = Server::with_registry(config, store, registry).await;
    let world = World::of(server.expect("a server")).await;
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;

    let name = format!("tallygate-unnoted-{}.yaml", std::process::id());
    let file = std::env::temp_dir().join(name);
    let text = "admin: none\nstore: memory\nlimits: [{ name: two, tokens: 5, every: day }]";
    std::fs::write(&file, text).expect("writable");
    let watcher = Watcher::new(file.clone(), Arc::new(|_| None), world.server.clone()).await;
    let watching = tokio::spawn(watcher.run());
    // The watcher hears from its first moment on.
    tokio::task::yield_now().await;
    disk.suffer(Some(Trouble::Full(0)));
    let path = ("/api/reload", Value::Null);
    let reply = ask(&world, Some(&root), Method::POST, path.clone()).await;
    let told = reply.json();
    assert_eq!(
        (reply.status, &told["noted"]),
        (200, &json!(false)),
        "{told}"
    );
    let warning = told["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("it is in force"), "{warning}");
    assert_eq!(&*world.standings(&[]).await[0].limit.name, "two");
    disk.suffer(None);
    let reply = ask(&world, Some(&root), Method::POST, path).await;
    assert_eq!(reply.json(), json!({ "reloaded": true, "noted": true }));
    watching.abort();
    let _ = std::fs::remove_file(&file);
}

#[tokio::test]
async fn a_key_without_a_tier_and_one_that_loses_it_are_told_of() {
    let tiers = "admin: none\nstore: memory\ntiers: { free: { limits: [{ name: f, requests: 5, every: day }] }, paid: { limits: [{ name: p, requests: 5, every: day }] } }";
    let kept = "admin: none\nstore: memory\ntiers: { free: { limits: [{ name: f, requests: 5, every: day }] } }";
    let hash = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"; // of "secret"
    let keys = format!(
        "\nkeys: [{{ id: root, hash: \"{hash}\", role: [admin] }}, {{ id: caller, hash: \"sha256:{}\", subject: {{ tier: free }} }}]",
        "0".repeat(64)
    );
    let caller = format!(
        "\nkeys: [{{ id: caller, hash: \"sha256:{}\", subject: {{ tier: free }} }}]",
        "0".repeat(64)
    );
    let parsed = Config::parse(&format!("{tiers}{keys}"), "test.yaml", &|_| None).expect("good");
    let world = World::with_config(parsed).await;
    let wanted = json!({ "id": "stray", "roles": ["call"] });
    let reply = ask(&world, Some("secret"), Method::POST, ("/api/keys", wanted)).await;
    let told = reply.json()["warnings"].to_string();
    let untiered = "the key `stray` has no tier, so no tier's limits count it";
    assert!(told.contains(untiered), "{told}");
    let wanted = json!({ "id": "payer", "subject": { "tier": "paid" } });
    let reply = ask(&world, Some("secret"), Method::POST, ("/api/keys", wanted)).await;
    assert!(!reply.json()["warnings"].to_string().contains("tier"));

    let name = format!("tallygate-left-{}.yaml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, format!("{kept}{caller}")).expect("writable");
    let watcher = Watcher::new(file.clone(), Arc::new(|_| None), world.server.clone()).await;
    let watching = tokio::spawn(watcher.run());
    // The watcher hears from its first moment on.
    tokio::task::yield_now().await;
    let path = ("/api/reload", Value::Null);
    let told = ask(&world, Some("secret"), Method::POST, path).await.json();
    let warnings = told["warnings"].to_string();
    assert!(
        warnings.contains("the tier `paid` of the key `payer`"),
        "{told}"
    );
    assert!(
        warnings.contains("no key has the role `admin` any more"),
        "{told}"
    );
    watching.abort();
    let _ = std::fs::remove_file(&file);
}
