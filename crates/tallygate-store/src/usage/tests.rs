//! Records read back as they were written, and sums that equal those made the simple way.
mod draw;
mod folder;
mod memos;
mod oracle;
mod redis;

use super::*;
use draw::Draw;
use jiff::tz::TimeZone;

#[test]
fn a_block_gives_back_what_it_was_made_of() {
    for seed in 0..200 {
        let mut draw = Draw::new(seed);
        let count = 1 + draw.below(300);
        let mut records = draw.records(count);
        let block = Block::of(&records).expect("a block");
        records.sort_by_key(|record| record.time);
        let (view, length) = BlockView::read(block.bytes()).expect("readable");
        assert_eq!(length, block.bytes().len());
        assert_eq!(view.to_records(), Ok(records), "seed {seed}");
    }
}

#[test]
fn a_block_has_at_least_one_record_and_a_bound() {
    assert_eq!(Block::of(&[]), None);
    let many = vec![Record::default(); MAX_RECORDS + 1];
    assert_eq!(Block::of(&many), None);
    assert!(Block::of(&many[..MAX_RECORDS]).is_some());
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let block = Block::of(&Draw::new(7).records(20)).expect("a block");
    let bytes = block.bytes();
    for length in 0..bytes.len() {
        assert_eq!(
            BlockView::read(&bytes[..length]).err(),
            Some(BlockError::Short)
        );
    }
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(BlockView::read(&bytes).is_err(), "bit {bit}");
    }
}

/// Bytes with a right checksum that are no block: read or refused, never a panic or much memory.
#[test]
fn whatever_the_payload_says_it_is_read_or_refused() {
    let block = Block::of(&Draw::new(11).records(50)).expect("a block");
    let payload = &block.bytes()[block::HEAD..];
    let mut refused = 0;
    for seed in 0..2_000 {
        let mut draw = Draw::new(seed);
        let mut payload = payload.to_vec();
        for _ in 0..=draw.below(3) {
            let place = draw.below(payload.len());
            payload[place] = draw.below(256).to_le_bytes()[0];
        }
        let frame = framed(&payload);
        let query = Query {
            by: vec![
                Dimension::Model,
                Dimension::Label("user".to_owned()),
                Dimension::Day,
            ],
            ..Query::default()
        };
        let read = BlockView::read(&frame).and_then(|(view, _)| {
            Tally::new(&query).add(&view)?;
            view.to_records()
        });
        refused += usize::from(read.is_err());
    }
    assert!(refused > 100, "{refused} refused");
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    let crc = crc32fast::hash(payload);
    [
        &block::MAGIC[..],
        &length.to_le_bytes(),
        &crc.to_le_bytes(),
        payload,
    ]
    .concat()
}

#[test]
fn a_later_version_is_told_from_damage() {
    assert_eq!(
        BlockView::read(&framed(&[2, 0])).err(),
        Some(BlockError::Newer(2))
    );
}

#[tokio::test]
async fn sums_equal_those_made_the_simple_way() {
    for seed in 0..60 {
        let mut draw = Draw::new(seed);
        let count = draw.below(400);
        let records = draw.records(count);
        let shelf = MemoryShelf::default();
        for piece in records.chunks(1 + draw.below(100)) {
            shelf.append(piece).await.expect("memory");
        }
        for _ in 0..5 {
            let query = draw.query();
            let report = shelf.answer(&query).await.expect("an answer");
            assert_eq!(
                report,
                oracle::answer(&records, &query),
                "seed {seed}: {query:?}"
            );
        }
    }
}

