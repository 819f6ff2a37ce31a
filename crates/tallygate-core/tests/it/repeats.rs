//! G4: what is repeated or raced takes effect once, and the loser learns what stands.
use crate::setup::{START, SUBJECTS, amounts, policy};
use crate::strategy::{Kind, Scale, any_cases, config, rules};
use crate::world::World;
use proptest::prelude::*;
use tallygate_core::{
    Amounts, Ask, Bounds, Decision, EndError, Ledger, ReservationId, Span, Told, Used,
};

proptest! {
    #![proptest_config(config(80))]

    /// Reserving under a key, settling, cancelling and extending, all again and again, and forged ids.
    #[test]
    fn each_takes_effect_once(case in any_cases(Kind::Repeats)) {
        World::run(&case);
    }

    /// A name that differs from a reservation's in one bit is nobody's.
    #[test]
    fn no_name_can_be_guessed_from_another(rules in rules(&Scale::real()), bit in 0..128u32) {
        let mut ledger = Ledger::new(&policy(&rules), Bounds::default(), [8, 9]);
        let keys = ledger.resolve(&SUBJECTS[0]);
        let ask = Ask {
            keys: &keys,
            demand: &amounts([1, 0, 0]),
            ttl: Span::from_secs(60),
            idempotency: None,
        };
        let Ok(Decision::Admit(admission)) = ledger.reserve(&ask, START) else {
            panic!("one request fits");
        };
        let before = ledger.peek(&keys, START);
        let guessed = ReservationId::from_bits(admission.id.bits() ^ (1 << bit));
        let nothing = Used::Exactly(Amounts::ZERO);
        prop_assert_eq!(ledger.settle(guessed, nothing, START), Err(EndError::Unknown));
        prop_assert_eq!(ledger.cancel(guessed, START), Err(EndError::Unknown));
        prop_assert!(ledger.extend(guessed, &Amounts::ZERO, None, START).is_err());
        ledger.withdraw(guessed, START);
        prop_assert_eq!(ledger.peek(&keys, START), before);
        ledger.cancel(admission.id, START).expect("it is open");
        prop_assert_eq!(ledger.cancel(guessed, START), Err(EndError::Unknown));
    }
}

/// A receipt says whether it is the first of its end, also after a restart; what is a mere note counts as no open reservation.
#[test]
fn a_repeat_and_a_reservation_of_nothing_are_told_apart() {
    let mut ledger = Ledger::new(&policy(&[]), Bounds::default(), [8, 9]);
    let keys = ledger.resolve(&SUBJECTS[0]);
    let reserve = |ledger: &mut Ledger, demand| {
        let ask = Ask {
            keys: &keys,
            demand: &amounts(demand),
            ttl: Span::from_secs(60),
            idempotency: None,
        };
        match ledger.reserve(&ask, START) {
            Ok(Decision::Admit(admission)) => admission.id,
            other => panic!("there is no limit: {other:?}"),
        }
    };
    let real = reserve(&mut ledger, [1, 2, 0]);
    let [note, grown] = [(); 2].map(|()| reserve(&mut ledger, [0, 0, 0]));
    assert_eq!((ledger.open(), ledger.holding()), (3, 1));
    let more = amounts([0, 1, 0]);
    let grow = |ledger: &mut Ledger| ledger.extend(grown, &more, None, START).is_ok();
    assert!(grow(&mut ledger) && grow(&mut ledger));
    assert_eq!((ledger.open(), ledger.holding()), (3, 2));
    let reborn = |ledger: &Ledger| {
        let mut save = Vec::new();
        ledger.save(&mut save);
        Ledger::load(&save, Bounds::default()).expect("it was saved")
    };
    let mut ledger = reborn(&ledger);
    assert_eq!((ledger.open(), ledger.holding()), (3, 2));
    let used = Used::Exactly(amounts([1, 1, 0]));
    let told = |ledger: &mut Ledger| ledger.settle(real, used, START).map(|receipt| receipt.told);
    assert_eq!(told(&mut ledger), Ok(Told::First));
    assert_eq!(told(&mut ledger), Ok(Told::Again));
    assert_eq!(told(&mut reborn(&ledger)), Ok(Told::Again));
    for (id, left) in [(note, 1), (grown, 0)] {
        assert!(
            ledger
                .cancel(id, START)
                .is_ok_and(|receipt| !receipt.is_repeat())
        );
        assert!(
            ledger
                .cancel(id, START)
                .is_ok_and(|receipt| receipt.is_repeat())
        );
        assert_eq!(ledger.holding(), left);
    }
    assert_eq!(ledger.open(), 0);
}
