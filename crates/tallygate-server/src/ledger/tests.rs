//! The task that keeps records, with a shelf that comes and goes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::poll_immediate;
use parking_lot::Mutex;
use tallygate_core::{Bounds, Metrics, Policy};
use tallygate_store::usage::{Query, Record, Report, Shelf, ShelfError};
use tallygate_store::{BoxFuture, Durability, MemoryOptions, MemoryStore, Store};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::recorder::MOST_QUEUED;
use super::{Kept, LedgerLog, Promise, Recorder, recorder};

/// Keeps the times of records, unless it is full.
#[derive(Default)]
struct Fickle {
    kept: Mutex<Vec<u64>>,
    writes: AtomicU64,
    is_full: AtomicBool,
    /// Locked while it gets nowhere.
    slow: Arc<tokio::sync::Mutex<()>>,
}

impl Shelf for Fickle {
    fn append<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(async move {
            let _turn = self.slow.lock().await;
            self.writes.fetch_add(1, Ordering::SeqCst);
            if self.is_full.load(Ordering::SeqCst) {
                return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
            }
            self.kept
                .lock()
                .extend(records.iter().map(|record| record.time));
            Ok(())
        })
    }

    fn answer<'a>(&'a self, _: &'a Query) -> BoxFuture<'a, Result<Report, ShelfError>> {
        Box::pin(async { Ok(Report::default()) })
    }

    fn drop_before(&self, _: u64) -> BoxFuture<'_, Result<(), ShelfError>> {
        Box::pin(async { Ok(()) })
    }
}

#[derive(Default)]
struct Told {
    kept: AtomicU64,
    lost: AtomicU64,
    turns: Mutex<Vec<bool>>,
}

impl LedgerLog for Told {
    fn kept(&self, records: u64) {
        self.kept.fetch_add(records, Ordering::SeqCst);
    }

    fn lost(&self, records: u64) {
        self.lost.fetch_add(records, Ordering::SeqCst);
    }

    fn shelf_turned(&self, trouble: Option<&ShelfError>) {
        self.turns.lock().push(trouble.is_none());
    }
}

