//! Folders that cannot be used: damaged, or of a later version.
use super::super::{Durability, OpenError, format};
use super::{Ground, admitted, ask, block_on, daily, used};
use crate::folder::Files;
use crate::store::{Settlement, Store};
use tallygate_core::{Policy, StoreDown};

fn policy() -> Policy {
    daily(100_000, StoreDown::Closed)
}

/// A folder with a state and one segment of some synced frames, and the segment's name.
fn written() -> (Ground, String) {
    let ground = Ground::new(Durability::Sync);
    let store = ground.open(&policy());
    for _ in 0..4 {
        admitted(block_on(store.reserve(ask(10))));
    }
    let after = ground.with(ground.disk.death());
    (after, format::segment_name(1))
}

/// The same folder once more, with one byte of a file changed.
fn with_damage(written: &Ground, name: &str, at: usize) -> Result<u64, OpenError> {
    let copy = Ground::new(Durability::Sync);
    for file in written.disk.list().unwrap() {
        let mut bytes = written.disk.read(&file).unwrap();
        if file == name {
            bytes[at] ^= 0x40;
        }
        copy.disk.damage(&file, &bytes);
    }
    copy.try_open(&policy()).map(|store| used(&store))
}

/// Any byte that is changed is noticed. In the last frame it cannot be told from a write that was torn off, which loses that
/// frame and no more; anywhere before it is refused, with the place and what to do.
#[test]
fn damage_is_refused_with_its_place_and_mend() {
    let (ground, name) = written();
    let length = ground.disk.read(&name).unwrap().len();
    let last = last_frame(&ground, &name);
    for at in 0..length {
        match with_damage(&ground, &name, at) {
            Ok(found) => {
                assert!(at >= last, "byte {at} of {length} was changed");
                assert_eq!(found, 30, "the last frame alone is lost");
            }
            Err(error) => {
                let said = error.to_string();
                assert!(at < last, "{at}: {said}");
                assert!(
                    said.starts_with("data/counters/000000000001.journal is damaged at byte"),
                    "{said}"
                );
                assert!(
                    said.contains("backup") && said.contains("move its `counters` away"),
                    "{said}"
                );
            }
        }
    }
}

/// Where the last frame begins.
fn last_frame(ground: &Ground, name: &str) -> usize {
    let bytes = ground.disk.read(name).unwrap();
    let marks = bytes.windows(4).enumerate();
    marks
        .filter(|(_, mark)| mark == b"TGFR")
        .map(|(at, _)| at)
        .next_back()
        .unwrap()
}

#[test]
fn a_damaged_state_is_refused() {
    let name = format::state_name(1);
    let (ground, _) = written();
    let length = ground.disk.read(&name).unwrap().len();
    for at in 0..length {
        let error = with_damage(&ground, &name, at).unwrap_err().to_string();
        assert!(error.contains("000000000001.state is damaged"), "{error}");
    }
}

#[test]
fn a_file_that_is_missing_is_told() {
    let (ground, name) = written();
    drop(ground.open(&policy()));
    ground.disk.remove(&name).unwrap();
    let after = ground.with(ground.disk.death());
    let error = after.try_open(&policy()).unwrap_err().to_string();
    assert!(
        error.contains("000000000001.journal") && error.contains("missing"),
        "{error}"
    );
    after.disk.remove(&format::state_name(1)).unwrap();
    let error = after.try_open(&policy()).unwrap_err().to_string();
    assert!(
        error.contains(".state is damaged") && error.contains("missing"),
        "{error}"
    );
}

#[test]
fn what_a_later_version_wrote_is_refused() {
    let (ground, _) = written();
    let later = format::state(1, &[9, 1, 2, 3]);
    ground.disk.damage(&format::state_name(1), &later);
    let error = ground.try_open(&policy()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { .. }), "{error}");
    assert!(
        error.to_string().contains("written by a later version"),
        "{error}"
    );
}

/// Bytes that were never written are refused or cut off, whatever they are: there is no panic.
#[test]
fn arbitrary_bytes_are_no_journal() {
    for seed in 0_u8..200 {
        let (ground, name) = written();
        let mut bytes = ground.disk.read(&name).unwrap();
        let from = usize::from(seed) % bytes.len();
        for (at, byte) in bytes[from..].iter_mut().enumerate() {
            *byte = byte.rotate_left(u32::from(seed)).wrapping_mul(seed)
                ^ u8::try_from(at % 256).unwrap();
        }
        ground.disk.damage(&name, &bytes);
        if let Ok(store) = ground.try_open(&policy()) {
            assert!(used(&store) <= 40);
            block_on(store.settle(
                admitted(store.try_reserve(&ask(1))).id,
                Settlement::Exact(super::tokens(1)),
            ))
            .unwrap();
        }
    }
}
