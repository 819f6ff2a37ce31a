//! Messages, and what is said of those that were lost.
use std::sync::Arc;
use std::time::Duration;

use tallygate_sim::servers::{Cluster, Engine, Sentinels, Server};
use tokio::sync::mpsc;

use super::super::Notice;
use super::*;

async fn next(news: &mut mpsc::Receiver<Notice>) -> Notice {
    let notice = tokio::time::timeout(Duration::from_secs(20), news.recv());
    notice
        .await
        .expect("a notice comes")
        .expect("and not the last")
}

fn message(text: &str) -> Notice {
    Notice::Message {
        channel: "tg:news".to_owned(),
        payload: text.as_bytes().to_vec(),
    }
}

fn publish(server: &Server, text: &str) {
    server.command(&["PUBLISH", "tg:news", text]).unwrap();
}

fn channels() -> Vec<String> {
    vec!["tg:other".to_owned(), "tg:news".to_owned()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order_and_losses_are_told() {
    for engine in Engine::ALL {
        let server = started(engine, &[]);
        let link = opened(&server.url(), ADD).await;
        let mut news = link.subscribe(channels());
        assert_eq!(next(&mut news).await, Notice::Resumed);
        for number in 0..100 {
            publish(&server, &number.to_string());
        }
        for number in 0..100 {
            assert_eq!(next(&mut news).await, message(&number.to_string()));
        }
        server.restart().unwrap();
        assert_eq!(next(&mut news).await, Notice::Interrupted);
        assert_eq!(next(&mut news).await, Notice::Resumed);
        publish(&server, "again");
        assert_eq!(next(&mut news).await, message("again"));
    }
}

/// A connection whose other end is silent is given up, though nothing ever closed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_an_interruption() {
    let server = started(Engine::Redis, &[]);
    let link = opened(&server.url(), ADD).await;
    let mut news = link.subscribe(channels());
    assert_eq!(next(&mut news).await, Notice::Resumed);
    server.pause().unwrap();
    assert_eq!(next(&mut news).await, Notice::Interrupted);
    server.resume().unwrap();
    assert_eq!(next(&mut news).await, Notice::Resumed);
    publish(&server, "awake");
    assert_eq!(next(&mut news).await, message("awake"));
}

/// Who does not read is not kept for: memory stays bounded, and the gap is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_loses_messages_and_is_told() {
    let server = started(Engine::Valkey, &[]);
    let link = opened(&server.url(), ADD).await;
    let mut news = link.subscribe(channels());
    assert_eq!(next(&mut news).await, Notice::Resumed);
    let sent = 3000;
    for number in 0..sent {
        publish(&server, &number.to_string());
    }
    let mut heard = 0;
    loop {
        match next(&mut news).await {
            Notice::Message { .. } => heard += 1,
            Notice::Interrupted => break,
            Notice::Resumed => panic!("resumed without an interruption"),
        }
    }
    assert!(heard < sent, "all {heard} were kept");
    assert_eq!(next(&mut news).await, Notice::Resumed);
    publish(&server, "now");
    while next(&mut news).await != message("now") {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_primary_is_listened_to() {
    let watched = Arc::new(Sentinels::start(Engine::Valkey, &[]).unwrap());
    let link = opened(&watched.url(), ADD).await;
    let mut news = link.subscribe(channels());
    assert_eq!(next(&mut news).await, Notice::Resumed);
    publish(watched.primary().unwrap(), "old");
    assert_eq!(next(&mut news).await, message("old"));
    tokio::task::block_in_place(|| watched.fail_over().unwrap());
    assert_eq!(next(&mut news).await, Notice::Interrupted);
    // The old one may have taken us in once more before it gave in.
    let new = watched.primary().unwrap();
    loop {
        publish(new, "new");
        if next(&mut news).await == message("new") {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_of_a_cluster_will_do() {
    let cluster = Cluster::start(Engine::Valkey, 3, 0, &["cluster-require-full-coverage no"]);
    let cluster = cluster.unwrap();
    let link = opened(&cluster.url(), ADD).await;
    let mut news = link.subscribe(channels());
    assert_eq!(next(&mut news).await, Notice::Resumed);
    for node in cluster.nodes() {
        let text = node.port().to_string();
        publish(node, &text);
        assert_eq!(next(&mut news).await, message(&text));
    }
    let listened_to = |node: &&Server| {
        let answer = node.command(&["PUBSUB", "NUMSUB", "tg:news"]).unwrap();
        let (_, count): (String, u64) = redis::from_redis_value(answer).unwrap();
        count == 1
    };
    let node = cluster.nodes().iter().find(listened_to).unwrap();
    node.kill();
    assert_eq!(next(&mut news).await, Notice::Interrupted);
    assert_eq!(next(&mut news).await, Notice::Resumed);
    let other = cluster
        .nodes()
        .iter()
        .find(|node| node.is_running())
        .unwrap();
    publish(other, "still");
    assert_eq!(next(&mut news).await, message("still"));
}

/// The connection goes with its receiver, and with the link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_with_its_receiver_and_with_the_link() {
    let server = started(Engine::Redis, &[]);
    let link = opened(&server.url(), ADD).await;
    let mut first = link.subscribe(channels());
    let mut second = link.subscribe(channels());
    assert_eq!(next(&mut first).await, Notice::Resumed);
    assert_eq!(next(&mut second).await, Notice::Resumed);
    drop(first);
    while server.command(&["PUBLISH", "tg:other", ""]).unwrap() != Value::Int(1) {
        tokio::task::yield_now().await;
    }
    drop(link);
    while let Some(notice) = second.recv().await {
        assert!(matches!(notice, Notice::Message { .. }), "{notice:?}");
    }
    while server.command(&["PUBLISH", "tg:other", ""]).unwrap() != Value::Int(0) {
        tokio::task::yield_now().await;
    }
}
