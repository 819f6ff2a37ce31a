//! Memos of open reservations: one a reservation, taken once, by whichever node or process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{ReservationId, Span, Time};
use tallygate_sim::servers::{Cluster, Engine, Server};

use super::draw::Draw;
use crate::RedisOptions;
use crate::folder::{DataFolder, Faulty, Purpose, Trouble};
use crate::usage::{FolderShelf, Memo, MemoryShelf, MemosFor, Query, Record, RedisShelf, Shelf};

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
    let ended = [id(2), id(3), id(21)];
    let kept = one.append_ends(&[Record::default()], &ended).await;
    kept.expect("kept");
    for number in [2, 3] {
        assert_eq!(found(other, number).await, None);
    }
    assert_eq!(calls(other).await, 1);
    let more = [memo(4, "second"), memo(21, "first")];
    one.keep_memos(&more).await.expect("kept");
    let late = futures_util::future::join_all((4..=21).map(|number| taken(other, number))).await;
    assert!(late.iter().all(|said| said.as_deref() == Some("first")));
}

async fn calls(shelf: &dyn Shelf) -> u64 {
    let report = shelf.answer(&Query::default()).await;
    report.expect("an answer").totals.calls
}

/// What nobody ended is found by its deadline, as that is now, and nothing of it once it was taken or has ended.
async fn are_swept(one: &dyn Shelf, other: &dyn Shelf) {
    let second = |seconds: u64| Time::from_secs(4_000_000_000 + seconds);
    for number in 1..=5 {
        let memo = Memo {
            expires_at: second(number),
            ..memo(u128::from(number), "left")
        };
        one.keep_memo(&memo).await.expect("kept");
    }
    let overdue = async |seconds, most| {
        let found = other.overdue_memos(second(seconds), most).await;
        found.expect("an answer")
    };
    assert_eq!(overdue(0, 9).await, []);
    assert_eq!(overdue(4, 9).await, [id(1), id(2), id(3), id(4)]);
    assert_eq!(overdue(4, 2).await, [id(1), id(2)]);
    let renewed = Memo {
        expires_at: second(9),
        ..memo(1, "longer")
    };
    one.renew_memo(&renewed).await.expect("renewed");
    assert_eq!(taken(one, 2).await.as_deref(), Some("left"));
    let ended = one.append_ends(&[Record::default()], &[id(3)]).await;
    ended.expect("kept");
    assert_eq!(overdue(8, 9).await, [id(4), id(5)]);
    assert_eq!(overdue(9, 9).await, [id(4), id(5), id(1)]);
    for number in [1, 4, 5] {
        assert!(taken(other, number).await.is_some());
    }
    assert_eq!(overdue(9, 9).await, []);
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
        are_swept(&at(&server.url()).await, &at(&server.url()).await).await;
        // Each goes by itself a day after its reservation, should there be no node.
        let one = at(&server.url()).await;
        one.keep_memo(&memo(9, "left")).await.expect("kept");
        let keys = server.ask::<Vec<Vec<u8>>>(&["KEYS", "tg:{????????}m*"]);
        let [left] = &keys.expect("keys")[..] else {
            panic!("there is one");
        };
        let ttl: i64 = server.ask(&[b"PTTL", &left[..]]).expect("an answer");
        assert!((86_400_000..=87_000_000).contains(&ttl), "{ttl}");
    }
}

#[tokio::test]
async fn nodes_share_them_on_a_cluster() {
    let cluster = Cluster::start(Engine::Redis, 3, 0, &[]).expect("a cluster");
    conforms(&at(&cluster.url()).await, &at(&cluster.url()).await).await;
    are_swept(&at(&cluster.url()).await, &at(&cluster.url()).await).await;
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
    let kept = [memo(31, "one"), memo(32, "two"), memo(33, "three")];
    for memo in &kept {
        shelf.keep_memo(memo).await.expect("kept");
    }
    shelf.renew_memo(&memo(32, "2")).await.expect("renewed");
    assert_eq!(taken(&shelf, 31).await.as_deref(), Some("one"));
    let next = open(&disk);
    let left = next.memos().into_iter();
    let mut said: Vec<_> = left.map(|memo| (memo.id, memo.bytes)).collect();
    said.sort();
    assert_eq!(said, [(id(32), b"2".to_vec()), (id(33), b"three".to_vec())]);
    assert_eq!(found(&next, 33).await.as_deref(), Some("three"));
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
    next.keep_memo(&memo(34, "four")).await.expect("kept");
    assert_eq!(open(&disk).memos().len(), 3);
}

/// After a kill each reservation has either its record or its memo. A loss of power may cost a memo, and no record; a memo that it
/// brings back is none of a reservation that has its record.
#[tokio::test]
async fn no_crash_leaves_a_reservation_both_its_record_and_its_memo() {
    for seed in 0..300 {
        let disk = Faulty::new();
        let mut shelf = open(&disk);
        let (mut draw, mut open_ones, mut ended) = (Draw::new(seed), Vec::new(), 0);
        for number in 1..=30 {
            shelf.keep_memo(&memo(number, "open")).await.expect("kept");
            open_ones.push(id(number));
            match draw.below(8) {
                0 => shelf.drop_before(0).await.expect("tidied"),
                1 => shelf = open(&disk),
                2..7 => {
                    let some = draw.below(open_ones.len().min(3)) + 1;
                    let ends = open_ones.split_off(open_ones.len() - some);
                    // Days pass, so that logs are closed and written anew.
                    let record = |at| Record {
                        time: 50_000_000 * (number as u64 + at),
                        ..Record::default()
                    };
                    let records: Vec<Record> = (0..some as u64).map(record).collect();
                    let kept = shelf.append_ends(&records, &ends).await;
                    kept.expect("kept");
                    ended += some;
                }
                _ => {}
            }
        }
        let is_kill = seed % 3 == 0;
        let left = match is_kill {
            true => disk.death(),
            false => disk.power_loss(seed),
        };
        let next = open(&left);
        assert_eq!(calls(&next).await, ended as u64, "seed {seed}");
        let memos: Vec<_> = next.memos().into_iter().map(|memo| memo.id).collect();
        assert!(memos.iter().all(|id| open_ones.contains(id)), "seed {seed}");
        assert!(!is_kill || memos.len() == open_ones.len(), "seed {seed}");
    }
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
