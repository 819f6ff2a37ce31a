//! Cases as bytes: a corpus that is replayed, and random ones.
use crate::bytes::run;
use crate::strategy::config;
use crate::world::Seen;
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::Path;

/// Each file of the corpus; together they come to every outcome.
#[test]
fn the_corpus_agrees_with_the_oracle() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/corpus");
    let mut sum = Seen::default();
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be read").path();
        let bytes = std::fs::read(&path).expect("it can be read");
        sum.add(&run(&bytes).seen);
    }
    let reached = [
        sum.admitted,
        sum.denied,
        sum.never,
        sum.served,
        sum.gave_up,
        sum.overruns,
    ];
    assert!(reached.iter().all(|count| *count > 0), "{sum:?}");
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn any_bytes_agree_with_the_oracle(bytes in vec(any::<u8>(), 0..400)) {
        run(&bytes);
    }
}
