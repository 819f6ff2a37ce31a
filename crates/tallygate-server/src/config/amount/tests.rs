use std::time::Duration;

use super::{MAX_AMOUNT, amount, bytes, length, micro_dollars, per_mille};

#[test]
fn amounts_keep_every_digit_and_name_what_is_wrong() {
    assert_eq!(amount("10_000"), Ok(10_000));
    assert_eq!(amount("9007199254740992"), Ok(MAX_AMOUNT));
    assert_eq!(amount("100.0"), Ok(100));
    for (text, said) in [
        ("0", "zero"),
        ("9007199254740993", "2^53"),
        ("99999999999999999999999999999", "2^53"),
        ("-5", "negative"),
        ("1.5", "whole"),
        ("1__0", "not a number"),
        ("_10", "not a number"),
        ("1e6", "not a number"),
        ("0x10", "not a number"),
        ("", "not a number"),
        ("ten", "not a number"),
    ] {
        let refusal = amount(text).expect_err(text);
        assert!(refusal.contains(said), "{text}: {refusal}");
    }
}

#[test]
fn money_is_exact_to_the_micro_dollar() {
    assert_eq!(micro_dollars("2_000.00"), Ok(2_000_000_000));
    assert_eq!(micro_dollars("0.000001"), Ok(1));
    assert_eq!(micro_dollars("0.1"), Ok(100_000));
    assert_eq!(micro_dollars("9007199254.740992"), Ok(MAX_AMOUNT));
    assert!(micro_dollars("0.0000001").is_err_and(|e| e.contains("6 decimals")));
    assert!(micro_dollars("9007199254.740993").is_err());
    assert!(micro_dollars("1.").is_err());
    assert!(micro_dollars(".5").is_err());
}

#[test]
fn factors_are_thousandths() {
    assert_eq!(per_mille("1.2"), Ok(1_200));
    assert_eq!(per_mille("2"), Ok(2_000));
    assert!(per_mille("1.2345").is_err());
}

#[test]
fn lengths_need_a_unit() {
    assert_eq!(length("60s"), Ok(Duration::from_secs(60)));
    assert_eq!(length("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(length("1h"), Ok(Duration::from_secs(3600)));
    assert_eq!(length("0"), Ok(Duration::ZERO));
    assert!(length("60").is_err_and(|e| e.contains("unit")));
    assert!(length("3 weeks").is_err_and(|e| e.contains("`weeks`")));
    assert!(length("999999h").is_err_and(|e| e.contains("366 days")));
    assert!(length("s").is_err());
}

#[test]
fn bytes_take_binary_units() {
    assert_eq!(bytes("64KiB"), Ok(65_536));
    assert_eq!(bytes("32 MiB"), Ok(33_554_432));
    assert!(bytes("99999999999GiB").is_err());
}
