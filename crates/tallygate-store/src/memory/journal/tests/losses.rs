//! Losses of power at random moments, under load from several threads: what was acknowledged is there.
use super::{ALICE, Ground, ask, block_on, daily, tokens, used};
use crate::memory::MemoryStore;
use crate::memory::journal::Durability;
use crate::store::{Reserve, SettleError, Settlement, Store};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Extended, Receipt, ReservationId, StoreDown};

const LIMIT: u64 = 40_000;
const WORKERS: u64 = 4;
const LARGEST: u64 = 40;

/// What a reservation's caller was told of it last.
#[derive(Debug, Clone)]
enum Told {
    Holds(Amounts),
    Settled(Receipt),
    Cancelled(Receipt),
    /// Nothing certain: it was asked for something, and no good answer came.
    Unclear,
}

/// What callers were told, by id; and by idempotency key.
#[derive(Debug, Default)]
struct Notes {
    told: BTreeMap<u128, Told>,
    names: BTreeMap<String, ReservationId>,
    /// Asks for new reservations without an answer.
    unanswered: u64,
}

impl Notes {
    fn join(&mut self, other: Self) {
        self.told.extend(other.told);
        self.names.extend(other.names);
        self.unanswered += other.unanswered;
    }

    /// The least and the most that can be taken by now.
    fn bounds(&self) -> (u64, u64) {
        let (mut least, mut most) = (0, self.unanswered * LARGEST);
        for told in self.told.values() {
            let (low, high) = match told {
                Told::Holds(amounts) => (total(amounts), total(amounts)),
                Told::Settled(receipt) | Told::Cancelled(receipt) => {
                    (total(&receipt.charged), total(&receipt.charged))
                }
                Told::Unclear => (0, 3 * LARGEST),
            };
            least += low;
            most += high;
        }
        (least, most)
    }
}

fn total(amounts: &Amounts) -> u64 {
    amounts.get(tallygate_core::Metric::TOKENS)
}

/// A caller that reserves and ends until something fails.
struct Caller<'a> {
    store: &'a MemoryStore,
    /// Counts the steps of all callers, so that the moment of the loss can be chosen.
    steps: &'a AtomicU64,
    name: String,
    dice: u64,
    notes: Notes,
}

impl Caller<'_> {
    fn roll(&mut self, end: u64) -> u64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % end
    }

    async fn work(mut self) -> Notes {
        for number in 0.. {
            if self.call(number).await.is_none() {
                break;
            }
            self.steps.fetch_add(1, Ordering::SeqCst);
        }
        self.notes
    }

    /// One reservation from its beginning to its end, or not to its end; nothing once something failed.
    async fn call(&mut self, number: u64) -> Option<()> {
        let key = format!("{}-{number}", self.name);
        let named = Reserve {
            idempotency_key: Some(&key),
            ..ask(1 + self.roll(LARGEST))
        };
        let admission = match self.store.reserve(named).await {
            Ok(Decision::Admit(admission)) => admission,
            // The limit is reached.
            Ok(_) => return None,
            Err(_) => {
                self.notes.unanswered += 1;
                return None;
            }
        };
        let id = admission.id;
        self.notes.names.insert(key, id);
        self.note(id, Told::Holds(admission.reserved));
        match self.roll(5) {
            0 => Some(()),
            1 => {
                self.note(id, Told::Unclear);
                let ended = self.store.cancel(id).await.ok()?;
                self.note(id, Told::Cancelled(ended));
                Some(())
            }
            2 => {
                self.note(id, Told::Unclear);
                let more = tokens(1 + self.roll(LARGEST));
                let extended = self.store.extend(id, more, None).await.ok()?;
                if let Extended::Granted { reserved, .. } = extended {
                    self.note(id, Told::Holds(reserved));
                }
                Some(())
            }
            _ => {
                self.note(id, Told::Unclear);
                let usage = Settlement::Exact(tokens(self.roll(LARGEST)));
                let ended = self.store.settle(id, usage).await.ok()?;
                self.note(id, Told::Settled(ended));
                Some(())
            }
        }
    }

    fn note(&mut self, id: ReservationId, told: Told) {
        self.notes.told.insert(id.bits(), told);
    }
}

