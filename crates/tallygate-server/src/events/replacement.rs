//! Telling of models that stand in for those which a tier does not have: once a day for each pair, in each tier.

use serde_json::json;
use sha2::{Digest, Sha256};
use tallygate_core::{Span, Time};

use super::{Event, EventKind};
use crate::wire::{millis, rfc3339};

/// What stands for a limit in the memory: no limit is named so.
pub(super) const COUNTER: (&str, usize) = ("", 0);

/// The name of all models that are not configured.
pub(super) const OTHER: &str = "other";

const DAY: u64 = 86_400;

/// The end of the day (UTC) of `now`.
pub(super) fn until(now: Time) -> Time {
    let day = DAY * 1_000_000_000;
    let into = now.as_nanos() % day;
    now.plus(Span::from_nanos(day - into))
}

/// In `tier` the model `served` stands in for the one `asked` for.
pub(super) fn event(tier: &str, (asked, served): (&str, &str), now: Time) -> Event {
    let until = until(now);
    let mut hash = Sha256::new();
    let day = rfc3339(until);
    for text in [
        EventKind::Downgraded.name(),
        "tier",
        tier,
        asked,
        served,
        &day,
    ] {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    Event {
        id: format!("evt_{}", hex::encode(&hash.finalize()[..16])),
        kind: EventKind::Downgraded,
        timestamp: rfc3339(now),
        data: json!({
            "tier": tier,
            "asked": asked,
            "model": served,
            "resets_at": day,
            "reset_ms": millis(until.since(now).into()),
            "subject": { "tier": tier },
        }),
    }
}