#[test]
fn parts_merge_to_the_whole() {
    for seed in 0..200 {
        let mut draw = Draw::new(seed);
        let records = draw.records(300);
        let query = draw.query();
        let mut parts = (Tally::new(&query), Tally::new(&query));
        for (at, piece) in records.chunks(40).enumerate() {
            let block = Block::of(piece).expect("a block");
            let part = if at % 2 == 0 {
                &mut parts.0
            } else {
                &mut parts.1
            };
            part.add(&block.view()).expect("sound");
        }
        parts.0.merge(&parts.1);
        assert_eq!(
            parts.0.finish(),
            oracle::answer(&records, &query),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn memory_keeps_the_latest_that_fit() {
    let shelf = MemoryShelf::new(1 << 20);
    let mut draw = Draw::new(3);
    for hour in 0..40 {
        let mut records = draw.records(16_384);
        records
            .iter_mut()
            .for_each(|record| record.time = hour * 3_600_000);
        shelf.append(&records).await.expect("memory");
    }
    let query = Query {
        by: vec![Dimension::Hour],
        ..Query::default()
    };
    let report = shelf.answer(&query).await.expect("an answer");
    let hours: Vec<&str> = report.rows.iter().map(|row| &*row.key[0]).collect();
    assert!((1..40).contains(&hours.len()), "{hours:?}");
    assert_eq!(hours.last(), Some(&"1970-01-02T15:00+00:00"));
    shelf.drop_before(39 * 3_600_000).await.expect("memory");
    let report = shelf.answer(&query).await.expect("an answer");
    assert_eq!(report.rows.len(), 1);
}

#[test]
fn rows_have_a_bound_and_the_totals_have_not() {
    let query = Query {
        by: vec![Dimension::Label("user".to_owned())],
        ..Query::default()
    };
    let mut tally = Tally::new(&query);
    let user = |number: usize| Record {
        labels: Labels::new([("user", &*number.to_string())]),
        ..Record::default()
    };
    for piece in 0..3 {
        let records: Vec<Record> = (0..50_000).map(|at| user(piece * 50_000 + at)).collect();
        let block = Block::of(&records).expect("a block");
        tally.add(&block.view()).expect("sound");
    }
    let report = tally.finish();
    assert_eq!(report.rows.len(), MAX_ROWS);
    assert_eq!((report.totals.calls, report.without_row), (150_000, 50_000));
}

#[test]
fn days_are_those_of_the_zone() {
    // Clocks are set back on 2026-10-25 in Berlin: that day has 25 hours.
    let zone = TimeZone::get("Europe/Berlin").expect("known");
    let at = |text: &str| {
        let time: jiff::Timestamp = text.parse().expect("a time");
        u64::try_from(time.as_millisecond()).expect("after 1970")
    };
    let name = |dimension, text| period::Period::of(&dimension, at(text), &zone).name;
    assert_eq!(name(Dimension::Day, "2026-10-24T22:00:00Z"), "2026-10-25");
    assert_eq!(
        name(Dimension::Day, "2026-10-25T22:59:59.999Z"),
        "2026-10-25"
    );
    assert_eq!(name(Dimension::Day, "2026-10-25T23:00:00Z"), "2026-10-26");
    assert_eq!(
        name(Dimension::Hour, "2026-10-25T00:30:00Z"),
        "2026-10-25T02:00+02:00"
    );
    assert_eq!(
        name(Dimension::Hour, "2026-10-25T01:30:00Z"),
        "2026-10-25T02:00+01:00"
    );
    assert_eq!(name(Dimension::Week, "2026-10-25T12:00:00Z"), "2026-W43");
    assert_eq!(name(Dimension::Month, "2026-10-31T22:59:59Z"), "2026-10");
    assert_eq!(name(Dimension::Month, "2026-10-31T23:00:00Z"), "2026-11");
    let day = period::Period::of(&Dimension::Day, at("2026-10-25T12:00:00Z"), &zone);
    assert_eq!(day.span.end - day.span.start, 25 * 3_600_000);
}

/// A million calls of a busy day, of ten thousand users in a hundred tenants.
#[test]
fn a_record_takes_less_than_thirty_bytes() {
    let records = draw::busy_day(1 << 16);
    let block = Block::of(&records).expect("a block");
    let each = block.bytes().len() / records.len();
    assert!((10..30).contains(&each), "{each} bytes a record");
}
