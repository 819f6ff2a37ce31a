//! A disk that takes no writes for a while: what is decided then, what is said of it, and that nothing is lost.
use super::{Ground, admitted, ask, block_on, daily, tokens, until, used};
use crate::folder::{DataFolder, Purpose, Trouble};
use crate::memory::journal::{Durability, Site};
use crate::memory::{MemoryOptions, MemoryStore};
use crate::store::{SettleError, Settlement, Store, StoreError, StoreHealth};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Bounds, Outcome, StoreDown};

const TROUBLES: [Trouble; 4] = [
    Trouble::Full(0),
    Trouble::Full(30),
    Trouble::ReadOnly,
    Trouble::Unsynced,
];

fn is_down(store: &MemoryStore) -> bool {
    store.health() != StoreHealth::Up
}

/// A store whose disk has just failed, with a reservation of 40 from before.
fn troubled(
    (trouble, durability): (Trouble, Durability),
    store_down: StoreDown,
) -> (Ground, Arc<MemoryStore>, tallygate_core::ReservationId) {
    let ground = Ground::new(durability);
    let store = ground.open(&daily(100, store_down));
    let before = admitted(block_on(store.reserve(ask(40)))).id;
    block_on(store.close());
    ground.disk.suffer(Some(trouble));
    // Somebody has to write for it to be noticed.
    let noticed = admitted(store.try_reserve(&ask(10)));
    until("the trouble is noticed", || is_down(&store));
    let usage = Settlement::Exact(tokens(10));
    let ended = block_on(store.settle(noticed.id, usage));
    let outcome = Outcome::Settled;
    assert_eq!(ended, Err(SettleError::Kept { outcome }));
    (ground, store, before)
}

fn everywhere(check: impl Fn((Trouble, Durability))) {
    for trouble in TROUBLES {
        for durability in [Durability::Relaxed, Durability::Sync] {
            check((trouble, durability));
        }
    }
}

#[test]
fn closed_limits_refuse_and_ends_are_kept_and_written_when_the_disk_is_back() {
    everywhere(|what| {
        let (ground, store, before) = troubled(what, StoreDown::Closed);
        let StoreHealth::Down { reason } = store.health() else {
            panic!("{what:?}");
        };
        assert!(reason.starts_with("folder data: "), "{reason}");
        assert_eq!(
            store.health().trouble(),
            Some("the data folder cannot be written to")
        );
        match block_on(store.reserve(ask(1))) {
            Err(StoreError::Down { reason: said, .. }) => assert_eq!(said, reason),
            other => panic!("{what:?}: {other:?}"),
        }
        let extended = block_on(store.extend(before, tokens(1), None));
        assert!(
            matches!(extended, Err(SettleError::Store(StoreError::Down { .. }))),
            "{extended:?}"
        );
        let ended = block_on(store.cancel(before));
        let outcome = Outcome::Cancelled;
        assert_eq!(ended, Err(SettleError::Kept { outcome }));
        assert_eq!(used(&store), 10, "it counts at once");
        assert_eq!(
            (store.outage().kept, store.outage().unsaved),
            (2, Some(reason))
        );
        ground.disk.suffer(None);
        until("the disk is back", || !is_down(&store));
        let stats = store.outage();
        assert_eq!(
            (stats.kept, stats.settled, stats.cancelled, stats.unsaved),
            (0, 1, 1, None)
        );
        assert_eq!((stats.charged, stats.returned), (tokens(10), tokens(40)));
        admitted(block_on(store.reserve(ask(5))));
        block_on(store.close());
        let after = ground.with(ground.disk.power_loss(1));
        assert_eq!(
            used(&after.open(&daily(100, StoreDown::Closed))),
            15,
            "{what:?}"
        );
    });
}

/// Limits that are not closed go on counting: they are in this process.
#[test]
fn other_limits_go_on() {
    for store_down in [StoreDown::Open, StoreDown::Share] {
        everywhere(|what| {
            let (ground, store, before) = troubled(what, store_down);
            let held = admitted(block_on(store.reserve(ask(50))));
            assert_eq!(used(&store), 100);
            let denied = block_on(store.reserve(ask(1)));
            assert!(
                matches!(denied, Ok(tallygate_core::Decision::Deny(_))),
                "{denied:?}"
            );
            ground.disk.suffer(None);
            until("the disk is back", || !is_down(&store));
            block_on(store.settle(held.id, Settlement::Exact(tokens(20)))).unwrap();
            block_on(store.settle(before, Settlement::Exact(Amounts::ZERO))).unwrap();
            block_on(store.close());
            let after = ground.with(ground.disk.power_loss(2));
            assert_eq!(used(&after.open(&daily(100, store_down))), 30, "{what:?}");
        });
    }
}

