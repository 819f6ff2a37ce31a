//! The queue, its journal, and disks that fail.
use super::disk::Disk;
use super::journal::{self, Found, Frame, HEADER};
use super::{Entry, Spool, Task};
use crate::redis::metrics::MetricNames;
use crate::redis::names;
use crate::redis::record::Ending;
use parking_lot::Mutex;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tallygate_core::{Amounts, Metric, Metrics, Outcome, ReservationId, Stated};
use tokio::sync::Notify;

fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

fn settled(amount: u64) -> Entry {
    let ending = (Outcome::Settled, Ending::Exactly(tokens(amount)));
    Entry::end(names::new_id(7), ending)
}

fn whole<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    journal::whole(entries, &MetricNames::default())
}

fn read(raw: &[u8]) -> Option<Found> {
    journal::read(raw, &MetricNames::default())
}

fn bell() -> Arc<Notify> {
    Arc::new(Notify::new())
}

/// A folder that goes with its value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = names::new_id(0).to_string();
        Self(std::env::temp_dir().join(format!("tallygate-spool-{name}")))
    }

    fn journal(&self) -> PathBuf {
        self.0.join("settlements.journal")
    }

    fn open(&self, most: usize) -> Spool {
        Spool::open(&self.0, MetricNames::default(), (most, bell())).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn entries(spool: &Spool) -> Vec<Entry> {
    let oldest = spool.oldest(0, usize::MAX);
    oldest.into_iter().map(|(_, entry, _)| entry).collect()
}

#[test]
fn the_first_entry_of_a_reservation_stands() {
    let spool = Spool::in_memory(10, bell());
    let first = settled(5);
    assert_eq!(spool.keep(first).entry, first);
    let id = first.place().0;
    let nothing = Ending::Exactly(Amounts::ZERO);
    let second = Entry::end(id, (Outcome::Cancelled, nothing));
    assert_eq!(spool.keep(second).entry, first);
    assert_eq!(spool.find(&first.place()), Some(first));
    assert!(spool.done(&first.place()));
    assert!(!spool.done(&first.place()), "it went already");
    assert_eq!(spool.keep(second).entry, second);
}

#[test]
fn the_oldest_goes_when_there_is_no_room() {
    let spool = Spool::in_memory(3, bell());
    let all: Vec<Entry> = (0..5).map(settled).collect();
    for entry in &all {
        spool.keep(*entry);
    }
    assert_eq!(entries(&spool), all[2..]);
    assert_eq!((spool.len(), spool.lost()), (3, 2));
}

/// A withdrawal that is dropped costs nothing but time: it is no loss, and a few of them are enough.
#[test]
fn withdrawals_take_a_tenth_of_the_room() {
    let spool = Spool::in_memory(20, bell());
    for _ in 0..5 {
        spool.keep_withdrawal((names::new_id(1), 1));
    }
    assert_eq!(spool.len(), 2);
    for amount in 0..20 {
        spool.keep(settled(amount));
    }
    assert_eq!((spool.len(), spool.lost()), (20, 0));
    assert!(entries(&spool).iter().all(|one| one.task != Task::Withdraw));
}

#[test]
fn every_kind_of_end_is_read_as_it_was_written() {
    let mut stated = Stated::tokens(3, 4);
    stated.set(Metric::COST, 0);
    let endings = [
        (Outcome::Settled, Ending::Exactly(tokens(1 << 53))),
        (Outcome::Settled, Ending::AtLeast(tokens(0))),
        (Outcome::Settled, Ending::Stated(stated)),
        (Outcome::Settled, Ending::Stated(Stated::default())),
        (Outcome::Cancelled, Ending::Exactly(Amounts::ZERO)),
    ];
    let ends = endings.map(|ending| Entry::end(names::new_id(u32::MAX), ending));
    let raw = whole(ends.iter());
    let found = read(&raw).unwrap();
    assert_eq!(found.entries, ends);
    assert_eq!((found.length, found.lost), (Some(raw.len() as u64), 0));
    let part = Entry::new((ReservationId::from_bits(5), 9), ends[0].task);
    let found = read(&whole([part].iter())).unwrap();
    assert_eq!(found.entries, [part]);
}

#[test]
fn what_was_delivered_is_not_read_again() {
    let (one, two) = (settled(1), settled(2));
    let mut raw = whole([one, two].iter());
    raw.extend(Frame::Done(one.place()).write(&MetricNames::default()));
    raw.extend(Frame::Done(settled(3).place()).write(&MetricNames::default()));
    assert_eq!(read(&raw).unwrap().entries, [two]);
    // Written anew while it was on its way, an entry stands there twice.
    raw.extend(Frame::Kept(two).write(&MetricNames::default()));
    assert_eq!(read(&raw).unwrap().entries, [two]);
    raw.extend(Frame::Done(two.place()).write(&MetricNames::default()));
    let found = read(&raw).unwrap();
    assert_eq!((found.entries, found.length), (vec![], None));
}

/// Wherever a write was torn off, what was whole before it is read, and nothing is taken for a loss.
#[test]
fn a_torn_end_is_left_out() {
    let all: Vec<Entry> = (0..3).map(settled).collect();
    let raw = whole(all.iter());
    let frame = (raw.len() - HEADER.len()) / 3;
    for length in 0..raw.len() {
        let found = read(&raw[..length]).unwrap();
        let whole = length.saturating_sub(HEADER.len()) / frame;
        assert_eq!(found.entries, all[..whole], "{length}");
        assert_eq!(found.lost, 0, "{length}");
        let is_whole = length >= HEADER.len() && (length - HEADER.len()).is_multiple_of(frame);
        assert_eq!(found.length.is_some(), is_whole, "{length}");
    }
}

/// Damage costs the frame it is in, and is counted.
#[test]
fn damage_between_frames_costs_one_of_them() {
    let all: Vec<Entry> = (0..4).map(settled).collect();
    let good = whole(all.iter());
    let frame = (good.len() - HEADER.len()) / 4;
    for at in HEADER.len() + frame..HEADER.len() + 2 * frame {
        for damage in [0xFF, 1] {
            let mut raw = good.clone();
            raw[at] ^= damage;
            let found = read(&raw).unwrap();
            let expected = Found {
                entries: vec![all[0], all[2], all[3]],
                length: None,
                lost: 1,
            };
            assert_eq!(found, expected, "{at}");
        }
    }
}

#[test]
fn another_file_is_not_taken_for_a_journal() {
    assert_eq!(read(b"TGKEPT03").map(|found| found.entries), None);
    assert_eq!(read(b"PK\x03\x04").map(|found| found.entries), None);
    let scratch = Scratch::new();
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.journal(), "something else altogether").unwrap();
    let refused = Spool::open(&scratch.0, MetricNames::default(), (10, bell()))
        .err()
        .unwrap();
    assert!(
        refused.reason.contains("another version"),
        "{}",
        refused.reason
    );
    let left = fs::read_to_string(scratch.journal()).unwrap();
    assert_eq!(left, "something else altogether");
}

