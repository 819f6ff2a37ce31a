//! A configuration that is taken over while the audit log cannot be written to.

use std::path::Path;
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use tallygate_server::Server;
use tallygate_server::reload::Watcher;
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
