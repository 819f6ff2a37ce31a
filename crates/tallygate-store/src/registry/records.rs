//! Keys and overrides as they stand.
use super::stamp::Stamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A caller's key. The key itself is nowhere: only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its name in lists and logs.
    pub id: String,
    /// `sha256:` and the 64 lower-case hex digits of the key's SHA-256.
    pub hash: String,
    /// The labels of whoever shows it.
    #[serde(default)]
    pub subject: BTreeMap<String, String>,
    /// What it may do, by the words of the configuration.
    pub roles: Vec<String>,
    /// Whether its calls may be answered by a cheaper model; the word of the configuration, if it says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downgrade: Option<String>,
    /// When it was made.
    pub created: Stamp,
    /// Who made it: the id of a key, or what stands for somebody without one.
    pub by: String,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Stamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Stamp>,
    /// When it was last replaced by another key of the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated: Option<Stamp>,
    /// The key it replaced, while that is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Former>,
}

/// A key that was replaced and is good for a little longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// As [`KeyRecord::hash`].
    pub hash: String,
    /// When it ends.
    pub until: Stamp,
}

/// What a key is worth at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It lets in.
    Live,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
}

impl KeyState {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl KeyRecord {
    /// What the key is worth at `now`. At its last instant it has expired.
    #[must_use]
    pub fn state(&self, now: Stamp) -> KeyState {
        match (self.revoked, self.expires) {
            (Some(_), _) => KeyState::Revoked,
            (None, Some(end)) if end <= now => KeyState::Expired,
            (None, _) => KeyState::Live,
        }
    }

    /// When it ended, if it has.
    pub(super) fn ended(&self, now: Stamp) -> Option<Stamp> {
        let expired = self.expires.filter(|end| *end <= now);
        [self.revoked, expired].into_iter().flatten().min()
    }
}

/// A limit that is another one for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The name of the limit.
    pub limit: String,
    /// The metric whose amount is another.
    pub metric: String,
    /// The amount in force meanwhile.
    pub amount: u64,
    /// The most at once meanwhile; what follows from the amount and the configuration unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Since when.
    pub since: Stamp,
    /// Until when.
    pub until: Stamp,
    /// Who set it.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Everything a registry knows, at one version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Records {
    /// Counts the changes.
    pub(super) version: u64,
    /// By id.
    pub(super) keys: BTreeMap<String, KeyRecord>,
    /// By limit, then metric.
    pub(super) overrides: BTreeMap<String, BTreeMap<String, Override>>,
}

impl KeyRecord {
    /// Whether its hashes are what hashes are. One that is not would keep its caller out without a word.
    fn is_readable(&self) -> bool {
        let former = self.former.as_ref().map(|former| &former.hash);
        std::iter::once(&self.hash)
            .chain(former)
            .all(|hash| is_hash(hash))
    }
}

/// Whether a text is the hash of a key.
pub(super) fn is_hash(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(is_digit))
}

impl Records {
    /// The first key whose hash is none.
    pub(crate) fn unreadable(&self) -> Option<&KeyRecord> {
        self.keys.values().find(|key| !key.is_readable())
    }

    /// How many changes there were.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All keys, revoked and expired ones too, by id.
    pub fn keys(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.values()
    }

    /// The key of this id.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<&KeyRecord> {
        self.keys.get(id)
    }

    /// All overrides, also those that have ended and were not cleared away yet; by limit and metric.
    pub fn overrides(&self) -> impl Iterator<Item = &Override> {
        self.overrides.values().flat_map(BTreeMap::values)
    }

    /// The overrides of one limit.
    pub fn overrides_of(&self, limit: &str) -> impl Iterator<Item = &Override> {
        self.overrides
            .get(limit)
            .into_iter()
            .flat_map(BTreeMap::values)
    }
}
