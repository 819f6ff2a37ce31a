//! `ledger:`: whether the usage of calls is kept, and for how long.

use std::time::Duration;

use super::amount;
use super::amount::Refusal;
use super::fields::{Fields, Known, Number, Reading};
use super::tree::{Node, Value};

/// Whether the usage of calls is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ledger {
    /// It is not.
    Off,
    /// A record a call, for so long. Default: 90 days.
    Kept(Duration),
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Ledger {
    fn default() -> Self {
        Self::Kept(90 * DAY)
    }
}

const LEDGER: Known<'static> = Known {
    what: "`ledger`",
    keys: &["keep"],
    later: &[],
};

const KEEP: Number<Duration> = Number {
    what: "the time to keep",
    read: keep,
    mend: "write a length from 1h to 3660d, as 90d",
};

/// Reads `ledger:`.
pub(super) fn read(top: &Fields<'_>, reading: &mut Reading<'_>) -> Ledger {
    let Some(node) = top.get("ledger") else {
        return Ledger::default();
    };
    if matches!(node.value, Value::Scalar(_)) {
        let off = reading.word(node, "`ledger`", &[("off", Ledger::Off)]);
        return off.unwrap_or_default();
    }
    read_kept(node, reading).map_or_else(Ledger::default, Ledger::Kept)
}

fn read_kept(node: &Node, reading: &mut Reading<'_>) -> Option<Duration> {
    let fields = reading.fields(node, &LEDGER)?;
    reading.number(fields.get("keep")?, &KEEP)
}

/// Days, or a length as elsewhere.
fn keep(text: &str) -> Result<Duration, Refusal> {
    let span = match text.trim().strip_suffix('d') {
        Some(days) => days_of(days)?,
        None => amount::length(text)?,
    };
    match (DAY / 24..=3_660 * DAY).contains(&span) {
        true => Ok(span),
        false => Err("is not from 1h to 3660d".into()),
    }
}

fn days_of(text: &str) -> Result<Duration, Refusal> {
    let days = u32::try_from(amount::count(text)?).unwrap_or(u32::MAX);
    Ok(DAY.saturating_mul(days))
}