#[tokio::test]
async fn a_folder_keeps_what_was_not_delivered() {
    let scratch = Scratch::new();
    let all: Vec<Entry> = (0..5).map(settled).collect();
    let spool = scratch.open(10);
    for entry in &all {
        spool.keep(*entry).saved().await;
    }
    spool.keep_withdrawal((names::new_id(1), 1));
    assert!(spool.done(&all[1].place()));
    drop(spool);
    let spool = scratch.open(10);
    assert_eq!(entries(&spool), [all[0], all[2], all[3], all[4]]);
    assert_eq!(spool.len(), 4);
    drop(spool);
    let spool = scratch.open(2);
    assert_eq!((entries(&spool), spool.lost()), (all[3..].to_vec(), 2));
}

/// What was acknowledged is on disk, whatever is done to the process.
#[tokio::test]
async fn an_acknowledged_entry_is_on_disk() {
    let scratch = Scratch::new();
    let spool = scratch.open(100);
    for amount in 0..20 {
        let entry = settled(amount);
        spool.keep(entry).saved().await;
        let found = read(&fs::read(scratch.journal()).unwrap()).unwrap();
        assert_eq!(found.entries.last(), Some(&entry));
    }
}

#[tokio::test]
async fn a_journal_is_cut_off_when_all_is_delivered() {
    let scratch = Scratch::new();
    let spool = scratch.open(100);
    let all: Vec<Entry> = (0..50).map(settled).collect();
    for entry in &all {
        drop(spool.keep(*entry));
    }
    for entry in &all {
        spool.done(&entry.place());
    }
    drop(spool);
    // Its clerk has gone when the folder is free again.
    let spool = scratch.open(100);
    assert_eq!(fs::read(scratch.journal()).unwrap(), HEADER);
    assert!(spool.is_empty());
}

#[tokio::test]
async fn a_folder_is_one_stores_at_a_time() {
    let scratch = Scratch::new();
    let spool = scratch.open(10);
    let refused = Spool::open(&scratch.0, MetricNames::default(), (10, bell()))
        .err()
        .unwrap();
    assert_eq!(refused.reason, "another process uses it");
    assert_eq!(refused.folder, scratch.0);
    drop(spool);
    scratch.open(10);
}

#[test]
fn a_folder_that_cannot_be_made_is_said_to_be_so() {
    let scratch = Scratch::new();
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.0.join("file"), "").unwrap();
    let inside = scratch.0.join("file").join("folder");
    let refused = Spool::open(&inside, MetricNames::default(), (10, bell()))
        .err()
        .unwrap();
    assert!(!refused.reason.is_empty());
    assert_eq!(refused.folder, inside);
}

/// A disk in memory with so much room, as an operator sees it.
#[derive(Clone, Default)]
struct Platter(Arc<Mutex<Sectors>>);

#[derive(Default)]
struct Sectors {
    bytes: Vec<u8>,
    room: usize,
    syncs: usize,
}