struct World {
    shelf: Arc<Fickle>,
    told: Arc<Told>,
    recorder: Arc<Recorder>,
    stop: oneshot::Sender<()>,
    writing: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        Self::at(Promise::Nothing)
    }

    fn at(promise: Promise) -> Self {
        let (shelf, told) = (Arc::<Fickle>::default(), Arc::<Told>::default());
        let kept = Kept {
            shelf: Arc::clone(&shelf) as Arc<dyn Shelf>,
            promise,
            keep: Duration::from_secs(86_400),
        };
        let (recorder, writer) = recorder(Some(kept), Arc::clone(&told) as Arc<dyn LedgerLog>);
        let policy = Policy::new(Vec::new(), Metrics::default()).expect("no rules");
        let options = MemoryOptions {
            bounds: Bounds::default(),
            ..MemoryOptions::default()
        };
        let store: Arc<dyn Store> = MemoryStore::new(&policy, options);
        let (stop, stopped) = oneshot::channel();
        let writing = tokio::spawn(writer.expect("a ledger").run(store, stopped));
        Self {
            shelf,
            told,
            recorder,
            stop,
            writing,
        }
    }

    fn record(&self, times: std::ops::Range<u64>) {
        for time in times {
            self.recorder.record(Record {
                time,
                ..Record::default()
            });
        }
    }

    fn kept(&self) -> Vec<u64> {
        self.shelf.kept.lock().clone()
    }

    async fn stopped(self) -> Vec<u64> {
        let _ = self.stop.send(());
        self.writing.await.expect("no panic");
        let kept = self.shelf.kept.lock();
        kept.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_kept_in_a_moment_and_in_order() {
    for (promise, moment) in [
        (Promise::Nothing, 250),
        (Promise::Folder(Durability::Relaxed), 50),
        (Promise::Folder(Durability::Sync), 50),
    ] {
        let world = World::at(promise);
        world.record(0..10);
        tokio::time::sleep(Duration::from_millis(moment - 10)).await;
        assert!(world.kept().is_empty(), "they wait for others");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(world.kept(), Vec::from_iter(0..10));
        world.record(10..20_000);
        assert_eq!(world.stopped().await, Vec::from_iter(0..20_000));
    }
}

/// Whether an answer is given though nothing more is kept.
async fn is_answered(world: &World) -> bool {
    let answer = pin!(world.recorder.safe());
    poll_immediate(answer).await.is_some()
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_its_record_as_the_folder_promises() {
    for promise in [Promise::Nothing, Promise::Folder(Durability::Relaxed)] {
        let world = World::at(promise);
        world.record(0..1);
        assert!(is_answered(&world).await, "{promise:?}");
    }
    let world = World::at(Promise::Folder(Durability::Sync));
    assert!(is_answered(&world).await, "there is nothing to keep");
    world.record(0..5);
    assert!(!is_answered(&world).await);
    world.recorder.safe().await;
    assert_eq!(world.kept(), Vec::from_iter(0..5));
    assert!(is_answered(&world).await);
}

/// A disk that is slow lets answers wait, as the counters do.
#[tokio::test(start_paused = true)]
async fn no_answer_leaves_an_old_record_behind() {
    let world = World::at(Promise::Folder(Durability::Relaxed));
    let stuck = world.shelf.slow.clone().lock_owned().await;
    world.record(0..1);
    tokio::time::sleep(Duration::from_millis(89)).await;
    world.record(1..2);
    assert!(is_answered(&world).await);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(!is_answered(&world).await);
    drop(stuck);
    world.recorder.safe().await;
    assert_eq!(world.kept(), [0, 1]);
    assert!(is_answered(&world).await);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_shelf_that_takes_nothing() {
    let world = World::at(Promise::Folder(Durability::Sync));
    world.shelf.is_full.store(true, Ordering::SeqCst);
    world.record(0..5);
    let asked = tokio::time::Instant::now();
    world.recorder.safe().await;
    world.record(5..30_000);
    world.recorder.safe().await;
    assert_eq!(asked.elapsed(), Duration::ZERO);
    world.shelf.is_full.store(false, Ordering::SeqCst);
    // It is tried again after a while, and then there is somebody to wait for.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.stopped().await, Vec::from_iter(0..30_000));
}

/// Those who wait at one time share a write.
#[tokio::test(start_paused = true)]
async fn answers_that_wait_share_a_write() {
    let world = World::at(Promise::Folder(Durability::Sync));
    let stuck = world.shelf.slow.clone().lock_owned().await;
    let mut answers = JoinSet::new();
    for time in 0..1_000 {
        world.record(time..time + 1);
        let recorder = Arc::clone(&world.recorder);
        answers.spawn(async move { recorder.safe().await });
        tokio::task::yield_now().await;
    }
    drop(stuck);
    answers.join_all().await;
    assert_eq!(world.kept(), Vec::from_iter(0..1_000));
    assert!(world.shelf.writes.load(Ordering::SeqCst) <= 3);
}

#[tokio::test(start_paused = true)]
async fn a_question_is_asked_after_what_came_before_it_is_kept() {
    let world = World::new();
    world.record(0..5);
    let answer = world.recorder.answer(&Query::default()).await;
    assert!(matches!(answer, Some(Ok(_))));
    assert_eq!(world.kept(), Vec::from_iter(0..5));
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_is_lost_and_told_and_the_rest_is_kept_once() {
    let world = World::new();
    world.shelf.is_full.store(true, Ordering::SeqCst);
    world.record(0..10);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*world.told.turns.lock(), [false], "told once");
    // Some are gathered, and the queue takes its bound.
    for _ in 0..20 {
        world.record(10..10_010);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let lost = world.told.lost.load(Ordering::SeqCst);
    assert!(lost > 200_000 - MOST_QUEUED as u64 - 10_000, "{lost}");
    world.shelf.is_full.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*world.told.turns.lock(), [false, true]);
    assert_eq!(world.kept().len() as u64, 200_010 - lost);
    assert_eq!(world.told.kept.load(Ordering::SeqCst), 200_010 - lost);
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_a_full_disk_tells_what_is_lost() {
    let world = World::new();
    world.shelf.is_full.store(true, Ordering::SeqCst);
    world.record(0..30_000);
    let told = Arc::clone(&world.told);
    assert!(world.stopped().await.is_empty());
    assert_eq!(told.lost.load(Ordering::SeqCst), 30_000);
}
