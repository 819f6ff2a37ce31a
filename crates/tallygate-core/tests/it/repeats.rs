//! G4: what is repeated or raced takes effect once, and the loser learns what stands.
use crate::setup::{START, SUBJECTS, amounts, policy};
use crate::strategy::{Kind, Scale, any_cases, config, rules};
use crate::world::World;
use proptest::prelude::*;
use tallygate_core::{Amounts, Ask, Bounds, Decision, EndError, Ledger, ReservationId, Span, Used};

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
