//! What a folder keeps, on a real disk and on one that fails.
use super::{DataFolder, Faulty, Files, FolderError, Purpose, Trouble};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A folder that goes with its value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("tallygate-folder-{:016x}", getrandom::u64().unwrap());
        Self(std::env::temp_dir().join(name))
    }

    fn refused(&self, purpose: Purpose) -> String {
        DataFolder::open(&self.0, purpose).unwrap_err().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What every kind of files does.
fn keeps_files(files: &dyn Files) {
    let missing = files.read("inside/file").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let mut file = files.open_append("inside/file").unwrap();
    file.write(b"one two").unwrap();
    file.sync().unwrap();
    file.truncate(4).unwrap();
    file.write(b"three").unwrap();
    assert_eq!(file.length().unwrap(), 9);
    drop(file);
    let mut file = files.open_append("inside/file").unwrap();
    file.write(b"!").unwrap();
    assert_eq!(files.read("inside/file").unwrap(), b"one three!");
    files.replace("inside/file", b"anew").unwrap();
    file.write(b"read by nobody").unwrap();
    assert_eq!(files.read("inside/file").unwrap(), b"anew");
    files.replace("beside", b"").unwrap();
    let names = files.list().unwrap();
    let ours = names
        .iter()
        .filter(|name| !["lock", "FORMAT"].contains(&name.as_str()));
    assert_eq!(ours.collect::<Vec<_>>(), ["beside", "inside/file"]);
    files.remove("beside").unwrap();
    assert_eq!(
        files.remove("beside").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn both_kinds_of_files_keep_what_is_written() {
    let scratch = Scratch::new();
    let folder = DataFolder::open(&scratch.0, Purpose::Own).unwrap();
    keeps_files(folder.files());
    keeps_files(&Faulty::new());
}

#[test]
fn a_folder_has_one_owner_and_any_number_of_readers() {
    let scratch = Scratch::new();
    let folder = DataFolder::open(&scratch.0, Purpose::Own).unwrap();
    folder.files().replace("file", b"text").unwrap();
    let refused = DataFolder::open(&scratch.0, Purpose::Own).unwrap_err();
    assert!(matches!(refused, FolderError::InUse { .. }), "{refused}");
    let reader = DataFolder::open(&scratch.0, Purpose::Read).unwrap();
    assert_eq!(reader.files().read("file").unwrap(), b"text");
    let refused = reader.files().replace("file", b"").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    drop(folder);
    DataFolder::open(&scratch.0, Purpose::Own).unwrap();
}

/// The look itself is in nobody's way, and leaves nothing behind.
#[test]
fn whether_a_folder_could_be_owned_is_seen_without_owning_it() {
    let scratch = Scratch::new();
    let deep = scratch.0.join("deep/inside");
    assert!(DataFolder::probe(&deep).unwrap().is_none());
    assert!(!scratch.0.exists());
    let folder = DataFolder::open(&deep, Purpose::Own).unwrap();
    let refused = DataFolder::probe(&deep).unwrap_err();
    assert!(matches!(refused, FolderError::InUse { .. }), "{refused}");
    drop(folder);
    let before = fs::metadata(&deep).unwrap().modified().unwrap();
    let [one, other] = [DataFolder::probe(&deep), DataFolder::probe(&deep)];
    let found = one.unwrap().expect("it is there");
    assert_eq!(found.files().list().unwrap(), ["FORMAT", "lock"]);
    DataFolder::open(&deep, Purpose::Own).unwrap();
    drop(other);
    assert_eq!(fs::metadata(&deep).unwrap().modified().unwrap(), before);
    fs::remove_file(deep.join("FORMAT")).unwrap();
    assert!(DataFolder::probe(&deep).unwrap().is_none(), "it is empty");
    fs::write(deep.join("FORMAT.new"), "tall").unwrap();
    assert!(
        DataFolder::probe(&deep).unwrap().is_none(),
        "a killed one's"
    );
    fs::write(deep.join("FORMAT"), "tallygate 2\n").unwrap();
    let refused = DataFolder::probe(&deep).unwrap_err();
    assert!(matches!(refused, FolderError::Newer { .. }), "{refused}");
    let in_a_file = DataFolder::probe(&deep.join("FORMAT/inside")).unwrap_err();
    assert!(matches!(in_a_file, FolderError::Disk { .. }), "{in_a_file}");
}

/// Whoever may do everything may write here too.
#[cfg(unix)]
#[test]
fn a_folder_that_takes_no_files_is_seen_to_take_none() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    drop(DataFolder::open(&scratch.0, Purpose::Own).unwrap());
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o500)).unwrap();
    let [found, inside] = [scratch.0.clone(), scratch.0.join("new")].map(|path| {
        let probed = DataFolder::probe(&path);
        probed.map(drop).map_err(|error| error.to_string())
    });
    let takes_files = fs::write(scratch.0.join("file"), "").is_ok();
    assert_eq!((found.is_ok(), inside.is_ok()), (takes_files, takes_files));
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
}

