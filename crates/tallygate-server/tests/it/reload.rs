//! A configuration file that changes while it is served.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tallygate_server::reload::{LoadError, Looked, MAX_FILE, Watcher, load};
use tallygate_server::{Config, Server, ServerHandle};
use tallygate_store::{StoreHealth, StoreStats};

/// A file of its own that is gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tallygate-{}-{}.yaml",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let scratch = Self(std::env::temp_dir().join(name));
        scratch.write(text);
        scratch
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).expect("writable");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const ONE: &str = "limits: [{ name: one, tokens: 10, every: 60s }]";

async fn watched(text: &str) -> (Scratch, ServerHandle, Watcher) {
    let file = Scratch::new(text);
    let config = Config::parse(text, "tallygate.yaml", &|_| None).expect("good");
    let handle = Server::open(config).await.expect("a server").handle();
    let watcher = Watcher::new(file.0.clone(), Arc::new(|_| None), handle.clone()).await;
    (file, handle, watcher)
}

async fn limits(handle: &ServerHandle) -> Vec<String> {
    let standings = handle.store().peek(&[]).await.expect("a store");
    standings
        .iter()
        .map(|standing| standing.limit.name.to_string())
        .collect()
}

fn reloads(handle: &ServerHandle, outcome: &str) -> bool {
    let line = format!("tallygate_config_reloads_total{{outcome=\"{outcome}\"}} 1");
    handle
        .observer()
        .render(StoreStats::default(), &StoreHealth::Up)
        .contains(&line)
}

#[tokio::test]
async fn a_changed_file_is_in_force_at_the_next_look() {
    let (file, handle, mut watcher) = watched(ONE).await;
    assert!(matches!(watcher.look().await, Looked::Same));
    file.write("limits: [{ name: another, tokens: 10, every: 60s }]");
    assert!(matches!(watcher.look().await, Looked::Taken));
    assert_eq!(limits(&handle).await, ["another"]);
    assert!(matches!(watcher.look().await, Looked::Same));
    assert!(reloads(&handle, "taken"));
}

#[tokio::test]
async fn a_file_that_is_being_written_is_left_alone() {
    let (file, handle, mut watcher) = watched(ONE).await;
    assert!(matches!(watcher.tick().await, Looked::Same));
    for part in [
        "",
        "# limits follow",
        "limits: [{ name: two, tokens: 10, every: 60s }]",
    ] {
        file.write(part);
        assert!(matches!(watcher.tick().await, Looked::Same), "{part}");
        assert_eq!(limits(&handle).await, ["one"], "{part}");
    }
    assert!(matches!(watcher.tick().await, Looked::Taken));
    assert_eq!(limits(&handle).await, ["two"]);
    assert!(matches!(watcher.tick().await, Looked::Same));
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing_and_is_told_once() {
    let (file, handle, mut watcher) = watched(ONE).await;
    file.write(
        "limits: [{ name: two, tokens: 10, every: 60s }, { name: three, tokens: 0, every: 60s }]",
    );
    assert!(matches!(watcher.look().await, Looked::Kept));
    assert_eq!(limits(&handle).await, ["one"], "whole or not at all");
    assert!(matches!(watcher.look().await, Looked::Same));
    assert!(reloads(&handle, "refused"));
    file.write("limits: [{ name: mended, tokens: 10, every: 60s }]");
    assert!(matches!(watcher.look().await, Looked::Taken));
    assert_eq!(limits(&handle).await, ["mended"]);
}

#[tokio::test]
async fn what_needs_a_restart_changes_nothing() {
    let (file, handle, mut watcher) = watched(ONE).await;
    file.write("listen: 127.0.0.1:1\nlimits: [{ name: two, tokens: 10, every: 60s }]");
    assert!(matches!(watcher.look().await, Looked::Kept));
    assert_eq!(limits(&handle).await, ["one"]);
}

#[tokio::test]
async fn a_file_that_is_gone_changes_nothing() {
    let (file, handle, mut watcher) = watched(ONE).await;
    fs::remove_file(&file.0).expect("there");
    assert!(matches!(watcher.look().await, Looked::Same));
    assert_eq!(limits(&handle).await, ["one"]);
    file.write("limits: [{ name: back, tokens: 10, every: 60s }]");
    assert!(matches!(watcher.look().await, Looked::Taken));
    assert_eq!(limits(&handle).await, ["back"]);
}

#[tokio::test]
async fn loading_says_why_not() {
    let missing = load(
        &std::env::temp_dir().join("tallygate-no-such-file.yaml"),
        &|_| None,
    )
    .await;
    assert!(matches!(missing, Err(LoadError::Io { .. })));
    let bad = Scratch::new("limits: 5");
    assert!(matches!(
        load(&bad.0, &|_| None).await,
        Err(LoadError::Config(_))
    ));
    let large = Scratch::new("");
    fs::File::options()
        .write(true)
        .open(&large.0)
        .expect("there")
        .set_len(MAX_FILE + 1)
        .expect("grown");
    assert!(
        matches!(load(&large.0, &|_| None).await, Err(LoadError::TooLarge { length, .. }) if length == MAX_FILE + 1)
    );
    let good = Scratch::new(ONE);
    assert!(load(&good.0, &|_| None).await.is_ok());
}
