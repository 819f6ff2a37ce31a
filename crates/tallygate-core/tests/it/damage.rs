//! Saves and records that were cut, changed or made up.
use crate::op::{Case, Op};
use crate::runner::{Runner, bounds, saved};
use crate::setup::{START, SUBJECTS, amounts, policy};
use crate::strategy::{Kind, Scale, any_cases, config, rules};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::path::Path;
use tallygate_core::{
    Ask, Bounds, Decision, EndError, JournalError, Ledger, ReservationId, Span, Time, fuzz,
};

/// A save and the records after it.
type Kept = (Vec<u8>, Vec<u8>);

proptest! {
    // Each case makes as many ledgers as it has operations.
    #![proptest_config(config(15))]

    /// Whatever part of the records is there, cut between two of them, the ledger is whole: what is open ends, and then nothing is left.
    #[test]
    fn every_prefix_makes_a_whole_ledger(case in any_cases(Kind::Everything), one in any::<Index>()) {
        let mut runner = Runner::new(&case.rules);
        runner.save();
        let mut ends = vec![0];
        for op in &case.ops {
            runner.apply(op);
            let (_, records) = runner.kept.as_mut().expect("it was saved");
            runner.ledger.drain_journal(records);
            ends.push(records.len());
        }
        let (save, records) = runner.kept.expect("it was saved");
        // Within one operation each byte is tried, as it may have made several records.
        let at = one.index(ends.len() - 1);
        let within = ends[at]..ends[at + 1];
        for cut in within {
            match fuzz::reborn(&save, &records[..cut]) {
                Ok(ledger) => check_whole(ledger),
                Err(error) => prop_assert!(matches!(error, JournalError::Short(_)), "{}", error),
            }
        }
        for cut in ends {
            check_whole(fuzz::reborn(&save, &records[..cut]).expect("cut between two records"));
        }
    }
}

proptest! {
    #![proptest_config(config(60))]

    /// Changed, lost and added bytes are refused or make some other ledger, which can be used.
    #[test]
    fn damage_is_survived(
        case in any_cases(Kind::Everything),
        flips in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
        added in vec(any::<u8>(), 0..9),
    ) {
        let mut data = joined(&kept(&case, case.ops.len() / 2));
        let cut = cut.index(data.len() * 4).min(data.len());
        data.splice(cut..cut, added);
        for (at, bits) in flips {
            let at = at.index(data.len());
            data[at] ^= bits;
        }
        fuzz::ledger(&data);
        data.truncate(cut);
        fuzz::ledger(&data);
    }

    #[test]
    fn any_bytes_are_survived(data in vec(any::<u8>(), 0..300)) {
        fuzz::ledger(&data);
        prop_assert!(Ledger::load(&data, Bounds::default()).is_err());
    }

    /// The same save and the same records make the same bytes, in however many parts they are redone.
    #[test]
    fn the_same_records_make_the_same_ledger(case in any_cases(Kind::Everything), at in any::<Index>()) {
        let mut runner = Runner::new(&case.rules);
        runner.save();
        let at = at.index(case.ops.len());
        case.ops[..at].iter().for_each(|op| { runner.apply(op); });
        let (_, records) = runner.kept.as_mut().expect("it was saved");
        runner.ledger.drain_journal(records);
        let first = records.len();
        case.ops[at..].iter().for_each(|op| { runner.apply(op); });
        let whole = saved(&runner.reborn());
        let (save, records) = runner.kept.expect("it was saved");
        let mut parts = Ledger::load(&save, bounds()).expect("it was saved");
        parts.redo(&records[..first]).expect("cut between two records");
        let mut parts = Ledger::load(&saved(&parts), bounds()).expect("it was saved");
        parts.redo(&records[first..]).expect("they follow");
        prop_assert_eq!(saved(&parts), whole);
    }

    /// Records apply once and in their order.
    #[test]
    fn records_that_do_not_follow_are_refused(rules in rules(&Scale::real())) {
        let mut ledger = Ledger::new(&policy(&rules), Bounds::default(), [5, 6]);
        ledger.advance(START);
        let save = saved(&ledger);
        ledger.keep_journal();
        let parts = [1, 2].map(|second| {
            admit(&mut ledger, START.plus(Span::from_secs(second)));
            drained(&mut ledger)
        });
        let [first, second] = &parts;
        let is_stray = |error| matches!(error, JournalError::Stray { .. });
        let mut again = fuzz::reborn(&save, first).expect("it follows");
        prop_assert!(again.redo(first).is_err_and(is_stray));
        prop_assert!(fuzz::reborn(&save, second).is_err_and(is_stray));
    }

    /// What was told to a caller and then lost names nothing that is made later.
    #[test]
    fn a_lost_name_is_not_given_again(rules in rules(&Scale::real())) {
        let mut ledger = Ledger::new(&policy(&rules), Bounds::default(), [5, 6]);
        let save = saved(&ledger);
        let lost = admit(&mut ledger, START);
        let mut ledger = fuzz::reborn(&save, &[]).expect("it was saved");
        ledger.keep_journal();
        ledger.name_anew([7, 8]);
        let made = admit(&mut ledger, START);
        prop_assert_ne!(lost, made);
        prop_assert_eq!(ledger.cancel(lost, START), Err(EndError::Unknown));
        // The secret is among the records.
        let mut ledger = fuzz::reborn(&save, &drained(&mut ledger)).expect("they follow");
        let mut again = fuzz::reborn(&saved(&ledger), &[]).expect("it was saved");
        let next = admit(&mut ledger, START);
        prop_assert_eq!(admit(&mut again, START), next);
        prop_assert!(ledger.cancel(made, START).is_ok());
        prop_assert!(ledger.cancel(next, START).is_ok());
    }
}

