//! The registry in a data folder, on a disk that fails.
use super::{Place, at, conforms, create, hash, log, make, noted, revoke};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tallygate_store::BoxFuture;
use tallygate_store::folder::{DataFolder, Faulty, Files, Purpose, Trouble};
use tallygate_store::registry::{
    AUDIT_KEPT, ChangeError, FolderRegistry, Records, Registry, RegistryError, Stamp,
};

/// Each registry on a disk of its own; a restart is a power failure.
#[derive(Default)]
struct Disks {
    seed: AtomicU64,
    /// The disk of the registry that was opened last.
    latest: Mutex<Faulty>,
}

impl Disks {
    fn latest(&self) -> MutexGuard<'_, Faulty> {
        self.latest.lock().expect("nobody panicked")
    }
}

fn open(disk: &Faulty) -> Result<Arc<FolderRegistry>, RegistryError> {
    let files = Box::new(disk.clone());
    let folder = DataFolder::over(Path::new("data"), files, Purpose::Own).expect("a folder");
    FolderRegistry::open(folder)
}

impl Place for Disks {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Registry>> {
        Box::pin(async {
            let disk = Faulty::new();
            *self.latest() = disk.clone();
            open(&disk).expect("a registry") as Arc<dyn Registry>
        })
    }

    fn another<'a>(&'a self, _: &'a Arc<dyn Registry>) -> BoxFuture<'a, Option<Arc<dyn Registry>>> {
        Box::pin(async { None })
    }

    fn again<'a>(&'a self, _: Arc<dyn Registry>) -> BoxFuture<'a, Option<Arc<dyn Registry>>> {
        Box::pin(async {
            let seed = self.seed.fetch_add(1, Ordering::SeqCst);
            let disk = self.latest().power_loss(seed);
            Some(open(&disk).expect("a registry") as Arc<dyn Registry>)
        })
    }
}

#[tokio::test]
async fn the_registry_in_a_folder_conforms_and_lasts() {
    conforms(&Disks::default()).await;
}

async fn records(registry: &Arc<dyn Registry>) -> Arc<Records> {
    registry.load().await.expect("records")
}