/// A disk that fails again and again, with a loss of power in between: what was acknowledged while it was well is there.
#[test]
fn a_disk_that_comes_and_goes_loses_nothing_it_acknowledged() {
    let policy = daily(100_000, StoreDown::Closed);
    let mut ground = Ground::new(Durability::Sync);
    let mut acknowledged = 0;
    let mut kept = 0;
    for round in 0..3 {
        let store = ground.open(&policy);
        for trouble in TROUBLES {
            let held = admitted(block_on(store.reserve(ask(7))));
            acknowledged += 7;
            ground.disk.suffer(Some(trouble));
            let ended = block_on(store.settle(held.id, Settlement::Exact(tokens(9))));
            assert!(matches!(ended, Err(SettleError::Kept { .. })), "{ended:?}");
            kept += 2;
            ground.disk.suffer(None);
            until("the disk is back", || !is_down(&store));
        }
        ground = ground.with(ground.disk.power_loss(round));
        drop(store);
        let store = ground.open(&policy);
        // What was kept was written when the disk was back.
        assert_eq!(used(&store), acknowledged + kept);
        ground = ground.with(ground.disk.death());
    }
}

/// What is dropped since there was too much of it is in the state that is written instead.
#[test]
fn too_much_to_keep_is_written_as_a_whole() {
    let policy = daily(u64::from(u32::MAX), StoreDown::Open);
    let ground = Ground::new(Durability::Relaxed);
    let store = ground.open(&policy);
    admitted(store.try_reserve(&ask(1)));
    block_on(store.close());
    ground.disk.suffer(Some(Trouble::ReadOnly));
    admitted(store.try_reserve(&ask(1)));
    until("the trouble is noticed", || is_down(&store));
    store.shared.books.lock().log.as_mut().unwrap().is_overfull = true;
    for _ in 0..1000 {
        admitted(store.try_reserve(&ask(1)));
    }
    let log = store
        .shared
        .books
        .lock()
        .log
        .as_ref()
        .unwrap()
        .records
        .len();
    assert_eq!(log, 0, "no records are kept then");
    ground.disk.suffer(None);
    until("the disk is back", || !is_down(&store));
    for _ in 0..100 {
        admitted(store.try_reserve(&ask(1)));
    }
    block_on(store.close());
    let after = ground.with(ground.disk.power_loss(5));
    assert_eq!(used(&after.open(&policy)), 1102);
}

/// A folder that is moved away while it is in use is a disk that takes no writes: nothing of it is made again, and all that came
/// meanwhile is in it once it is back.
#[cfg(unix)]
#[test]
fn a_folder_that_is_moved_away_is_missed_and_not_made_again() {
    let name = format!("tallygate-moved-{:016x}", getrandom::u64().unwrap());
    let around = std::env::temp_dir().join(name);
    let (here, there) = (around.join("data"), around.join("elsewhere"));
    let policy = daily(100, StoreDown::Closed);
    let open = || {
        let folder = DataFolder::open(&here, Purpose::Own).unwrap();
        let site = Site {
            retry: Duration::from_millis(5),
            ..Site::new(folder, Bounds::default())
        };
        MemoryStore::open_at(&site, &policy, MemoryOptions::default(), Durability::Sync).unwrap()
    };
    let store = open();
    let before = admitted(block_on(store.reserve(ask(40)))).id;
    std::fs::rename(&here, &there).unwrap();
    let usage = Settlement::Exact(tokens(15));
    let outcome = Outcome::Settled;
    let kept = block_on(store.settle(before, usage));
    assert_eq!(kept, Err(SettleError::Kept { outcome }));
    let StoreHealth::Down { reason } = store.health() else {
        panic!("it is missed");
    };
    assert!(
        reason.contains("moved away while it was in use"),
        "{reason}"
    );
    let refused = block_on(store.reserve(ask(1)));
    assert!(
        matches!(refused, Err(StoreError::Down { .. })),
        "{refused:?}"
    );
    assert!(!here.exists(), "it is not made again");
    std::fs::rename(&there, &here).unwrap();
    until("the folder is back", || !is_down(&store));
    admitted(block_on(store.reserve(ask(1))));
    drop(store);
    assert_eq!(used(&open()), 16);
    std::fs::remove_dir_all(&around).unwrap();
}
