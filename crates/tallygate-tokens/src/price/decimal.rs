//! Decimal numbers as sources write them, without a floating-point number in between.

use super::rates::MAX_RATE;

/// A non-negative decimal number times 10^`places`, rounded up; exponents (`2.5e-06`) are read. `None` where the text is no
/// such number, or the result is more than [`MAX_RATE`].
pub(super) fn scaled(text: &str, places: i32) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let well_formed = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !well_formed || digits.len() > MAX_DIGITS {
        return None;
    }
    let number: u128 = digits.parse().ok()?;
    let shift = places
        .checked_add(exponent)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = |by: i32| 10_u128.checked_pow(by.unsigned_abs());
    let scaled = match shift {
        _ if number == 0 => 0,
        0.. => number.checked_mul(power(shift)?)?,
        // A power beyond all numbers of so few digits: the result is above nothing and at most one.
        _ => power(shift).map_or(1, |power| number.div_ceil(power)),
    };
    u64::try_from(scaled)
        .ok()
        .filter(|scaled| *scaled <= MAX_RATE)
}

const MAX_DIGITS: usize = 30;

/// Dollars as micro-dollars.
pub(super) fn micros(text: &str) -> Option<u64> {
    scaled(text, 6)
}

/// Micro-dollars as dollars, as short as can be: `2.5`, `0.000001`, `3`.
pub(super) fn short(micros: u64) -> String {
    let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
    match fraction {
        0 => whole.to_string(),
        _ => format!("{whole}.{}", format!("{fraction:06}").trim_end_matches('0')),
    }
}

/// Dollars as micro-dollars, `None` where there are more than six decimals or an exponent.
pub(super) fn exact_micros(text: &str) -> Option<u64> {
    let (_, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fine = fraction.trim_end_matches('0').len() > 6;
    (!fine && !text.contains(['e', 'E']))
        .then(|| micros(text))
        .flatten()
}