/// Lets callers work until `steps` of them are done, and then cuts the power.
fn storm(ground: &Ground, store: &MemoryStore, seed: u64) -> (Notes, Ground) {
    let steps = AtomicU64::new(0);
    let last = 1 + seed % 23;
    thread::scope(|scope| {
        let callers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let caller = Caller {
                    store,
                    steps: &steps,
                    name: format!("{seed}-{number}"),
                    dice: seed * WORKERS + number,
                    notes: Notes::default(),
                };
                scope.spawn(move || block_on(caller.work()))
            })
            .collect();
        while steps.load(Ordering::SeqCst) < last && callers.iter().any(|one| !one.is_finished()) {
            thread::yield_now();
        }
        let after = match seed % 3 {
            0 => ground.with(ground.disk.death()),
            _ => ground.with(ground.disk.power_loss(seed)),
        };
        let mut notes = Notes::default();
        for caller in callers {
            notes.join(caller.join().unwrap());
        }
        (notes, after)
    })
}

/// All that callers were told is so.
async fn look(store: &MemoryStore, notes: &Notes) {
    let (least, most) = notes.bounds();
    let found = used(store);
    assert!(
        least <= found && found <= most,
        "{least} <= {found} <= {most}"
    );
    assert!(found <= LIMIT);
    for (key, id) in &notes.names {
        let again = Reserve {
            idempotency_key: Some(key),
            ..ask(1)
        };
        match store.reserve(again).await {
            Ok(Decision::Admit(admission)) => assert_eq!(admission.id, *id),
            other => panic!("{key} is forgotten: {other:?}"),
        }
    }
    for (bits, told) in &notes.told {
        let id = ReservationId::from_bits(*bits);
        match told {
            Told::Settled(receipt) => {
                let again = store.settle(id, Settlement::Exact(tokens(1))).await;
                assert_eq!(again.as_ref(), Ok(receipt));
            }
            Told::Cancelled(receipt) => assert_eq!(store.cancel(id).await.as_ref(), Ok(receipt)),
            Told::Holds(amounts) => {
                let more = store.extend(id, Amounts::ZERO, None).await;
                let Ok(Extended::Granted { reserved, .. }) = more else {
                    panic!("{id} is not open: {more:?}");
                };
                assert_eq!(reserved, *amounts);
            }
            Told::Unclear => {}
        }
    }
}

/// Ends what is open, so that the limit lasts for many rounds, and learns what became of what is unclear.
async fn clear(store: &MemoryStore, notes: &mut Notes) {
    for (bits, told) in &mut notes.told {
        let id = ReservationId::from_bits(*bits);
        if let Told::Holds(_) | Told::Unclear = told {
            *told = match store.settle(id, Settlement::Exact(tokens(1))).await {
                Ok(receipt) => Told::Settled(receipt),
                Err(SettleError::Standing(receipt)) => Told::Cancelled(*receipt),
                other => panic!("{id} was told of: {other:?}"),
            };
        }
    }
}

/// `sync`: whatever of the unsynced is lost, nothing that was answered is, over many losses in a row.
#[test]
fn nothing_acknowledged_is_lost() {
    let policy = daily(LIMIT, StoreDown::Closed);
    for lineage in 0..8 {
        let mut ground = Ground::new(Durability::Sync);
        let mut all = Notes::default();
        for round in 0..10 {
            let store = ground.open(&policy);
            block_on(look(&store, &all));
            block_on(clear(&store, &mut all));
            let (notes, after) = storm(&ground, &store, lineage * 1_000 + round);
            all.join(notes);
            drop(store);
            ground = after;
        }
        let store = ground.open(&policy);
        block_on(look(&store, &all));
        let states = crate::folder::Files::list(&ground.disk).unwrap();
        let state = states.iter().find(|name| name.ends_with(".state"));
        assert_ne!(
            state.unwrap(),
            "counters/000000000001.state",
            "one was made since"
        );
    }
}

