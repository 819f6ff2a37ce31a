//! A ledger in a folder: what was acknowledged is there, once, whatever becomes of the disk.

use std::path::Path;
use std::sync::Arc;

use super::draw::{self, Draw};
use super::oracle;
use crate::folder::{DataFolder, Faulty, Purpose, Trouble};
use crate::usage::{Dimension, FolderShelf, Query, Record, Shelf, ShelfError};

fn folder(disk: &Faulty) -> Arc<DataFolder> {
    let files = Box::new(disk.clone());
    DataFolder::over(Path::new("ledger"), files, Purpose::Own).expect("a folder")
}

fn open(disk: &Faulty) -> FolderShelf {
    FolderShelf::open(folder(disk)).expect("a shelf")
}

fn names(disk: &Faulty) -> Vec<String> {
    let names = folder(disk).files().list().expect("a list");
    names
        .into_iter()
        .filter(|name| name.starts_with("usage/"))
        .collect()
}

async fn agrees(shelf: &FolderShelf, records: &[Record], draw: &mut Draw) {
    for _ in 0..3 {
        let query = draw.query();
        let report = shelf.answer(&query).await.expect("an answer");
        assert_eq!(report, oracle::answer(records, &query), "{query:?}");
    }
}

#[tokio::test]
async fn sums_equal_those_made_the_simple_way_over_restarts_and_merges() {
    for seed in 0..40 {
        let mut draw = Draw::new(seed);
        let disk = Faulty::new();
        let mut shelf = open(&disk);
        let mut records = Vec::new();
        for _ in 0..8 {
            let count = 1 + draw.below(60);
            let more = draw.records(count);
            shelf.append(&more).await.expect("kept");
            records.extend(more);
            match draw.below(4) {
                0 => shelf = open(&disk),
                1 => shelf.drop_before(0).await.expect("merged"),
                _ => {}
            }
            agrees(&shelf, &records, &mut draw).await;
        }
        assert!(names(&disk).iter().any(|name| name.ends_with(".blocks")) || seed > 0);
    }
}

/// Whatever was appended is there after the power was lost, and of what was not acknowledged all of a day or nothing.
#[tokio::test]
async fn nothing_acknowledged_is_lost_with_the_power() {
    for seed in 0..80 {
        let mut draw = Draw::new(seed);
        let mut disk = Faulty::new();
        let mut records = Vec::new();
        for _ in 0..4 {
            let shelf = open(&disk);
            agrees(&shelf, &records, &mut draw).await;
            for _ in 0..draw.below(4) {
                let more = draw.records(3);
                shelf.append(&more).await.expect("kept");
                records.extend(more);
            }
            if draw.below(2) == 0 {
                shelf.drop_before(0).await.expect("merged");
            }
            // What is written now is never acknowledged.
            disk.suffer(Some(Trouble::Unsynced));
            assert!(shelf.append(&draw.records(1)).await.is_err());
            disk = disk.power_loss(seed);
        }
    }
}

#[tokio::test]
async fn a_full_disk_takes_all_or_nothing_and_goes_on_when_there_is_room() {
    for room in (0..300).step_by(3) {
        let mut draw = Draw::new(7);
        let disk = Faulty::new();
        let shelf = open(&disk);
        let first = draw.records(2);
        shelf.append(&first).await.expect("kept");
        disk.suffer(Some(Trouble::Full(room)));
        let more = draw.records(2);
        let mut records = first;
        if shelf.append(&more).await.is_ok() {
            records.extend(more.clone());
        }
        agrees(&shelf, &records, &mut draw).await;
        disk.suffer(None);
        shelf.append(&more).await.expect("kept");
        records.extend(more);
        agrees(&shelf, &records, &mut draw).await;
        agrees(&open(&disk), &records, &mut draw).await;
    }
}

#[tokio::test]
async fn a_merge_that_is_cut_short_anywhere_changes_no_sum() {
    let mut draw = Draw::new(9);
    let records = draw.records(50);
    for room in (0..20_000).step_by(397) {
        let disk = Faulty::new();
        let shelf = open(&disk);
        shelf.append(&records).await.expect("kept");
        disk.suffer(Some(Trouble::Full(room)));
        let merged = shelf.drop_before(0).await;
        assert!(merged.is_ok() || room < 19_000, "{merged:?}");
        agrees(&shelf, &records, &mut draw).await;
        disk.suffer(None);
        agrees(&open(&disk.power_loss(room as u64)), &records, &mut draw).await;
    }
}

