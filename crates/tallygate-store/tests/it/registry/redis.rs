//! The registry on real servers.
use super::{PATIENCE, Place, conforms, create, log, make, noted, revoke};
use crate::redis_rights;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tallygate_sim::servers::{Cluster, Engine, Server};
use tallygate_store::registry::{RedisRegistry, Registry};
use tallygate_store::{BoxFuture, RedisOptions};
use tokio::time::timeout;

/// Registries of one server, each under a prefix of its own.
struct Prefixes {
    url: String,
    opened: AtomicU64,
}

impl Prefixes {
    fn of(url: String) -> Self {
        Self {
            url,
            opened: AtomicU64::new(0),
        }
    }

    fn latest(&self) -> String {
        let number = self.opened.load(Ordering::SeqCst);
        format!("{}?prefix=tg:r{number}&timeout=5s", self.url)
    }
}

async fn open(url: &str) -> Arc<dyn Registry> {
    let options = RedisOptions::parse(url).expect("a URL");
    RedisRegistry::open(&options).await.expect("a server")
}

impl Place for Prefixes {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Registry>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { open(&self.latest()).await })
    }

    fn another<'a>(&'a self, _: &'a Arc<dyn Registry>) -> BoxFuture<'a, Option<Arc<dyn Registry>>> {
        Box::pin(async { Some(open(&self.latest()).await) })
    }

    fn again<'a>(&'a self, of: Arc<dyn Registry>) -> BoxFuture<'a, Option<Arc<dyn Registry>>> {
        drop(of);
        Box::pin(async { Some(open(&self.latest()).await) })
    }
}

fn server() -> Server {
    Server::start(Engine::Redis, &[]).expect("a server")
}

#[tokio::test]
async fn the_registry_on_redis_conforms() {
    let server = server();
    conforms(&Prefixes::of(server.url())).await;
}

#[tokio::test]
async fn the_registry_on_a_cluster_conforms() {
    let cluster = Cluster::start(Engine::Redis, 3, 0, &[]).expect("a cluster");
    conforms(&Prefixes::of(cluster.url())).await;
}

#[tokio::test]
async fn it_needs_no_right_that_the_counters_do_not() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("a server");
        redis_rights::make(&server, &redis_rights::documented());
        conforms(&Prefixes::of(redis_rights::url(&server))).await;
        assert_eq!(redis_rights::refusals(&server), Vec::<Vec<String>>::new());
    }
}

#[tokio::test]
async fn the_log_on_redis_keeps_the_latest() {
    let server = server();
    let places = Prefixes::of(server.url());
    let registry = places.fresh().await;
    let key = |name: &str| format!("tg:r1:{{6b657973}}k{name}");
    // As it is after 10,005 changes, of whose entries these are left.
    let records = r#"{"version":10005,"keys":{},"overrides":{}}"#;
    server
        .command(&["SET", &key("records"), records])
        .expect("set");
    server
        .command(&["SET", &key("version"), "10005:0"])
        .expect("set");
    for seq in [5, 6, 7, 10_005] {
        let entry = format!(r#"{{"seq":{seq},"at":0,"by":"","from":"","action":"","target":""}}"#);
        let add = ["ZADD", &key("log"), &seq.to_string(), &entry];
        server.command(&add).expect("added");
    }
    assert_eq!(noted(&registry, 1).await, (7, 10_006));
}

#[tokio::test]
async fn another_node_hears_of_a_change_within_a_second() {
    let server = server();
    let places = Prefixes::of(server.url());
    let (one, other) = (places.fresh().await, places.fresh_again().await);
    for turn in 1..6 {
        let begun = std::time::Instant::now();
        make(&one, create(&format!("k{turn}")), 10).await;
        let heard = timeout(PATIENCE, other.changed(turn - 1)).await;
        heard.expect("in time");
        assert_eq!(other.load().await.expect("records").version(), turn);
        assert!(begun.elapsed().as_millis() < 1_000, "{:?}", begun.elapsed());
    }
}

impl Prefixes {
    async fn fresh_again(&self) -> Arc<dyn Registry> {
        open(&self.latest()).await
    }
}

#[tokio::test]
async fn a_server_that_was_away_or_emptied_is_followed_again() {
    let server = server();
    let places = Prefixes::of(server.url());
    let (one, other) = (places.fresh().await, places.fresh_again().await);
    make(&one, create("alice"), 10).await;
    timeout(PATIENCE, other.changed(0)).await.expect("heard");
    assert_eq!(other.load().await.expect("records").version(), 1);
    server.command(&["FLUSHALL"]).expect("emptied");
    timeout(PATIENCE, other.changed(1)).await.expect("heard");
    assert_eq!(other.load().await.expect("records").version(), 0);
    make(&one, create("bob"), 11).await;
    timeout(PATIENCE, other.changed(0)).await.expect("heard");
    assert!(other.load().await.expect("records").key("bob").is_some());
    make(&other, revoke("bob"), 12).await;
    let seqs: Vec<u64> = log(&one).await.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [2, 1]);
}
