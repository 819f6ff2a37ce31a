//! What a process that is gone has left: recorded once, as it ended, by whichever comes to it first.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tallygate_core::{Admission, Amounts, Decision, Metrics, Policy, Receipt, ReservationId, Time};
use tallygate_store::usage::{
    Memo, MemosFor, Method, Outcome, Query, Record, Report, Shelf, ShelfError,
};
use tallygate_store::{
    BoxFuture, Clock, MemoryOptions, MemoryStore, Reserve, SettleError, SettledBy, Settlement,
    Store, WaitsFor,
};

use super::{Entry, Kept, LedgerLog, Promise, Recorder, Reserved, Subject, recorder};
use crate::config::Config;

/// Outlives its processes.
struct Lasting {
    finders: MemosFor,
    memos: Mutex<BTreeMap<ReservationId, (Time, Vec<u8>)>>,
    records: Mutex<Vec<Record>>,
}

impl Shelf for Lasting {
    fn append<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>> {
        self.append_ends(records, &[])
    }

    fn append_ends<'a>(
        &'a self,
        records: &'a [Record],
        ended: &'a [ReservationId],
    ) -> BoxFuture<'a, Result<(), ShelfError>> {
        self.records.lock().extend_from_slice(records);
        self.memos.lock().retain(|id, _| !ended.contains(id));
        Box::pin(ready(Ok(())))
    }

    fn answer<'a>(&'a self, _: &'a Query) -> BoxFuture<'a, Result<Report, ShelfError>> {
        Box::pin(ready(Ok(Report::default())))
    }

    fn drop_before(&self, _: u64) -> BoxFuture<'_, Result<(), ShelfError>> {
        Box::pin(ready(Ok(())))
    }

    fn memos_for(&self) -> MemosFor {
        self.finders
    }

    fn keep_memo<'a>(&'a self, memo: &'a Memo) -> BoxFuture<'a, Result<(), ShelfError>> {
        let mut memos = self.memos.lock();
        let kept = memos.entry(memo.id);
        kept.or_insert_with(|| (memo.expires_at, memo.bytes.clone()));
        Box::pin(ready(Ok(())))
    }

    fn renew_memo<'a>(&'a self, memo: &'a Memo) -> BoxFuture<'a, Result<(), ShelfError>> {
        if let Some(kept) = self.memos.lock().get_mut(&memo.id) {
            *kept = (memo.expires_at, memo.bytes.clone());
        }
        Box::pin(ready(Ok(())))
    }

    fn find_memo(&self, id: ReservationId) -> BoxFuture<'_, Result<Option<Vec<u8>>, ShelfError>> {
        let found = self.memos.lock().get(&id).map(|(_, bytes)| bytes.clone());
        Box::pin(ready(Ok(found)))
    }

    fn take_memo(&self, id: ReservationId) -> BoxFuture<'_, Result<Option<Vec<u8>>, ShelfError>> {
        let taken = self.memos.lock().remove(&id).map(|(_, bytes)| bytes);
        Box::pin(ready(Ok(taken)))
    }

    fn memos(&self) -> Vec<Memo> {
        let left = self.memos.lock().clone().into_iter();
        let memo = |(id, (expires_at, bytes))| Memo {
            id,
            expires_at,
            bytes,
        };
        left.map(memo).collect()
    }

    fn overdue_memos(
        &self,
        before: Time,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<ReservationId>, ShelfError>> {
        let memos = self.memos.lock();
        let overdue = memos.iter().filter(|(_, (deadline, _))| *deadline < before);
        let overdue = overdue.map(|(id, _)| *id).take(most).collect();
        Box::pin(ready(Ok(overdue)))
    }
}

struct Silent;

impl LedgerLog for Silent {
    fn kept(&self, _: u64) {}
    fn lost(&self, _: u64) {}
    fn shelf_turned(&self, _: Option<&ShelfError>) {}
}

const TTL: Duration = Duration::from_secs(10);

/// A store and a shelf, and who comes to them.
struct World {
    shelf: Arc<Lasting>,
    clock: Clock,
    store: Arc<MemoryStore>,
    config: Config,
}

