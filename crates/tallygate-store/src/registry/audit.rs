//! The log of what administrators did.
use super::right::Keeper;
use super::stamp::Stamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How many entries are kept; the oldest go first.
pub const AUDIT_KEPT: usize = 10_000;

/// Who makes a change, when and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The id of the key that was shown, or what stands for somebody without one.
    pub by: String,
    /// The address of the peer, or what stands for it.
    pub from: String,
    /// When.
    pub at: Stamp,
    /// By what right.
    pub right: Right,
    /// Who may administer by keys that stand elsewhere.
    pub elsewhere: Keeper,
}

/// By what right a change is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// By a key of the records, known by its [hash](super::KeyRecord::hash), with the id of the author: it must be live and have
    /// the role [`ADMIN`](super::ADMIN).
    Key(String),
    /// Without a key: good while there is none.
    Keyless,
    /// By a key that stands elsewhere, or by sitting at the machine.
    Elsewhere,
}

/// One thing that was done. It never holds a key or its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number: the version of the records after it.
    pub seq: u64,
    /// When.
    pub at: Stamp,
    /// Who: the id of the key that was shown, or what stands for somebody without one.
    pub by: String,
    /// From which address.
    pub from: String,
    /// What was done, as `key.create`.
    pub action: String,
    /// To what: the id of a key or the name of a limit.
    pub target: String,
    /// With what: roles, subject, expiry, amounts, reason.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
}

/// Which entries are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPage {
    /// Only entries with a smaller number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl AuditPage {
    /// The page of `entries`, which are in the order of their numbers.
    pub(super) fn of<'a>(
        self,
        entries: impl DoubleEndedIterator<Item = &'a AuditEntry>,
    ) -> Vec<AuditEntry> {
        let before = self.before.unwrap_or(u64::MAX);
        let older = entries.rev().filter(|entry| entry.seq < before);
        older.take(self.limit).cloned().collect()
    }
}
