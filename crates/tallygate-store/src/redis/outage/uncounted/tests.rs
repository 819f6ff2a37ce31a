//! The bounds of what is not counted.
use super::*;
use tallygate_core::Metric;

fn local(number: u64) -> Local {
    let deadline = Time::from_secs(1_000 + number);
    Local {
        held: Held {
            accounts: Vec::new(),
            parts: vec![Amounts::ZERO.with(Metric::TOKENS, 10)],
            deadline,
            name: Some(u128::from(number).to_le_bytes()),
        },
        ended: None,
        forgotten: forgotten(deadline),
    }
}

fn id(number: u64) -> ReservationId {
    ReservationId::from_bits(u128::from(number))
}

/// Those that would go first make room.
#[test]
fn there_is_a_bound_on_them() {
    let mut known = Known::default();
    let most = u64::try_from(MOST).unwrap();
    for number in 0..most + 3 {
        known.keep(id(number), local(number));
    }
    assert_eq!(known.by_id.len(), MOST);
    assert_eq!((known.by_name.len(), known.ends.len()), (MOST, MOST));
    assert!(!known.by_id.contains_key(&id(2)));
    assert!(known.by_id.contains_key(&id(3)));
}

/// Past its deadline one has expired; its receipt is kept as long as the store would keep it.
#[test]
fn deadlines_end_them_and_receipts_are_forgotten() {
    let uncounted = Uncounted::default();
    let deadline = local(0).held.deadline;
    uncounted.known.lock().keep(id(0), local(0));
    uncounted.count.store(1, Ordering::Relaxed);
    let all = (Outcome::Settled, Ending::Exactly(Amounts::ZERO));
    let Some(Err(SettleError::Standing(receipt))) = uncounted.end(id(0), all, deadline) else {
        panic!("it has expired");
    };
    assert_eq!(receipt.outcome, Outcome::Expired);
    assert_eq!(receipt.charged.get(Metric::TOKENS), 10);
    let more = (Amounts::ZERO, None);
    assert!(uncounted.extend(id(0), more, deadline).unwrap().is_err());
    assert_eq!(uncounted.open(deadline), 0);
    let mut known = uncounted.known.lock();
    known.sweep(deadline.plus(Span::from_secs(119)));
    assert_eq!(known.by_id.len(), 1);
    known.sweep(deadline.plus(Span::from_secs(120)));
    assert!(known.by_id.is_empty() && known.by_name.is_empty());
}

/// A later deadline keeps it longer.
#[test]
fn an_extension_keeps_one_longer() {
    let uncounted = Uncounted::default();
    uncounted.known.lock().keep(id(0), local(0));
    uncounted.count.store(1, Ordering::Relaxed);
    let more = (Amounts::ZERO, Some(Span::from_secs(5_000)));
    let now = Time::from_secs(900);
    let extended = uncounted.extend(id(0), more, now);
    assert!(matches!(extended, Some(Ok(Extended::Granted { .. }))));
    uncounted.known.lock().sweep(Time::from_secs(2_000));
    assert_eq!(uncounted.open(Time::from_secs(5_899)), 1);
    assert_eq!(uncounted.open(Time::from_secs(5_900)), 0);
}