#[cfg(unix)]
#[test]
fn nobody_else_may_look_into_it() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let folder = DataFolder::open(&scratch.0, Purpose::Own).unwrap();
    folder.files().replace("inside/file", b"text").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scratch.0), 0o700);
    assert_eq!(mode(&scratch.0.join("inside")), 0o700);
    assert_eq!(mode(&scratch.0.join("inside/file")), 0o600);
    assert_eq!(mode(&scratch.0.join("FORMAT")), 0o600);
}

#[test]
fn folders_of_others_and_of_later_versions_are_refused() {
    let scratch = Scratch::new();
    fs::create_dir_all(&scratch.0).unwrap();
    fs::write(scratch.0.join("letter.txt"), "dear").unwrap();
    assert!(
        scratch
            .refused(Purpose::Own)
            .contains("has a file letter.txt, and none named FORMAT")
    );
    fs::write(scratch.0.join("FORMAT"), "mp3").unwrap();
    assert!(
        scratch
            .refused(Purpose::Own)
            .contains("does not begin with \"tallygate \"")
    );
    fs::write(scratch.0.join("FORMAT"), "tallygate 2\n").unwrap();
    for purpose in [Purpose::Own, Purpose::Read] {
        let refused = scratch.refused(purpose);
        assert!(
            refused.contains("has format 2, and this version reads 1"),
            "{refused}"
        );
    }
    fs::write(scratch.0.join("FORMAT"), "tallygate 1\n").unwrap();
    DataFolder::open(&scratch.0, Purpose::Own).unwrap();
}

#[test]
fn a_folder_that_is_missing_is_made_by_its_owner_alone() {
    let scratch = Scratch::new();
    assert!(scratch.refused(Purpose::Read).contains("cannot be used"));
    assert!(!scratch.0.exists());
    DataFolder::open(&scratch.0.join("deep/inside"), Purpose::Own).unwrap();
    let refused = scratch.refused(Purpose::Own);
    assert!(refused.contains("has a file deep/"), "{refused}");
}

#[test]
fn what_a_killed_process_was_writing_is_removed() {
    let scratch = Scratch::new();
    drop(DataFolder::open(&scratch.0, Purpose::Own).unwrap());
    let left = scratch.0.join("registry.json.new");
    fs::write(&left, "{\"ke").unwrap();
    let folder = DataFolder::open(&scratch.0, Purpose::Own).unwrap();
    assert_eq!(folder.files().list().unwrap(), ["FORMAT", "lock"]);
    assert!(!left.exists());
}

