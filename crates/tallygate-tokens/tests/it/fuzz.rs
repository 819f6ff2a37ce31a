//! The fuzzers' corpora, replayed.

use tallygate_tokens::fuzz;

use crate::corpus_files;

fn replay(folder: &str, target: fn(&[u8])) {
    let files = corpus_files(folder);
    assert!(!files.is_empty(), "{folder} is empty");
    for (name, data) in files {
        eprintln!("{name}");
        target(&data);
    }
}

#[test]
fn streams() {
    replay("sse", fuzz::sse);
}

#[test]
fn answers() {
    replay("usage", fuzz::usage);
}

#[test]
fn requests() {
    replay("sizing", fuzz::sizing);
}
