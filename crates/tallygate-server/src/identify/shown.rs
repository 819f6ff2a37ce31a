//! A key as administrators see it.

use serde_json::{Value, json};
use tallygate_store::registry::{KeyRecord, Stamp};

use crate::wire::stamp_rfc3339;

/// A key as it stands at `now`, without its hash: as the admin API has it, and the command line for a folder.
#[must_use]
pub fn key_shown(key: &KeyRecord, now: Stamp) -> Value {
    let instant = |stamp: Option<Stamp>| stamp.map(stamp_rfc3339);
    let former = key.former.as_ref().filter(|former| former.until > now);
    json!({
        "id": key.id,
        "state": key.state(now).word(),
        "subject": key.subject,
        "roles": key.roles,
        "downgrade": key.downgrade.as_deref().unwrap_or("allow"),
        "created": stamp_rfc3339(key.created),
        "by": key.by,
        "expires": instant(key.expires),
        "revoked": instant(key.revoked),
        "rotated": instant(key.rotated),
        "old_key_until": instant(former.map(|former| former.until)),
    })
}
