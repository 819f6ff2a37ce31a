//! A ledger on a real server: one for all nodes, each record once, whatever is merged meanwhile.

use tallygate_sim::servers::{Cluster, Engine, Server};

use super::draw::Draw;
use super::oracle;
use crate::RedisOptions;
use crate::usage::{Query, Record, RedisShelf, Shelf};

async fn open(url: &str, prefix: &str) -> RedisShelf {
    let url = format!("{url}?prefix=tg:{prefix}&timeout=5s");
    let options = RedisOptions::parse(&url).expect("a URL");
    RedisShelf::open(&options).await.expect("a server")
}

async fn agrees(shelf: &RedisShelf, records: &[Record], draw: &mut Draw) {
    for _ in 0..3 {
        let query = draw.query();
        let report = shelf.answer(&query).await.expect("an answer");
        assert_eq!(report, oracle::answer(records, &query), "{query:?}");
    }
}

/// Two nodes add, merge and ask in turn.
async fn conforms(url: &str) {
    for seed in 0..3 {
        let mut draw = Draw::new(seed);
        let prefix = format!("u{seed}");
        let nodes = [open(url, &prefix).await, open(url, &prefix).await];
        let mut records = Vec::new();
        for _ in 0..150 {
            let node = &nodes[draw.below(2)];
            let count = 1 + draw.below(5);
            let more = draw.records(count);
            node.append(&more).await.expect("kept");
            records.extend(more);
            if draw.below(25) == 0 {
                node.drop_before(0).await.expect("merged");
                agrees(&nodes[draw.below(2)], &records, &mut draw).await;
            }
        }
        agrees(&nodes[0], &records, &mut draw).await;
        agrees(&open(url, &prefix).await, &records, &mut draw).await;
    }
}

#[tokio::test]
async fn sums_equal_those_made_the_simple_way_whoever_asks() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("a server");
        conforms(&server.url()).await;
    }
}

#[tokio::test]
async fn a_cluster_keeps_one_ledger() {
    let cluster = Cluster::start(Engine::Redis, 3, 0, &[]).expect("a cluster");
    conforms(&cluster.url()).await;
}

#[tokio::test]
async fn small_blocks_become_few_and_old_ones_go() {
    let server = Server::start(Engine::Redis, &[]).expect("a server");
    let shelf = open(&server.url(), "m").await;
    let mut draw = Draw::new(5);
    let mut records = draw.records(400);
    records.sort_by_key(|record| record.time);
    for piece in records.chunks(2) {
        shelf.append(piece).await.expect("kept");
    }
    let blocks = || {
        let key: Vec<Vec<String>> = vec![server.ask(&["KEYS", "tg:m*blocks"]).expect("keys")];
        let size: u64 = server.ask(&["ZCARD", &key[0][0]]).expect("a number");
        size
    };
    assert_eq!(blocks(), 200);
    shelf.drop_before(0).await.expect("merged");
    assert!(blocks() < 20, "{}", blocks());
    agrees(&shelf, &records, &mut draw).await;
    let cut = records[200].time;
    shelf.drop_before(cut).await.expect("dropped");
    let left = Query {
        from: cut,
        ..Query::default()
    };
    let report = shelf.answer(&left).await.expect("an answer");
    assert_eq!(
        report.totals.calls,
        oracle::answer(&records, &left).totals.calls
    );
    shelf.drop_before(u64::MAX >> 12).await.expect("dropped");
    assert_eq!(
        shelf
            .answer(&Query::default())
            .await
            .expect("an answer")
            .totals
            .calls,
        0
    );
}

/// More blocks of one instant than a page has.
#[tokio::test]
async fn blocks_of_one_instant_are_all_seen() {
    let server = Server::start(Engine::Redis, &[]).expect("a server");
    let shelf = open(&server.url(), "i").await;
    let mut draw = Draw::new(6);
    let mut records = draw.records(300);
    records
        .iter_mut()
        .for_each(|record| record.time = 1_790_000_000_000);
    for record in &records {
        shelf
            .append(std::slice::from_ref(record))
            .await
            .expect("kept");
    }
    agrees(&shelf, &records, &mut draw).await;
}