impl Platter {
    fn with_room(room: usize) -> Self {
        let platter = Self::default();
        platter.0.lock().room = room;
        platter
    }

    fn found(&self) -> Vec<Entry> {
        read(&self.0.lock().bytes).unwrap().entries
    }

    fn spool(&self, most: usize) -> Spool {
        let found = read(&self.0.lock().bytes).unwrap();
        Spool::over(
            Box::new(self.clone()),
            (found, MetricNames::default()),
            (most, bell()),
        )
    }
}

impl Disk for Platter {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sectors = self.0.lock();
        let left = sectors.room.saturating_sub(sectors.bytes.len());
        let written = &bytes[..bytes.len().min(left)];
        sectors.bytes.extend_from_slice(written);
        match written.len() == bytes.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.lock().syncs += 1;
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0
            .lock()
            .bytes
            .truncate(usize::try_from(length).unwrap());
        Ok(())
    }

    fn replace(&mut self, whole: &[u8]) -> io::Result<()> {
        let mut sectors = self.0.lock();
        if whole.len() > sectors.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        sectors.bytes = whole.to_vec();
        Ok(())
    }
}

/// A full disk loses nothing while the process lives, is told of, and is caught up with when there is room.
#[tokio::test]
async fn a_full_disk_is_told_and_caught_up_with() {
    let first = settled(1);
    let length = whole([first].iter()).len();
    let platter = Platter::with_room(length + 20);
    let spool = platter.spool(10);
    spool.keep(first).saved().await;
    assert_eq!((platter.found(), spool.trouble()), (vec![first], None));
    let second = settled(2);
    spool.keep(second).saved().await;
    assert_eq!(platter.found(), [first], "the half of a line is cut off");
    let trouble = spool.trouble().unwrap();
    assert!(trouble.contains("storage"), "{trouble}");
    assert_eq!(entries(&spool), [first, second]);
    spool.done(&first.place());
    platter.0.lock().room = 1 << 20;
    while spool.trouble().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(platter.found(), [second]);
    let third = settled(3);
    spool.keep(third).saved().await;
    assert_eq!(platter.found(), [second, third]);
}

/// Ends that come together share a flush.
#[tokio::test]
async fn ends_that_come_together_share_a_flush() {
    let platter = Platter::with_room(1 << 20);
    let spool = platter.spool(1000);
    let all: Vec<Entry> = (0..500).map(settled).collect();
    let began = std::time::Instant::now();
    let kept: Vec<_> = all.iter().map(|entry| spool.keep(*entry)).collect();
    for one in kept {
        one.saved().await;
    }
    let turns = began.elapsed().as_millis() / 50 + 2;
    let syncs = platter.0.lock().syncs;
    assert!(syncs as u128 <= turns, "{syncs} flushes in {turns} turns");
    assert_eq!(platter.found(), all);
}

/// A journal that is mostly dead does not grow for ever, though something always stands in it.
#[tokio::test]
async fn a_journal_that_is_mostly_dead_is_written_anew() {
    let platter = Platter::with_room(1 << 30);
    let spool = platter.spool(1000);
    let oldest = settled(1);
    spool.keep(oldest).saved().await;
    for amount in 0..40_000 {
        let entry = settled(amount);
        drop(spool.keep(entry));
        spool.done(&entry.place());
    }
    let last = settled(9);
    spool.keep(last).saved().await;
    assert!(platter.0.lock().bytes.len() < 2 << 20);
    assert_eq!(platter.found(), [oldest, last]);
}

/// What is stated of the user's metrics goes by their names, whatever their order is at the next start.
#[tokio::test]
async fn metrics_keep_their_names_over_a_restart() {
    let names = |own: &[&str]| {
        let metrics = Metrics::with_custom(own).unwrap();
        let metric = metrics.find("images").unwrap();
        (MetricNames::of(&metrics), metric)
    };
    let scratch = Scratch::new();
    let open = |names: &MetricNames| {
        let spool = Spool::open(&scratch.0, names.clone(), (10, bell()));
        spool.unwrap()
    };
    let id = names::new_id(7);
    let settled = |amounts| Entry::end(id, (Outcome::Settled, Ending::Exactly(amounts)));
    let (before, images) = names(&["images"]);
    let more = Metrics::with_custom(["images", "minutes"]).unwrap();
    let spool = open(&before);
    spool.name_metrics(MetricNames::of(&more));
    let minutes = more.find("minutes").unwrap();
    let said = tokens(3).with(images, 7).with(minutes, 9);
    spool.keep(settled(said)).saved().await;
    drop(spool);
    let (after, images) = names(&["pages", "images"]);
    let spool = open(&after);
    assert_eq!(entries(&spool), [settled(tokens(3).with(images, 7))]);
}

/// A journal of the version before is read and written anew.
#[test]
fn an_earlier_journal_is_read() {
    let mut raw = whole([settled(5)].iter());
    raw[..8].copy_from_slice(b"TGKEPT01");
    let found = read(&raw).unwrap();
    assert_eq!(
        (found.entries.len(), found.length, found.lost),
        (1, None, 0)
    );
}
