//! The task that keeps records, with a shelf that comes and goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tallygate_core::{Bounds, Metrics, Policy};
use tallygate_store::usage::{Query, Record, Report, Shelf, ShelfError};
use tallygate_store::{BoxFuture, MemoryOptions, MemoryStore, Store};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::recorder::MOST_QUEUED;
use super::{LedgerLog, Recorder, recorder};

/// Keeps the times of records, unless it is full.
#[derive(Default)]
struct Fickle {
    kept: Mutex<Vec<u64>>,
    is_full: AtomicBool,
}

impl Shelf for Fickle {
    fn append<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(async move {
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
        let (shelf, told) = (Arc::<Fickle>::default(), Arc::<Told>::default());
        let kept = (
            Arc::clone(&shelf) as Arc<dyn Shelf>,
            Duration::from_secs(86_400),
        );
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
async fn records_are_kept_within_a_second_and_in_order() {
    let world = World::new();
    world.record(0..10);
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(world.kept().is_empty());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.kept(), Vec::from_iter(0..10));
    world.record(10..20_000);
    assert_eq!(world.stopped().await, Vec::from_iter(0..20_000));
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