#[tokio::test]
async fn a_log_that_was_merged_and_not_removed_counts_once() {
    let disk = Faulty::new();
    let shelf = open(&disk);
    let mut draw = Draw::new(1);
    let records = draw.records(40);
    shelf.append(&records).await.expect("kept");
    let folder = folder(&disk);
    let logs: Vec<(String, Vec<u8>)> = names(&disk)
        .into_iter()
        .map(|name| (name.clone(), folder.files().read(&name).expect("a log")))
        .collect();
    shelf.drop_before(0).await.expect("merged");
    logs.iter()
        .for_each(|(name, bytes)| disk.damage(name, bytes));
    let peeked = FolderShelf::peek(&folder, &Query::default()).expect("an answer");
    assert_eq!(peeked.totals.calls, 40);
    agrees(&open(&disk), &records, &mut draw).await;
    assert!(names(&disk).len() < logs.len() * 2);
}

/// What was kept a few at a time, because somebody waited for it, takes no more room for long than what came together.
#[tokio::test]
async fn small_appends_take_no_more_room_once_they_are_merged() {
    let disk = Faulty::new();
    let shelf = open(&disk);
    let records = draw::busy_day(1 << 15);
    for few in records.chunks(2) {
        shelf.append(few).await.expect("kept");
    }
    shelf.drop_before(0).await.expect("merged");
    let names = names(&disk);
    assert!(names.iter().any(|name| name.ends_with(".blocks")));
    let folder = folder(&disk);
    let length = |name: &String| folder.files().read(name).expect("blocks").len();
    let each = names.iter().map(length).sum::<usize>() / records.len();
    assert!((10..30).contains(&each), "{each} bytes a record");
}

fn of_day(draw: &mut Draw, day: u64) -> Vec<Record> {
    let mut records = draw.records(10);
    records
        .iter_mut()
        .for_each(|record| record.time = day * 86_400_000 + 5);
    records
}

#[tokio::test]
async fn days_before_are_dropped_whole() {
    let disk = Faulty::new();
    let shelf = open(&disk);
    let mut draw = Draw::new(2);
    for day in [20_000, 20_001, 20_002] {
        shelf.append(&of_day(&mut draw, day)).await.expect("kept");
    }
    let cut = 20_001 * 86_400_000 + 9;
    shelf.drop_before(cut).await.expect("dropped");
    let query = Query {
        by: vec![Dimension::Day],
        ..Query::default()
    };
    let report = shelf.answer(&query).await.expect("an answer");
    let days: Vec<&str> = report.rows.iter().map(|row| &*row.key[0]).collect();
    assert_eq!(days, ["2024-10-05", "2024-10-06"]);
    assert!(!names(&disk).iter().any(|name| name.contains("2024-10-04")));
    // A late record of a day that was dropped makes a file of its own.
    shelf
        .append(&of_day(&mut draw, 20_000))
        .await
        .expect("kept");
    assert_eq!(shelf.answer(&query).await.expect("an answer").rows.len(), 3);
}

#[tokio::test]
async fn damage_is_told_and_the_rest_is_read() {
    let disk = Faulty::new();
    let shelf = open(&disk);
    let mut draw = Draw::new(3);
    for _ in 0..3 {
        shelf
            .append(&of_day(&mut draw, 20_000))
            .await
            .expect("kept");
    }
    let name = names(&disk).remove(0);
    let mut bytes = folder(&disk).files().read(&name).expect("a log");
    bytes[30] ^= 0x10;
    disk.damage(&name, &bytes);
    let shelf = open(&disk);
    assert_eq!(shelf.damaged(), 1);
    shelf
        .append(&of_day(&mut draw, 20_000))
        .await
        .expect("kept");
    shelf
        .append(&of_day(&mut draw, 20_009))
        .await
        .expect("kept");
    shelf.drop_before(0).await.expect("left as it is");
    let report = shelf.answer(&Query::default()).await.expect("an answer");
    assert_eq!((report.totals.calls, report.damaged), (40, 1));
}

#[tokio::test]
async fn a_later_version_is_refused() {
    let disk = Faulty::new();
    disk.damage("FORMAT", b"tallygate 1\n");
    disk.damage("usage/2026-11-22.0001.log", &super::framed(&[9, 1]));
    let refused = FolderShelf::open(folder(&disk));
    assert!(matches!(refused, Err(ShelfError::Block(_))), "{refused:?}");
}
