//! The crate's tests from outside.

mod call;
mod counting;
mod framing;
mod fuzz;
mod output;
mod sse;
mod streams;
mod usage;

/// A file of the corpora, which are golden files as well.
fn corpus(name: &str) -> Vec<u8> {
    let path = format!("{}/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files of a corpus, with their names.
fn corpus_files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let path = format!("{}/corpus/{folder}", env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a readable folder").path();
            let file = std::fs::read(&path).expect("a readable file");
            (path.display().to_string(), file)
        })
        .collect();
    files.sort();
    files
}