/// `relaxed`: what is older than the bound is there, and the rest is a beginning of what was done, in its order.
#[test]
fn what_is_lost_is_the_end() {
    let policy = daily(LIMIT, StoreDown::Closed);
    let mut all_known = true;
    for seed in 0..20 {
        let ground = Ground::new(Durability::Relaxed);
        let store = ground.open(&policy);
        let mut ids = Vec::new();
        let many = |store: &MemoryStore, ids: &mut Vec<ReservationId>| {
            for _ in 0..50 {
                let admission = super::admitted(store.try_reserve(&ask(1)));
                ids.push(admission.id);
            }
        };
        many(&store, &mut ids);
        block_on(store.close());
        many(&store, &mut ids);
        if seed % 2 == 0 {
            // The clerk writes by itself, within its time.
            let syncs = ground.disk.syncs();
            super::until("a sync by itself", || ground.disk.syncs() > syncs);
        }
        let store = ground.with(ground.disk.power_loss(seed)).open(&policy);
        // An id that was lost is not given to another.
        let mut later = Vec::new();
        many(&store, &mut later);
        assert!(!ids.iter().any(|id| later.contains(id)));
        let usage = Settlement::Exact(tokens(1));
        let known = ids
            .iter()
            .take_while(|id| store.settle_now(**id, usage).is_ok());
        let known = known.count();
        assert!(known >= 50, "{known}");
        all_known &= known == ids.len();
        assert_eq!(used(&store), (known + later.len()) as u64);
        let lost = &ids[known..];
        assert!(lost.iter().all(|id| store.settle_now(*id, usage).is_err()));
    }
    assert!(!all_known, "something was lost");
}

/// What a killed process had written and not synced is read by the next one, whose own changes rest on it: so it lasts as they do.
#[test]
fn what_is_rested_on_lasts() {
    let policy = daily(100, StoreDown::Closed);
    for seed in 0..20 {
        let ground = Ground::new(Durability::Sync);
        let store = ground.open(&policy);
        super::admitted(block_on(store.reserve(ask(5))));
        ground.disk.hold_syncs();
        super::admitted(store.try_reserve(&ask(30)));
        super::until("it is written", || ground.disk.held() > 0);
        let next = ground.with(ground.disk.death());
        let store = next.open(&policy);
        assert_eq!(used(&store), 35);
        super::admitted(block_on(store.reserve(ask(10))));
        let last = next.with(next.disk.power_loss(seed));
        assert_eq!(used(&last.open(&policy)), 45);
    }
}

/// A caller that leaves before his admission is on disk holds nothing.
#[test]
fn who_leaves_before_it_is_written_holds_nothing() {
    let ground = Ground::new(Durability::Sync);
    let store = ground.open(&daily(100, StoreDown::Closed));
    ground.disk.hold_syncs();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async {
        let left = tokio::time::timeout(Duration::from_millis(5), store.reserve(ask(60)));
        assert!(
            left.await.is_err(),
            "nothing is answered before it is synced"
        );
    });
    assert_eq!((used(&store), store.stats().reservations), (0, 0));
    // Who is refused need not wait for the disk.
    let denied = block_on(store.reserve(ask(101)));
    assert!(matches!(denied, Ok(Decision::Never(_))), "{denied:?}");
    assert_eq!(store.peek_now(ALICE)[0].remaining, 100);
    ground.disk.release();
    super::admitted(block_on(store.reserve(ask(100))));
}

/// Nor is a repeat told of what is not on disk yet.
#[test]
fn a_repeat_waits_for_what_it_repeats() {
    let ground = Ground::new(Durability::Sync);
    let store = ground.open(&daily(100, StoreDown::Closed));
    let named = Reserve {
        idempotency_key: Some("once"),
        ..ask(60)
    };
    let held = super::admitted(block_on(store.reserve(named)));
    ground.disk.hold_syncs();
    let usage = Settlement::Exact(tokens(30));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    runtime.unwrap().block_on(async {
        let moment = Duration::from_millis(5);
        for _ in 0..2 {
            let settled = tokio::time::timeout(moment, store.settle(held.id, usage));
            assert!(
                settled.await.is_err(),
                "nothing is answered before it is synced"
            );
        }
        let again = tokio::time::timeout(moment, store.reserve(named));
        assert!(
            again.await.is_err(),
            "it would tell that the first one has ended"
        );
    });
    ground.disk.release();
    let receipt = block_on(store.settle(held.id, usage)).unwrap();
    assert_eq!(
        receipt.charged,
        tokens(30),
        "a dropped future was carried out"
    );
}