impl World {
    fn new(finders: MemosFor) -> Self {
        let clock = Clock::manual(Time::from_secs(1_790_000_000));
        let options = MemoryOptions {
            clock: clock.clone(),
            ..MemoryOptions::default()
        };
        let policy = Policy::new(Vec::new(), Metrics::default()).expect("no rules");
        Self {
            shelf: Arc::new(Lasting {
                finders,
                memos: Mutex::default(),
                records: Mutex::default(),
            }),
            clock,
            store: MemoryStore::new(&policy, options),
            config: Config::parse("limits: []", "left.yaml", &|_| None).expect("a good file"),
        }
    }

    /// A process that begins now.
    fn process(&self) -> Arc<Recorder> {
        let kept = Kept {
            shelf: Arc::clone(&self.shelf) as Arc<dyn Shelf>,
            promise: Promise::Nothing,
            keep: Duration::from_secs(86_400),
        };
        let (recorder, writer) = recorder(Some(kept), Arc::new(Silent));
        recorder.resume(&self.config);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        tokio::spawn(async move {
            let _stop = stop;
            writer.expect("a ledger").run(store, stopped).await;
        });
        recorder
    }

    async fn admitted(&self) -> Admission {
        let ask = Reserve {
            subject: &[("tenant", "acme")],
            demand: Amounts::call(90, 10),
            ttl: TTL,
            max_wait: Duration::ZERO,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        match self.store.reserve(ask).await {
            Ok(Decision::Admit(admission)) => admission,
            other => panic!("{other:?}"),
        }
    }

    /// A reservation of a process that goes then.
    async fn left(&self) -> ReservationId {
        let (admission, gone) = (self.admitted().await, self.process());
        gone.reserved(&admission, self.entry()).await;
        admission.id
    }

    fn entry(&self) -> Entry {
        let subject = Subject::of(&[("tenant", "acme"), ("model", "gpt-4o")], "gpt-4o");
        let reserved = Reserved {
            at: self.store.now(),
            amounts: Amounts::call(90, 10),
            waited: Duration::ZERO,
        };
        Entry::new(subject, &reserved)
    }

    async fn settle(&self, id: ReservationId) -> Receipt {
        let used = Settlement::Exact(Amounts::call(50, 10));
        self.store.settle(id, used).await.expect("it is open")
    }

    async fn expired(&self, id: ReservationId) -> Receipt {
        match self.store.cancel(id).await {
            Err(SettleError::Standing(receipt)) => *receipt,
            other => panic!("{other:?}"),
        }
    }

    async fn sweep(&self, recorder: &Recorder) {
        recorder.sweep(&*self.store, &self.config).await;
    }

    /// What is recorded once all has been kept: outcome, method and tokens of each call.
    async fn records(&self) -> Vec<(Outcome, Method, u64)> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let records = self.shelf.records.lock();
        let said = |record: &Record| {
            assert_eq!(record.labels.get("tenant"), Some("acme"));
            assert_eq!((&*record.call.model, record.held), ("gpt-4o", 100));
            let tokens = record.used.input + record.used.output;
            (record.call.outcome, record.call.method, tokens)
        };
        records.iter().map(said).collect()
    }
}

const EXPIRED: (Outcome, Method, u64) = (Outcome::Expired, Method::Kept, 100);
const SETTLED: (Outcome, Method, u64) = (Outcome::Settled, Method::Exact, 60);

