//! Names of reservations as text.
use proptest::prelude::*;
use tallygate_core::{ParseIdError, ReservationId};

proptest! {
    #![proptest_config(crate::strategy::config(500))]

    #[test]
    fn written_and_read_again(bits in any::<u128>()) {
        let id = ReservationId::from_bits(bits);
        let text = id.to_string();
        prop_assert_eq!(text.len(), 26);
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        prop_assert_eq!(text.parse(), Ok(id));
    }

    /// Whatever can be read is what would be written: two texts are never one name.
    #[test]
    fn one_text_a_name(text in "[0-9a-zA-Z-]{24,28}") {
        if let Ok(id) = text.parse::<ReservationId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}

#[test]
fn what_is_no_name() {
    let zeros = "0".repeat(26);
    assert_eq!(zeros.parse(), Ok(ReservationId::from_bits(0)));
    let largest = ReservationId::from_bits(u128::MAX).to_string();
    assert_eq!(largest, "7zzzzzzzzzzzzzzzzzzzzzzzzz");
    for text in [
        "",
        "0",
        "8zzzzzzzzzzzzzzzzzzzzzzzzz",
        &"0".repeat(27),
        &"u".repeat(26),
    ] {
        assert_eq!(text.parse::<ReservationId>(), Err(ParseIdError), "{text}");
    }
}