#[test]
fn a_disk_that_is_full_or_takes_no_writes_says_so() {
    let disk = Faulty::new();
    let mut file = disk.open_append("file").unwrap();
    disk.suffer(Some(Trouble::Full(3)));
    assert_eq!(
        file.write(b"12345").unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(disk.read("file").unwrap(), b"123", "a part is there");
    assert_eq!(
        disk.replace("file", b"1").unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    disk.suffer(Some(Trouble::ReadOnly));
    assert_eq!(
        file.write(b"4").unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
    assert_eq!(
        file.truncate(0).unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
    assert_eq!(
        disk.open_append("file").unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
    disk.suffer(Some(Trouble::Unsynced));
    file.write(b"4").unwrap();
    file.sync().unwrap_err();
    disk.suffer(None);
    file.sync().unwrap();
    assert_eq!(disk.read("file").unwrap(), b"1234");
}

/// What was synced is always found, and of the rest everything is lost by some seed and kept by another.
#[test]
fn a_loss_of_power_takes_some_of_what_was_not_synced() {
    let (mut shortest, mut longest, mut torn) = (usize::MAX, 0, 0);
    for seed in 0..500 {
        let disk = Faulty::new();
        let mut file = disk.open_append("file").unwrap();
        file.write(&[1; 100]).unwrap();
        file.sync().unwrap();
        file.write(&[2; 200]).unwrap();
        let found = disk.power_loss(seed);
        file.write(b"dead").unwrap_err();
        disk.read("file").unwrap_err();
        let bytes = found.read("file").unwrap();
        assert_eq!(bytes[..100], [1; 100]);
        assert!(bytes.len() <= 300);
        shortest = shortest.min(bytes.len());
        longest = longest.max(bytes.len());
        torn += usize::from(bytes[100..].contains(&0) && bytes[100..].contains(&2));
    }
    assert!(
        shortest < 110 && longest > 290 && torn > 100,
        "{shortest} {longest} {torn}"
    );
}

/// A folder in use, its path, and another place beside it.
#[cfg(unix)]
fn in_use() -> (Scratch, std::sync::Arc<DataFolder>, PathBuf) {
    let scratch = Scratch::new();
    fs::create_dir(&scratch.0).unwrap();
    let folder = DataFolder::open(&scratch.0.join("data"), Purpose::Own).unwrap();
    folder.files().replace("inside/file", b"kept").unwrap();
    let beside = scratch.0.join("beside");
    (scratch, folder, beside)
}

/// Nothing of a folder that is gone can be written, and it is not made again in part; put back, it goes on.
#[cfg(unix)]
#[test]
fn a_folder_that_was_moved_away_takes_no_writes_until_it_is_back() {
    for part in ["", "inside", "lock"] {
        let (scratch, folder, beside) = in_use();
        let files = folder.files();
        let mut file = files.open_append("inside/log").unwrap();
        let place = scratch.0.join("data").join(part);
        fs::rename(&place, &beside).unwrap();
        let refused = |said: std::io::Result<()>| {
            let said = said.unwrap_err().to_string();
            assert!(said.contains("moved away"), "{part}: {said}");
            assert!(!place.exists(), "{part}");
        };
        refused(files.replace("inside/file", b"lost"));
        refused(files.open_append("inside/log").map(drop));
        refused(files.remove("inside/file"));
        refused(file.write(b"lost"));
        fs::rename(&beside, &place).unwrap();
        assert_eq!(files.read("inside/file").unwrap(), b"kept", "{part}");
        file.write(b"again").unwrap();
        files.replace("inside/file", b"anew").unwrap();
        assert_eq!(files.read("inside/file").unwrap(), b"anew");
    }
}

/// What stands in the place of the folder that was opened is somebody else's.
#[cfg(unix)]
#[test]
fn a_folder_in_its_place_is_left_alone() {
    for part in ["", "inside", "lock"] {
        let (scratch, folder, beside) = in_use();
        let files = folder.files();
        let mut file = files.open_append("inside/log").unwrap();
        let place = scratch.0.join("data").join(part);
        fs::rename(&place, &beside).unwrap();
        match part {
            "lock" => fs::write(&place, "").unwrap(),
            _ => fs::create_dir(&place).unwrap(),
        }
        if part.is_empty() {
            fs::create_dir(place.join("inside")).unwrap();
            fs::write(place.join("lock"), "").unwrap();
            fs::write(place.join("inside/file"), "another").unwrap();
        }
        let refused = files.replace("inside/file", b"lost").unwrap_err();
        assert!(
            refused.to_string().contains("replaced"),
            "{part}: {refused}"
        );
        files.remove("inside/file").unwrap_err();
        file.write(b"lost").unwrap_err();
        if part.is_empty() {
            assert_eq!(fs::read(place.join("inside/file")).unwrap(), b"another");
        }
    }
}

/// A link in the place of a file that is written would lead the writing elsewhere.
#[cfg(unix)]
#[test]
fn links_are_not_written_through() {
    let (scratch, folder, victim) = in_use();
    fs::write(&victim, "of another").unwrap();
    let link = |name: &str| std::os::unix::fs::symlink(&victim, scratch.0.join("data").join(name));
    link("registry.json.new").unwrap();
    folder.files().replace("registry.json", b"ours").unwrap();
    assert_eq!(folder.files().read("registry.json").unwrap(), b"ours");
    link("audit.jsonl").unwrap();
    let refused = folder.files().open_append("audit.jsonl").unwrap_err();
    assert!(refused.to_string().contains("is a link"), "{refused}");
    assert_eq!(fs::read(&victim).unwrap(), b"of another");
}

/// Keys are kept in it: nobody else may put others there.
#[cfg(unix)]
#[test]
fn a_folder_that_everybody_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    fs::create_dir(&scratch.0).unwrap();
    let set = |mode| fs::set_permissions(&scratch.0, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o777, 0o1777, 0o702] {
        set(mode);
        let refused = DataFolder::open(&scratch.0, Purpose::Own).unwrap_err();
        assert!(matches!(refused, FolderError::Open { .. }), "{refused}");
        assert!(refused.to_string().contains("chmod o-w"), "{refused}");
    }
    assert_eq!(
        fs::read_dir(&scratch.0).unwrap().count(),
        0,
        "nothing is made there"
    );
    DataFolder::open(&scratch.0.join("inside"), Purpose::Own).unwrap();
    fs::remove_dir_all(scratch.0.join("inside")).unwrap();
    set(0o775);
    DataFolder::open(&scratch.0, Purpose::Own).unwrap();
}
