//! Amounts, money, multipliers and lengths of time, read from their text without a floating-point number in between.

use std::time::Duration;

/// The largest amount there is: 2^53, the last integer every JSON reader keeps exactly.
pub(super) const MAX_AMOUNT: u64 = 1 << 53;

/// Why a text is not the number asked for; fits behind "`x` ".
pub type Refusal = String;

/// A whole number from 1 to 2^53; underscores between digits are allowed.
///
/// # Errors
/// What is wrong with it.
pub fn amount(text: &str) -> Result<u64, Refusal> {
    let number = decimal(text, 0)?;
    match number {
        0 => Err("is zero, which would admit nothing".to_owned()),
        n if n > u128::from(MAX_AMOUNT) => Err(format!(
            "is more than 2^53 ({MAX_AMOUNT}), the largest amount"
        )),
        n => u64::try_from(n).map_err(|_| "is too large".to_owned()),
    }
}

/// Dollars with at most six decimals, as micro-dollars: `2_000.00` is 2,000,000,000.
///
/// # Errors
/// What is wrong with it.
pub fn micro_dollars(text: &str) -> Result<u64, Refusal> {
    let number = decimal(text, 6)?;
    match number {
        0 => Err("is zero, which would admit nothing".to_owned()),
        n if n > u128::from(MAX_AMOUNT) => {
            Err("is more than 2^53 micro-dollars (about 9.007 billion dollars)".to_owned())
        }
        n => u64::try_from(n).map_err(|_| "is too large".to_owned()),
    }
}

/// A number with at most six decimals, in millionths: `2.50` is 2,500,000.
pub(super) fn millionths(text: &str) -> Result<u128, Refusal> {
    decimal(text, 6)
}

/// A factor with at most three decimals, in thousandths: `1.2` is 1,200.
pub(super) fn per_mille(text: &str) -> Result<u32, Refusal> {
    let number = decimal(text, 3)?;
    u32::try_from(number).map_err(|_| "is too large".to_owned())
}

/// A count of things or bytes that may be zero.
pub(super) fn count(text: &str) -> Result<usize, Refusal> {
    let number = decimal(text, 0)?;
    usize::try_from(number).map_err(|_| "is too large".to_owned())
}

/// Bytes, with `KiB`, `MiB` or `GiB` behind the number if liked.
pub(super) fn bytes(text: &str) -> Result<usize, Refusal> {
    let (digits, factor) = match text.trim() {
        t if t.ends_with("KiB") => (t.trim_end_matches("KiB"), 1 << 10),
        t if t.ends_with("MiB") => (t.trim_end_matches("MiB"), 1 << 20),
        t if t.ends_with("GiB") => (t.trim_end_matches("GiB"), 1 << 30),
        t => (t, 1),
    };
    count(digits.trim())?
        .checked_mul(factor)
        .ok_or_else(|| "is too large".to_owned())
}

/// A length such as `500ms`, `60s`, `5m` or `1h`; zero is allowed as `0` or with a unit.
pub(super) fn length(text: &str) -> Result<Duration, Refusal> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let millis_a_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err("has no unit".to_owned()),
        _ => return Err(format!("has the unit `{unit}`, which is not known")),
    };
    let number = decimal(digits.trim(), 0)?;
    let millis = u64::try_from(number)
        .ok()
        .and_then(|n| n.checked_mul(millis_a_unit));
    millis
        .filter(|&ms| ms <= MAX_LENGTH_MS)
        .map(Duration::from_millis)
        .ok_or_else(|| "is longer than 366 days".to_owned())
}

const MAX_LENGTH_MS: u64 = 366 * 24 * 3_600_000;

/// A decimal number times 10^`places`, exactly; more decimals than `places` are refused.
fn decimal(text: &str, places: u32) -> Result<u128, Refusal> {
    let text = text.trim();
    if let Some(rest) = text
        .strip_prefix('-')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    {
        return Err(format!("is negative; did you mean `{rest}`?"));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = digits(whole).ok_or_else(|| "is not a number".to_owned())?;
    let fraction = trimmed_fraction(text, fraction)?;
    if fraction.len() > places as usize {
        return Err(too_fine(places));
    }
    format!("{whole}{fraction:0<width$}", width = places as usize)
        .parse()
        .map_err(|_| "is too large".to_owned())
}

fn trimmed_fraction(text: &str, fraction: &str) -> Result<String, Refusal> {
    if fraction.is_empty() && !text.ends_with('.') {
        return Ok(String::new());
    }
    let fraction = digits(fraction).ok_or_else(|| "is not a number".to_owned())?;
    Ok(fraction.trim_end_matches('0').to_owned())
}

fn too_fine(places: u32) -> Refusal {
    match places {
        0 => "is not a whole number".to_owned(),
        n => format!("has more than {n} decimals"),
    }
}

/// The digits without their underscores, which must stand between digits; at most 30 of them.
fn digits(text: &str) -> Option<String> {
    let well_formed = text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && !text.contains("__")
        && text.len() <= 40
        && text.chars().all(|c| c.is_ascii_digit() || c == '_');
    well_formed.then(|| text.replace('_', ""))
}

#[cfg(test)]
mod tests;