/// Saves and records of version 1, which every later build reads, and what fuzzers found.
#[test]
fn the_corpus_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/ledger");
    let mut whole = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("it can be read").path();
        let data = std::fs::read(&path).expect("it can be read");
        fuzz::ledger(&data);
        if path.to_string_lossy().contains("version-1") {
            let (length, rest) = data.split_first_chunk().expect("its length");
            let (save, records) = rest.split_at(usize::from(u16::from_le_bytes(*length)));
            let ledger = fuzz::reborn(save, records).expect("version 1 is read");
            whole += ledger.open();
        }
    }
    assert!(whole > 0, "nothing is open in any of them");
}

#[test]
fn a_newer_version_is_named() {
    let mut save = saved(&Ledger::new(&policy(&[]), Bounds::default(), [5, 6]));
    let mut ledger = fuzz::reborn(&save, &[]).expect("it was saved");
    assert_eq!(ledger.redo(&[0, 3]), Err(JournalError::Version(3)));
    save[0] = 3;
    assert_eq!(
        fuzz::reborn(&save, &[]).err(),
        Some(JournalError::Version(3))
    );
}

/// Whether a ledger is the one that is read back, its reservations end, and nothing is left then.
fn check_whole(mut ledger: Ledger) {
    let save = saved(&ledger);
    let again = fuzz::reborn(&save, &[]).expect("it was saved");
    assert_eq!(saved(&again), save);
    assert_eq!(ledger.open(), again.open());
    while let Some(next) = ledger.next_event() {
        ledger.advance(next);
    }
    assert_eq!(ledger.open(), 0, "a reservation without a deadline");
    let late = Time::from_secs(500 * 366 * 86_400);
    for subject in &SUBJECTS {
        let keys = ledger.resolve(subject);
        let standings = ledger.peek(&keys, late);
        assert!(
            standings.iter().all(|standing| standing.used == 0),
            "{standings:?}"
        );
    }
    for _ in 0..64 * 3 {
        ledger.sweep(late);
    }
    assert_eq!(ledger.counters(), 0, "a counter that nobody knows of");
}

/// A save amid the operations of a case, and the records after it.
fn kept(case: &Case, at: usize) -> Kept {
    let mut runner = Runner::after(&case.rules, &case.ops[..at]);
    runner.save();
    for op in &case.ops[at..] {
        runner.apply(op);
    }
    runner.apply(&Op::Sweep);
    let (save, mut records) = runner.kept.expect("it was saved");
    runner.ledger.drain_journal(&mut records);
    (save, records)
}

/// As [`fuzz::ledger`] reads it.
fn joined((save, records): &Kept) -> Vec<u8> {
    let length = u16::try_from(save.len()).expect("a small case");
    [&length.to_le_bytes(), &save[..], records].concat()
}

fn admit(ledger: &mut Ledger, now: Time) -> ReservationId {
    let keys = ledger.resolve(&SUBJECTS[0]);
    let ask = Ask {
        keys: &keys,
        demand: &amounts([0, 0, 0]),
        ttl: Span::from_secs(60),
        idempotency: None,
    };
    match ledger.reserve(&ask, now) {
        Ok(Decision::Admit(admission)) => admission.id,
        other => panic!("nothing fits: {other:?}"),
    }
}

fn drained(ledger: &mut Ledger) -> Vec<u8> {
    let mut records = Vec::new();
    ledger.drain_journal(&mut records);
    records
}
