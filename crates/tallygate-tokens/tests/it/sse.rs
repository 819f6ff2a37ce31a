//! Events are the same however the stream is cut.

use proptest::prelude::*;
use tallygate_tokens::{MAX_EVENT, SseSplitter};

use crate::{corpus, corpus_files};

type Events = Vec<(Option<String>, Vec<u8>)>;

fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Events {
    let mut splitter = SseSplitter::new();
    let mut found = Vec::new();
    for chunk in chunks {
        for event in splitter.push(chunk) {
            found.push((event.event.map(str::to_owned), event.data.to_vec()));
        }
    }
    if let Some(event) = splitter.finish() {
        found.push((event.event.map(str::to_owned), event.data.to_vec()));
    }
    found
}

#[test]
fn fields_are_read_as_the_standard_says() {
    let found = events([&*corpus("sse/fields.sse")]);
    let expected: [(Option<&str>, &str); 4] = [
        (Some("a"), "\ntwo\n three"),
        (None, "last"),
        (Some("é"), "x"),
        (None, "unended"),
    ];
    let found: Vec<_> = found
        .iter()
        .map(|(name, data)| (name.as_deref(), std::str::from_utf8(data).unwrap()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_complete_event_is_not_held_back() {
    for end in ["\n\n", "\r\n\r\n", "\r\r", "\r\n\r", "\n\r"] {
        let mut splitter = SseSplitter::new();
        let text = format!("data: x{end}");
        assert_eq!(splitter.push(text.as_bytes()).count(), 1, "{end:?}");
    }
}

#[test]
fn every_cut_in_two_gives_the_same_events() {
    for (name, stream) in corpus_files("sse") {
        let whole = events([&*stream]);
        for at in 0..=stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(events([head, tail]), whole, "{name} cut at {at}");
        }
        assert_eq!(events(stream.chunks(1)), whole, "{name} byte by byte");
    }
}

#[test]
fn an_event_too_large_is_skipped_and_the_next_one_read() {
    for end in ["\n", "\r\n", "\r"] {
        let mut splitter = SseSplitter::new();
        let block = vec![b'x'; 1 << 20];
        assert_eq!(splitter.push(b"data: ").count(), 0);
        for _ in 0..=MAX_EVENT >> 20 {
            assert_eq!(splitter.push(&block).count(), 0);
        }
        let rest = format!("{end}data: more{end}{end}data: next{end}{end}");
        let next: Vec<_> = splitter
            .push(rest.as_bytes())
            .map(|e| e.data.to_vec())
            .collect();
        assert_eq!(next, [b"next"], "{end:?}");
        assert_eq!(splitter.oversized(), 1);
    }
}

#[test]
fn an_event_at_the_bound_is_read() {
    let mut splitter = SseSplitter::new();
    let data = vec![b'x'; MAX_EVENT - "data: \n\n".len()];
    for (extra, expected) in [("", Some(data.len())), ("x", None)] {
        assert_eq!(splitter.push(b"data: ").count(), 0);
        assert_eq!(splitter.push(extra.as_bytes()).count(), 0);
        assert_eq!(splitter.push(&data).count(), 0);
        let length = splitter.push(b"\n\n").next().map(|event| event.data.len());
        assert_eq!(length, expected);
    }
}

/// Pieces that stress line ends, fields and boundaries.
fn fragment() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        b"\n".as_slice(),
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data: x",
        b"data:",
        b"data",
        b"event: e",
        b": c",
        b"\xEF\xBB\xBF",
        b"\xC3\xA9",
        b"\xFF",
        b"id",
    ])
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        fragments in prop::collection::vec(fragment(), 0..40),
        step in 1_usize..9,
    ) {
        let stream = fragments.concat();
        prop_assert_eq!(events(stream.chunks(step)), events([&*stream]));
    }
}
