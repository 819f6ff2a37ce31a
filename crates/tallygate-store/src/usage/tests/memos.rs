//! Memos of open reservations: one a reservation, taken once, by whichever node or process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{ReservationId, Span, Time};
use tallygate_sim::servers::{Cluster, Engine, Server};

use crate::RedisOptions;
use crate::folder::{DataFolder, Faulty, Purpose, Trouble};
use crate::usage::{FolderShelf, Memo, MemoryShelf, MemosFor, RedisShelf, Shelf};

/// A deadline that is not over.
fn soon() -> Time {
    let now = jiff::Timestamp::now().as_nanosecond();
    let now = Time::from_nanos(u64::try_from(now).expect("after 1970"));
    now.plus(Span::from(Duration::from_secs(600)))
}

fn memo(number: u128, said: &str) -> Memo {
    Memo {
        // Apart in what tells their slots of a Cluster.
        id: ReservationId::from_bits((number << 96) | number),
        expires_at: soon(),
        bytes: said.into(),
    }
}

fn id(number: u128) -> ReservationId {
    memo(number, "").id
}

async fn found(shelf: &dyn Shelf, number: u128) -> Option<String> {
    let found = shelf.find_memo(id(number)).await.expect("an answer");
    found.map(|bytes| String::from_utf8(bytes).expect("a text"))
}

async fn taken(shelf: &dyn Shelf, number: u128) -> Option<String> {
    let taken = shelf.take_memo(id(number)).await.expect("an answer");
    taken.map(|bytes| String::from_utf8(bytes).expect("a text"))
}

/// What is kept by one is found by the other, and taken by one of them.
async fn conforms(one: &dyn Shelf, other: &dyn Shelf) {
    assert_ne!(one.memos_for(), MemosFor::Nobody);
    for number in 1..=20 {
        let memo = memo(number, "first");
        one.keep_memo(&memo).await.expect("kept");
    }
    other
        .keep_memo(&memo(1, "second"))
        .await
        .expect("an answer");
    assert_eq!(found(other, 1).await.as_deref(), Some("first"));
    other.renew_memo(&memo(1, "third")).await.expect("renewed");
    assert_eq!(found(one, 1).await.as_deref(), Some("third"));
    assert_eq!(taken(one, 1).await.as_deref(), Some("third"));
    assert_eq!(taken(other, 1).await, None);
    one.renew_memo(&memo(1, "fourth")).await.expect("an answer");
    assert_eq!(
        found(one, 1).await,
        None,
        "nothing to put it in the place of"
    );
    one.drop_memos(&[id(2), id(3)]);
    for number in [2, 3] {
        while found(other, number).await.is_some() {
            tokio::task::yield_now().await;
        }
    }
    let late = futures_util::future::join_all((4..=20).map(|number| taken(other, number))).await;
    assert!(late.iter().all(|said| said.as_deref() == Some("first")));
}

async fn at(url: &str) -> RedisShelf {
    let options = RedisOptions::parse(&format!("{url}?timeout=5s")).expect("a URL");
    RedisShelf::open(&options).await.expect("a server")
}

