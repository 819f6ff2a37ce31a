//! What ends with the process that made it.
use crate::setup::{Form, LimitSpec, RuleSpec, SUBJECTS, amounts, policy};
use tallygate_core::{
    Ask, Bounds, Decision, EndError, Extended, JournalError, Ledger, Metric, Mode, Outcome,
    ReservationId, Span, Time, Used,
};

const NOW: Time = Time::from_secs(1_000_000);

fn rules() -> Vec<RuleSpec> {
    let limit = |metric, amount, form| LimitSpec {
        metric,
        amount,
        form,
    };
    let every = 86_400_000_000_000;
    let bucket = Form::Bucket { every, burst: 100 };
    vec![RuleSpec {
        number: 0,
        per: &["user"],
        tier: None,
        limits: vec![
            limit(Metric::TOKENS, 100, bucket),
            limit(Metric::CONCURRENCY, 5, Form::Gauge),
        ],
        mode: Mode::Enforce,
    }]
}

/// A ledger and what was saved of it first.
struct Kept {
    ledger: Ledger,
    save: Vec<u8>,
}

impl Kept {
    fn new() -> Self {
        let mut ledger = Ledger::new(&policy(&rules()), Bounds::default(), [1, 2]);
        ledger.advance(NOW);
        let mut kept = Self {
            ledger,
            save: Vec::new(),
        };
        kept.ledger.save(&mut kept.save);
        kept.ledger.keep_journal();
        kept
    }

    fn reserve(&mut self, tokens: u64) -> ReservationId {
        let keys = self.ledger.resolve(&SUBJECTS[0]);
        let ask = Ask {
            keys: &keys,
            demand: &amounts([0, tokens, 1]),
            ttl: Span::from_secs(3600),
            idempotency: None,
        };
        match self.ledger.reserve(&ask, NOW) {
            Ok(Decision::Admit(admission)) => admission.id,
            other => panic!("there is room: {other:?}"),
        }
    }

    fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        self.ledger.drain_journal(&mut records);
        records
    }

    /// The ledger made of its records, and the one made of a save.
    fn reborn(&mut self) -> [Ledger; 2] {
        let mut redone = Ledger::load(&self.save, Bounds::default()).expect("it was saved");
        redone.redo(&self.records()).expect("it was recorded");
        let mut save = Vec::new();
        self.ledger.save(&mut save);
        [
            redone,
            Ledger::load(&save, Bounds::default()).expect("it was saved"),
        ]
    }
}

/// Tokens and concurrency that are used.
fn used(ledger: &mut Ledger, now: Time) -> [u64; 2] {
    let keys = ledger.resolve(&SUBJECTS[0]);
    let standings = ledger.peek(&keys, now);
    [standings[0].used, standings[1].used]
}

/// It ends as by its deadline; what others may end stays open.
#[test]
fn what_is_tied_to_a_process_ends_with_it() {
    let mut kept = Kept::new();
    let (tied, free) = (kept.reserve(10), kept.reserve(20));
    kept.ledger.tie_to_process(tied);
    let more = amounts([0, 5, 0]);
    let extended = kept.ledger.extend(tied, &more, None, NOW);
    assert!(matches!(extended, Ok(Extended::Granted { .. })));
    let later = NOW.plus(Span::from_secs(1));
    for mut ledger in kept.reborn() {
        assert_eq!(used(&mut ledger, NOW), [35, 2]);
        ledger.keep_journal();
        assert_eq!(ledger.end_tied(later), 1);
        assert_eq!(used(&mut ledger, later), [35, 1]);
        match ledger.settle(tied, Used::Exactly(amounts([0, 1, 0])), later) {
            Err(EndError::Ended(receipt)) => {
                assert_eq!(receipt.outcome, Outcome::Expired);
                assert_eq!(receipt.charged, amounts([0, 15, 0]));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(ledger.end_tied(later), 0, "once");
        let settled = ledger.settle(free, Used::Exactly(amounts([0, 1, 0])), later);
        assert_eq!(settled.map(|receipt| receipt.outcome), Ok(Outcome::Settled));
        assert_eq!(used(&mut ledger, later), [16, 0]);
    }
}

#[test]
fn what_was_ended_in_time_is_not_ended_again() {
    let mut kept = Kept::new();
    let settled = kept.reserve(10);
    kept.ledger.tie_to_process(settled);
    let receipt = kept
        .ledger
        .settle(settled, Used::Exactly(amounts([0, 1, 0])), NOW);
    receipt.expect("it is open");
    let cancelled = kept.reserve(10);
    kept.ledger.cancel(cancelled, NOW).expect("it is open");
    kept.ledger.tie_to_process(cancelled);
    // It stands where the two stood before it.
    let open = kept.reserve(2);
    for mut ledger in kept.reborn() {
        assert_eq!(ledger.end_tied(NOW), 0);
        assert_eq!(used(&mut ledger, NOW), [3, 1]);
        assert!(ledger.cancel(open, NOW).is_ok());
    }
}

/// What a version wrote that knew of no ties is read as it is, and what a later one will write is not.
#[test]
fn earlier_bytes_are_read_and_later_ones_refused() {
    let mut kept = Kept::new();
    kept.reserve(10);
    let records = kept.records();
    assert_eq!((kept.save[0], &records[..2]), (2, &[0, 2][..]));
    let of_version = |version| {
        let (mut save, mut records) = (kept.save.clone(), records.clone());
        (save[0], records[1]) = (version, version);
        (save, records)
    };
    let (save, records) = of_version(1);
    let mut ledger = Ledger::load(&save, Bounds::default()).expect("an earlier one");
    assert_eq!(ledger.redo(&records), Ok(()));
    assert_eq!(used(&mut ledger, NOW), [10, 1]);
    for version in [0, 3] {
        let (save, records) = of_version(version);
        let refused = Some(JournalError::Version(version));
        assert_eq!(Ledger::load(&save, Bounds::default()).err(), refused);
        let mut ledger = Ledger::load(&kept.save, Bounds::default()).expect("it was saved");
        assert_eq!(ledger.redo(&records).err(), refused);
    }
}
