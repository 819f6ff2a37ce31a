use super::*;

/// All that is near an edge of some width.
fn edges() -> impl Iterator<Item = u128> {
    let powers = (0..128u32).map(|power| 1u128 << power);
    powers.flat_map(|power| [power - 1, power, power + 1, !power])
}

#[test]
fn numbers_of_every_size_come_back() {
    for number in edges() {
        let narrow = num::low64(number);
        let signed = num::distance(narrow, 0);
        let wide = num::unfolded_wide(number);
        let time = Time::from_nanos(narrow);
        let base = Time::from_nanos(1 << 60);
        let mut out = Vec::new();
        put(&mut out, narrow);
        put_signed(&mut out, signed);
        put_wide(&mut out, wide);
        put_time(&mut out, time, base);
        let mut from = Reader::new(&out);
        assert_eq!(from.number(), Ok(narrow));
        assert_eq!(from.signed(), Ok(signed));
        assert_eq!(from.wide(), Ok(wide));
        assert_eq!(from.time(base), Ok(time));
        assert!(from.is_empty());
    }
}

#[test]
fn numbers_near_zero_are_short() {
    let length = |number| {
        let mut out = Vec::new();
        put_signed(&mut out, number);
        out.len()
    };
    assert_eq!([-64, -1, 0, 1, 63].map(length), [1; 5]);
    assert_eq!([-8192, -65, 64, 8191].map(length), [2; 4]);
}

#[test]
fn numbers_that_are_too_large_or_cut_are_refused() {
    let long = [0xFFu8; 40];
    assert!(Reader::new(&long).number().is_err());
    assert!(Reader::new(&long).wide().is_err());
    // 2^64: ten bytes, the last of which has one bit too many.
    let over = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2];
    assert!(Reader::new(&over).number().is_err());
    for length in 0..9 {
        assert_eq!(
            Reader::new(&over[..length]).number(),
            Err(JournalError::Short(length))
        );
    }
}

#[test]
fn a_length_past_the_end_is_refused() {
    let mut out = Vec::new();
    put(&mut out, u64::MAX);
    out.extend_from_slice(b"text");
    assert_eq!(
        Reader::new(&out).text(),
        Err(JournalError::Short(out.len() - 4))
    );
}