#[tokio::test(start_paused = true)]
async fn what_expired_with_its_node_is_recorded_by_one_of_the_others() {
    let world = World::new(MemosFor::OtherNodes);
    world.left().await;
    let (one, other) = (world.process(), world.process());
    world.clock.pass(TTL + Duration::from_secs(59));
    world.sweep(&one).await;
    assert_eq!(world.records().await, [], "its own node may be late");
    world.clock.pass(Duration::from_secs(2));
    tokio::join!(world.sweep(&one), world.sweep(&other));
    world.sweep(&one).await;
    assert_eq!(world.records().await, [EXPIRED]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_to_end_it_and_who_sweeps_record_it_once() {
    for is_late_first in [true, false] {
        let world = World::new(MemosFor::OtherNodes);
        let id = world.left().await;
        let (one, other) = (world.process(), world.process());
        world.clock.pass(TTL + Duration::from_secs(61));
        let receipt = world.expired(id).await;
        if !is_late_first {
            world.sweep(&other).await;
        }
        one.late(id, &receipt, &world.config).await;
        world.sweep(&other).await;
        one.late(id, &receipt, &world.config).await;
        assert_eq!(world.records().await, [EXPIRED]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_whose_node_died_before_its_record_is_recorded() {
    let world = World::new(MemosFor::OtherNodes);
    world.settle(world.left().await).await;
    // Of this one the record was kept.
    let (kept, gone) = (world.admitted().await, world.process());
    gone.reserved(&kept, world.entry()).await;
    let receipt = world.settle(kept.id).await;
    gone.record_end(kept.id, super::ends::of_receipt(world.entry(), &receipt));
    assert_eq!(world.records().await, [SETTLED]);
    world.clock.pass(TTL + Duration::from_secs(61));
    let other = world.process();
    world.sweep(&other).await;
    world.sweep(&other).await;
    assert_eq!(world.records().await, [SETTLED, SETTLED]);
}

#[tokio::test(start_paused = true)]
async fn what_stands_longer_than_its_memo_says_is_left_standing() {
    let world = World::new(MemosFor::OtherNodes);
    let id = world.left().await;
    let more = world.store.extend(id, Amounts::ZERO, Some(TTL * 100)).await;
    assert!(more.is_ok());
    let other = world.process();
    world.clock.pass(TTL + Duration::from_secs(61));
    world.sweep(&other).await;
    assert_eq!(world.records().await, []);
    world.clock.pass(TTL * 100);
    world.sweep(&other).await;
    assert_eq!(world.records().await, [EXPIRED]);
}

/// A store forgets receipts after a while: then what was held counts as used.
#[tokio::test(start_paused = true)]
async fn what_nobody_was_there_to_record_is_recorded_when_somebody_comes() {
    for finders in [MemosFor::OtherNodes, MemosFor::NextProcess] {
        let world = World::new(finders);
        world.left().await;
        world.clock.pass(Duration::from_secs(86_400));
        world.store.tick();
        let later = world.process();
        world.sweep(&later).await;
        later.record_expired(&*world.store).await;
        assert_eq!(world.records().await, [EXPIRED]);
    }
}

/// A call of the gateway has a memo once it has lasted for a moment, and until its record is kept.
#[tokio::test(start_paused = true)]
async fn a_call_that_lasts_has_a_memo_until_it_has_its_record() {
    let world = World::new(MemosFor::NextProcess);
    let (long, short) = (world.admitted().await, world.admitted().await);
    let gone = world.process();
    for admission in [&long, &short] {
        let stands = (admission.id, admission.expires_at);
        gone.opened(stands, || world.entry());
    }
    let receipt = world.settle(short.id).await;
    let record = || super::ends::of_receipt(world.entry(), &receipt);
    gone.record_end(short.id, record());
    assert_eq!(world.records().await, [SETTLED]);
    let left: Vec<_> = world.shelf.memos().iter().map(|memo| memo.id).collect();
    assert_eq!(left, [long.id]);
    gone.record_end(long.id, record());
    assert_eq!(world.records().await, [SETTLED, SETTLED]);
    assert!(world.shelf.memos().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_next_process_records_what_ended_unseen_at_once_and_the_rest_in_its_time() {
    let world = World::new(MemosFor::NextProcess);
    world.settle(world.left().await).await;
    world.left().await;
    let repeated = world.left().await;
    world.settle(repeated).await;
    // Lost with the last moments of that process: nobody was charged for it.
    let lost = world.left().await;
    let (_, memo) = world.shelf.memos.lock().remove(&lost).expect("it is left");
    let unknown = ReservationId::from_bits(7);
    let stands = world.store.now().plus(TTL.into());
    world.shelf.memos.lock().insert(unknown, (stands, memo));

    let next = world.process();
    // Whoever was not answered asks once more, maybe before it was looked at.
    for _ in 0..2 {
        let receipt = world.settle(repeated).await;
        assert!(receipt.is_repeat());
        next.left(repeated, &receipt);
    }
    next.record_expired(&*world.store).await;
    next.left(repeated, &world.settle(repeated).await);
    assert_eq!(world.records().await, [SETTLED, SETTLED]);
    world.clock.pass(TTL + Duration::from_secs(1));
    next.record_expired(&*world.store).await;
    next.record_expired(&*world.store).await;
    assert_eq!(world.records().await, [SETTLED, SETTLED, EXPIRED]);
    let after = world.process();
    after.record_expired(&*world.store).await;
    assert_eq!(world.records().await.len(), 3);
}