#[tokio::test]
async fn nodes_share_them() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("a server");
        conforms(&at(&server.url()).await, &at(&server.url()).await).await;
        // Each goes by itself some time after its reservation.
        let one = at(&server.url()).await;
        one.keep_memo(&memo(9, "left")).await.expect("kept");
        let keys = server.ask::<Vec<Vec<u8>>>(&["KEYS", "tg:{????????}m*"]);
        let [left] = &keys.expect("keys")[..] else {
            panic!("there is one");
        };
        let ttl: i64 = server.ask(&[b"PTTL", &left[..]]).expect("an answer");
        assert!((600_000..=1_200_000).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn a_cluster_keeps_each_in_the_slot_of_its_reservation() {
    let cluster = Cluster::start(Engine::Redis, 3, 0, &[]).expect("a cluster");
    conforms(&at(&cluster.url()).await, &at(&cluster.url()).await).await;
}

fn open(disk: &Faulty) -> FolderShelf {
    let files = Box::new(disk.clone());
    let folder = DataFolder::over(Path::new("ledger"), files, Purpose::Own);
    FolderShelf::open(Arc::clone(&folder.expect("a folder"))).expect("a shelf")
}

#[tokio::test]
async fn the_next_process_finds_those_of_a_folder() {
    let disk = Faulty::new();
    let shelf = open(&disk);
    conforms(&shelf, &shelf).await;
    let kept = [memo(1, "one"), memo(2, "two"), memo(3, "three")];
    for memo in &kept {
        shelf.keep_memo(memo).await.expect("kept");
    }
    shelf.renew_memo(&memo(2, "2")).await.expect("renewed");
    assert_eq!(taken(&shelf, 1).await.as_deref(), Some("one"));
    let next = open(&disk);
    let left = next.memos().into_iter();
    let mut said: Vec<_> = left.map(|memo| (memo.id, memo.bytes)).collect();
    said.sort();
    assert_eq!(said, [(id(2), b"2".to_vec()), (id(3), b"three".to_vec())]);
    assert_eq!(found(&next, 3).await.as_deref(), Some("three"));
    // A frame that was cut off ends the file, and what comes takes its place.
    let name = "usage/open.memos";
    let folder = DataFolder::over(Path::new("ledger"), Box::new(disk.clone()), Purpose::Own);
    let bytes = folder
        .expect("a folder")
        .files()
        .read(name)
        .expect("a file");
    disk.damage(name, &[&bytes[..], &bytes[..20]].concat());
    let next = open(&disk);
    next.keep_memo(&memo(4, "four")).await.expect("kept");
    assert_eq!(open(&disk).memos().len(), 3);
}

#[tokio::test]
async fn a_folders_file_does_not_grow_for_ever_and_forgets_what_is_long_over() {
    let disk = Faulty::new();
    let shelf = open(&disk);
    let said = "x".repeat(4_000);
    for number in 0..300 {
        shelf.keep_memo(&memo(number, &said)).await.expect("kept");
        if number > 9 {
            taken(&shelf, number).await.expect("kept");
        }
    }
    let old = Memo {
        expires_at: Time::from_nanos(1),
        ..memo(1_000, "old")
    };
    shelf.keep_memo(&old).await.expect("kept");
    shelf.drop_before(0).await.expect("tidied");
    let folder = DataFolder::over(Path::new("ledger"), Box::new(disk.clone()), Purpose::Own);
    let read = |folder: &DataFolder| {
        folder
            .files()
            .read("usage/open.memos")
            .expect("a file")
            .len()
    };
    assert!(read(&folder.expect("a folder")) < 50_000);
    assert_eq!(open(&disk).memos().len(), 10);
    shelf.keep_memo(&memo(2_000, "new")).await.expect("kept");
    assert_eq!(open(&disk).memos().len(), 11);
}

#[tokio::test]
async fn a_full_disk_keeps_none_and_goes_on_when_there_is_room() {
    let disk = Faulty::new();
    let shelf = open(&disk);
    shelf.keep_memo(&memo(1, "one")).await.expect("kept");
    disk.suffer(Some(Trouble::Full(10)));
    assert!(shelf.keep_memo(&memo(2, "two")).await.is_err());
    assert_eq!(found(&shelf, 2).await, None);
    assert_eq!(taken(&shelf, 1).await.as_deref(), Some("one"));
    disk.suffer(None);
    shelf.keep_memo(&memo(3, "three")).await.expect("kept");
    assert_eq!(found(&open(&disk), 3).await.as_deref(), Some("three"));
}

#[tokio::test]
async fn memory_has_none() {
    let shelf = MemoryShelf::default();
    assert_eq!(shelf.memos_for(), MemosFor::Nobody);
    shelf.keep_memo(&memo(1, "one")).await.expect("nothing");
    assert_eq!(found(&shelf, 1).await, None);
}