#[tokio::test]
async fn nothing_that_was_answered_is_missing_after_any_loss_of_power() {
    for seed in 0..40 {
        let mut disk = Faulty::new();
        for turn in 1..5 {
            let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
            let before = make(&registry, create(&format!("k{turn}")), 10).await;
            disk = disk.power_loss(seed * 5 + turn);
            let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
            assert_eq!(records(&registry).await, before, "seed {seed}");
            let seqs: Vec<u64> = log(&registry).await.iter().map(|entry| entry.seq).collect();
            assert_eq!(seqs, (1..=turn).rev().collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_disk_that_takes_nothing_refuses_changes_and_loses_none() {
    for trouble in [Trouble::Full(0), Trouble::ReadOnly, Trouble::Unsynced] {
        let disk = Faulty::new();
        let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
        let before = make(&registry, create("alice"), 10).await;
        disk.suffer(Some(trouble));
        let author = at(11);
        let refused = registry.change(revoke("alice"), &author).await;
        assert!(
            matches!(refused, Err(ChangeError::Registry(RegistryError::Down(_)))),
            "{trouble:?}: {refused:?}"
        );
        assert_eq!(records(&registry).await, before);
        disk.suffer(None);
        let after = make(&registry, revoke("alice"), 12).await;
        assert_eq!(
            after.key("alice").expect("a key").revoked,
            Some(Stamp::from_millis(12))
        );
        let disk = disk.power_loss(1);
        let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
        assert_eq!(records(&registry).await, after);
        assert_eq!(log(&registry).await.len(), 2);
    }
}

/// Whatever fits: neither, the records alone, or the line of the log too. What was answered is there with its entry, also after a
/// loss of power before anything else is done.
#[tokio::test]
async fn a_change_and_its_entry_are_one_wherever_the_disk_is_full() {
    let mut outcomes = [0, 0, 0];
    for room in (0..1_200).step_by(5) {
        let disk = Faulty::new();
        let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
        make(&registry, create("alice"), 10).await;
        let written = lines(&disk);
        disk.suffer(Some(Trouble::Full(room)));
        let author = at(11);
        let made = registry.change(create("bob"), &author).await.is_ok();
        let line = lines(&disk) > written;
        outcomes[usize::from(made) + usize::from(line)] += 1;
        let before = records(&registry).await;
        assert_eq!(before.key("bob").is_some(), made);
        let disk = disk.power_loss(room as u64);
        let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
        assert_eq!(records(&registry).await, before, "room for {room}");
        let seqs: Vec<u64> = log(&registry).await.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs.len(), before.keys().count(), "room for {room}");
    }
    assert!(outcomes.iter().all(|count| *count > 2), "{outcomes:?}");
}

#[tokio::test]
async fn the_log_in_a_folder_keeps_the_latest_and_is_no_more_than_twice_as_long() {
    let disk = Faulty::new();
    let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
    assert_eq!(noted(&registry, AUDIT_KEPT * 2).await, (10_001, 20_000));
    assert_eq!(lines(&disk), AUDIT_KEPT * 2);
    assert_eq!(noted(&registry, 1).await, (10_002, 20_001));
    assert_eq!(lines(&disk), AUDIT_KEPT);
    let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
    assert_eq!(noted(&registry, 1).await, (10_003, 20_002));
}

fn lines(disk: &Faulty) -> usize {
    let log = disk.read("audit.jsonl").expect("a log");
    log.iter().filter(|byte| **byte == b'\n').count()
}

#[tokio::test]
async fn a_torn_or_damaged_line_of_the_log_takes_no_other_with_it() {
    let disk = Faulty::new();
    let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
    for id in ["a", "b", "c"] {
        make(&registry, create(id), 10).await;
    }
    let whole = disk.read("audit.jsonl").expect("a log");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let damaged = [lines[0], b"damage\n", lines[2], b"{\"seq\": 9, torn"].concat();
    disk.damage("audit.jsonl", &damaged);
    let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
    let seqs: Vec<u64> = log(&registry).await.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [3, 1]);
    make(&registry, create("d"), 11).await;
    let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
    let seqs: Vec<u64> = log(&registry).await.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [4, 3, 1]);
}

#[tokio::test]
async fn what_another_version_or_nobody_wrote_is_refused_with_its_mend() {
    for (text, mend) in [
        (r#"{"format":3,"keyring":[]}"#, "later version"),
        ("{\"format\":1,", "bring the folder back from a copy"),
        (
            r#"{"format":1,"records":{"version":"x"}}"#,
            "bring the folder back from a copy",
        ),
        (
            r#"{"format":0,"records":{"version":0,"keys":{},"overrides":{}},"last":null}"#,
            "its format is 0",
        ),
        (
            r#"{"format":2,"crc32":"00000000","kept":{"records":{"version":0,"keys":{},"overrides":{}},"last":null}}"#,
            "its checksum is another",
        ),
        (
            r#"{"format":1,"records":{"version":1,"keys":{"root":{"id":"root","hash":"sha256:Zz","roles":["admin"],"created":0,"by":"local"}},"overrides":{}},"last":null}"#,
            "the key `root` has no hash that can be read",
        ),
        ("", "bring the folder back from a copy"),
    ] {
        let disk = Faulty::new();
        drop(open(&disk).expect("a registry"));
        disk.damage("registry.json", text.as_bytes());
        let refused = open(&disk).expect_err("it is refused").to_string();
        assert!(
            refused.contains(mend) && refused.contains("registry.json"),
            "{refused}"
        );
    }
}

/// Whichever bit is another one, nobody is let in or kept out by it.
#[tokio::test]
async fn no_bit_changes_without_being_seen() {
    let disk = Faulty::new();
    let registry: Arc<dyn Registry> = open(&disk).expect("a registry");
    make(&registry, create("alice"), 10).await;
    let whole = disk.read("registry.json").expect("it was written");
    for at in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        disk.damage("registry.json", &flipped);
        let refused = open(&disk).err();
        assert!(
            matches!(refused, Some(RegistryError::Damaged(_))),
            "bit {at}: {}",
            String::from_utf8_lossy(&flipped)
        );
    }
    disk.damage("registry.json", &whole);
    let again: Arc<dyn Registry> = open(&disk).expect("as it was written");
    assert_eq!(records(&again).await, records(&registry).await);
}

/// Without its file a registry that had keys is not one that never had any: everybody would be let in.
#[tokio::test]
async fn a_registry_that_is_missing_is_missed() {
    let disk = Faulty::new();
    drop(open(&disk).expect("a fresh one"));
    let registry: Arc<dyn Registry> = open(&disk).expect("nothing was changed yet");
    make(&registry, create("alice"), 10).await;
    disk.remove("registry.json").expect("it is there");
    let refused = open(&disk).expect_err("it is refused").to_string();
    for said in ["registry.json is missing", "move both files away"] {
        assert!(refused.contains(said), "{refused}");
    }
    disk.remove("audit.jsonl").expect("it is there");
    drop(open(&disk).expect("all keys are to be made anew"));
}

/// What the version before wrote, without a checksum, is read, and written with one at the next change.
#[tokio::test]
async fn an_earlier_registry_is_read() {
    let disk = Faulty::new();
    let hash = hash("root");
    let earlier = format!(
        r#"{{"format":1,"records":{{"version":1,"keys":{{"root":{{"id":"root","hash":"{hash}","roles":["admin"],"created":0,"by":"local"}}}},"overrides":{{}}}},"last":null}}"#
    );
    disk.damage("registry.json", earlier.as_bytes());
    let files = Box::new(disk.clone());
    disk.damage("FORMAT", b"tallygate 1\n");
    let folder = DataFolder::over(Path::new("data"), files, Purpose::Own).expect("a folder");
    let registry: Arc<dyn Registry> = FolderRegistry::open(folder).expect("it is read");
    make(&registry, create("alice"), 10).await;
    let text = disk.read("registry.json").expect("it was written");
    assert!(text.starts_with(b"{\"format\":2,\"crc32\":"));
    let again: Arc<dyn Registry> = open(&disk).expect("it is read");
    assert_eq!(records(&again).await.keys().count(), 2);
}
