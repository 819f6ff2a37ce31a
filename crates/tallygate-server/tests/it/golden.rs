//! Comparing with checked-in files. `TALLYGATE_GOLDEN=write` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of one set of files.
pub(crate) fn folder(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(set)
}

/// All files of a set that end in `extension`, in order of their names.
pub(crate) fn inputs(set: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(set)).expect("the folder is checked in");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "no .{extension} in {set}");
    paths
}

/// What differs between `actual` and the file, or nothing.
pub(crate) fn difference(path: &Path, actual: &str) -> Option<String> {
    if std::env::var("TALLYGATE_GOLDEN").is_ok_and(|mode| mode == "write") {
        fs::write(path, actual).expect("writable");
        return None;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    (expected != actual).then(|| format!("--- {}\n{expected}\n--- now\n{actual}", path.display()))
}

/// Fails with all differences at once.
pub(crate) fn all_equal(differences: Vec<String>) {
    assert!(
        differences.is_empty(),
        "{}\n(TALLYGATE_GOLDEN=write accepts them)",
        differences.join("\n")
    );
}
