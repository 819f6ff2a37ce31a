//! Lengths of time on the command line.

use std::time::Duration;

/// The units, with their lengths in milliseconds.
const UNITS: [(&str, u64); 6] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Reads `90s`, `30m`, `12h`, `30d`, `2w`.
///
/// # Errors
/// What would be right.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    let wanted = || "write a length as 90s, 30m, 12h, 30d or 2w, of at most 366d".to_owned();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(wanted)?;
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let unit = UNITS.iter().find(|(word, _)| *word == unit);
    let (_, each) = unit.ok_or_else(wanted)?;
    let millis = number.checked_mul(*each);
    let millis = millis.filter(|millis| *millis <= MOST).ok_or_else(wanted)?;
    Ok(Duration::from_millis(millis))
}

const MOST: u64 = 366 * 86_400_000;

/// When something ends: an instant as it is written, or a length from now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Until {
    /// As it was written; the server reads it.
    Instant(String),
    /// So long from now.
    Length(Duration),
}

/// Reads a length, or what begins with the four digits of a year.
///
/// # Errors
/// What would be right.
pub(crate) fn until(text: &str) -> Result<Until, String> {
    match text.as_bytes().get(4) {
        Some(b'-') => instant(text).map(Until::Instant),
        _ => length(text).map(Until::Length),
    }
}

/// Reads an instant, and leaves it as it is written.
///
/// # Errors
/// What would be right.
pub(crate) fn instant(text: &str) -> Result<String, String> {
    match tallygate_server::wire::read_stamp(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("it {error}: {}", error.mend())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Until, length, until};
    use std::time::Duration;

    #[test]
    fn lengths_have_a_unit_and_a_bound() {
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(length("2w"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(length("366d"), Ok(Duration::from_secs(366 * 86_400)));
        for wrong in [
            "",
            "90",
            "s",
            "1y",
            "-1s",
            "1.5h",
            "367d",
            "99999999999999999999d",
        ] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_end_is_an_instant_or_a_length() {
        assert_eq!(until("30m"), Ok(Until::Length(Duration::from_secs(1_800))));
        let day = "2027-01-31".to_owned();
        assert_eq!(until(&day), Ok(Until::Instant(day)));
        assert!(until("2027-02-30").is_err());
        let late = until("9999-12-31").expect_err("no instant can be so late");
        assert!(late.contains("later than the last instant"), "{late}");
    }
}
