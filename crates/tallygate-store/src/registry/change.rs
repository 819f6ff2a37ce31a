//! What can be changed, and what becomes of it.
use super::audit::{AuditEntry, Author};
use super::records::{Former, KeyRecord, KeyState, Override, Records, is_hash};
use super::right::{LOCAL, NOBODY};
use super::stamp::Stamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tallygate_core::text::is_printable;

/// How many keys there may be, revoked and expired ones included: the one that ended the longest ago makes room.
pub const MAX_KEYS: usize = 10_000;

/// How many limits and metrics may be overridden at once.
pub const MAX_OVERRIDES: usize = 1_000;

/// The longest id, label or value, in bytes.
pub const MAX_TEXT: usize = 256;

/// The longest reason, in bytes.
pub const MAX_REASON: usize = 500;

const THE_END: &str = "the key's end";

/// How many labels a key may give.
const MAX_LABELS: usize = 32;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A new key.
    CreateKey(Grant),
    /// Another key under the same id.
    RotateKey {
        /// The id.
        id: String,
        /// The new key's hash, as [`KeyRecord::hash`].
        hash: String,
        /// Until when the old one is good; at once over unless given.
        grace: Option<Stamp>,
    },
    /// A key that lets nobody in any more.
    RevokeKey {
        /// The id.
        id: String,
    },
    /// Another end of a key.
    ExpireKey {
        /// The id.
        id: String,
        /// When it ends by itself; never unless given.
        end: Option<Stamp>,
    },
    /// An override, in place of another of the same limit and metric. Its `since` and `by` are set from the author.
    SetOverride(Override),
    /// No override any more.
    ClearOverride {
        /// The name of the limit.
        limit: String,
        /// The metric; all of them unless given.
        metric: Option<String>,
    },
    /// Nothing that is kept here: the configuration was read anew.
    Reloaded,
}

/// What a new key is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// As [`KeyRecord::id`].
    pub id: String,
    /// As [`KeyRecord::hash`].
    pub hash: String,
    /// As [`KeyRecord::subject`].
    pub subject: BTreeMap<String, String>,
    /// As [`KeyRecord::roles`].
    pub roles: Vec<String>,
    /// As [`KeyRecord::downgrade`].
    pub downgrade: Option<String>,
    /// As [`KeyRecord::expires`].
    pub expires: Option<Stamp>,
}

/// Why a change is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The id was given before, if only to a key that has ended.
    #[error("the key id `{0}` is taken")]
    Taken(String),
    /// Another id has this very key.
    #[error("the key is that of `{0}`")]
    SameKey(String),
    /// There is no such key.
    #[error("there is no key `{0}`")]
    NoKey(String),
    /// The key has ended.
    #[error("the key `{id}` is {}", .state.word())]
    Ended {
        /// Its id.
        id: String,
        /// How it ended.
        state: KeyState,
    },
    /// The limit is not overridden.
    #[error("the limit `{0}` is not overridden")]
    NoOverride(String),
    /// The author's key does not let administer any more.
    #[error("the api key of `{0}` lets nobody administer any more")]
    NoAdmin(String),
    /// The author has no key, and by now there is one.
    #[error("there is a key by now, and none was shown")]
    Closed,
    /// The first key of all is not what it must be.
    #[error("the first key {0}")]
    First(&'static str),
    /// Nobody would be left who may administer, or only for a while.
    #[error("`{0}` is the last key with the role `admin` that lasts")]
    LastAdmin(String),
    /// The audit log uses this name for somebody without a key.
    #[error("the key id `{0}` stands for somebody without a key in the audit log")]
    Reserved(String),
    /// An instant that has passed.
    #[error("{0} is in the past")]
    Past(&'static str),
    /// A text that is empty, too long or has control characters.
    #[error("{what} must be a text of 1 to {most} bytes without control characters")]
    Text {
        /// Which.
        what: &'static str,
        /// Its bound.
        most: usize,
    },
    /// A key without a role, or with too many labels.
    #[error("{0}")]
    Shape(&'static str),
    /// A bound is reached.
    #[error("there are {0} {1} already, which is the most there may be")]
    Full(usize, &'static str),
}

impl Change {
    /// What the audit log and the server's own log call it.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::CreateKey(_) => "key.create",
            Self::RotateKey { .. } => "key.rotate",
            Self::RevokeKey { .. } => "key.revoke",
            Self::ExpireKey { .. } => "key.expire",
            Self::SetOverride(_) => "override.set",
            Self::ClearOverride { .. } => "override.clear",
            Self::Reloaded => "config.reload",
        }
    }
}

impl Records {
    /// Makes `change`, and tells what the audit log is to say of it.
    ///
    /// # Errors
    /// When it is not possible; nothing has changed then.
    pub fn apply(&mut self, change: &Change, author: &Author) -> Result<AuditEntry, Refusal> {
        self.check_right(author)?;
        let (target, detail) = match change {
            Change::CreateKey(grant) => {
                let detail = self.create(grant, author)?;
                (grant.id.clone(), detail)
            }
            Change::RotateKey { id, hash, grace } => {
                let detail = self.rotate(id, (hash, *grace), author)?;
                (id.clone(), detail)
            }
            Change::RevokeKey { id } => {
                self.revoke(id, author)?;
                (id.clone(), Map::new())
            }
            Change::ExpireKey { id, end } => {
                let detail = self.expire(id, *end, author)?;
                (id.clone(), detail)
            }
            Change::SetOverride(wanted) => {
                let detail = self.set(wanted, author)?;
                (wanted.limit.clone(), detail)
            }
            Change::ClearOverride { limit, metric } => {
                let detail = self.clear(limit, metric.as_deref(), author)?;
                (limit.clone(), detail)
            }
            Change::Reloaded => (String::new(), Map::new()),
        };
        self.version += 1;
        Ok(AuditEntry {
            seq: self.version,
            at: author.at,
            by: author.by.clone(),
            from: author.from.clone(),
            action: change.action().to_owned(),
            target,
            detail,
        })
    }

    fn create(&mut self, grant: &Grant, author: &Author) -> Result<Map<String, Value>, Refusal> {
        check(grant, author.at)?;
        self.check_first(grant, author)?;
        if self.keys.contains_key(&grant.id) {
            return Err(Refusal::Taken(grant.id.clone()));
        }
        self.check_new(&grant.hash)?;
        self.make_room(author.at)?;
        let record = KeyRecord {
            id: grant.id.clone(),
            hash: grant.hash.clone(),
            subject: grant.subject.clone(),
            roles: grant.roles.clone(),
            downgrade: grant.downgrade.clone(),
            created: author.at,
            by: author.by.clone(),
            expires: grant.expires,
            revoked: None,
            rotated: None,
            former: None,
        };
        self.keys.insert(grant.id.clone(), record);
        Ok(object([
            ("roles", json!(grant.roles)),
            ("subject", json!(grant.subject)),
            ("expires", json!(grant.expires)),
        ]))
    }

    fn rotate(
        &mut self,
        id: &str,
        (hash, grace): (&str, Option<Stamp>),
        author: &Author,
    ) -> Result<Map<String, Value>, Refusal> {
        self.check_new(hash)?;
        let key = self.live(id, author.at)?;
        if grace.is_some_and(|until| until <= author.at) {
            return Err(Refusal::Past("the end of the grace"));
        }
        let before = std::mem::replace(&mut key.hash, hash.to_owned());
        // The key before the one before ends here, in grace or not: at most two keys have an id.
        key.former = grace.map(|until| Former {
            hash: before,
            until,
        });
        key.rotated = Some(author.at);
        Ok(object([("old_key_until", json!(grace))]))
    }

    fn revoke(&mut self, id: &str, author: &Author) -> Result<(), Refusal> {
        self.check_kept(id, author)?;
        let key = self
            .keys
            .get_mut(id)
            .ok_or_else(|| Refusal::NoKey(id.to_owned()))?;
        if key.revoked.is_some() {
            let (id, state) = (id.to_owned(), KeyState::Revoked);
            return Err(Refusal::Ended { id, state });
        }
        key.revoked = Some(author.at);
        key.former = None;
        Ok(())
    }

    fn expire(
        &mut self,
        id: &str,
        end: Option<Stamp>,
        author: &Author,
    ) -> Result<Map<String, Value>, Refusal> {
        if end.is_some_and(|end| end <= author.at) {
            return Err(Refusal::Past(THE_END));
        }
        self.live(id, author.at)?;
        if end.is_some() {
            self.check_lasting(id, author)?;
        }
        self.live(id, author.at)?.expires = end;
        Ok(object([("expires", json!(end))]))
    }

    fn set(&mut self, wanted: &Override, author: &Author) -> Result<Map<String, Value>, Refusal> {
        for (what, text) in [("the limit", &wanted.limit), ("the metric", &wanted.metric)] {
            check_text(what, text, MAX_TEXT)?;
        }
        if !wanted.reason.is_empty() {
            check_text("the reason", &wanted.reason, MAX_REASON)?;
        }
        if wanted.until <= author.at {
            return Err(Refusal::Past("the end of the override"));
        }
        self.forget_overrides(author.at);
        let of_limit = self.overrides.get(&wanted.limit);
        let replaces = of_limit.is_some_and(|metrics| metrics.contains_key(&wanted.metric));
        if !replaces && self.overrides().count() >= MAX_OVERRIDES {
            return Err(Refusal::Full(MAX_OVERRIDES, "overrides"));
        }
        let set = Override {
            since: author.at,
            by: author.by.clone(),
            ..wanted.clone()
        };
        let detail = object([
            ("metric", json!(set.metric)),
            ("amount", json!(set.amount)),
            ("burst", json!(set.burst)),
            ("until", json!(set.until)),
            (
                "reason",
                json!(Some(&set.reason).filter(|text| !text.is_empty())),
            ),
        ]);
        let of_limit = self.overrides.entry(set.limit.clone()).or_default();
        of_limit.insert(set.metric.clone(), set);
        Ok(detail)
    }

    fn clear(
        &mut self,
        limit: &str,
        metric: Option<&str>,
        author: &Author,
    ) -> Result<Map<String, Value>, Refusal> {
        let none = || Refusal::NoOverride(limit.to_owned());
        let of_limit = self.overrides.get_mut(limit).ok_or_else(none)?;
        let live = |set: &Override| set.until > author.at;
        let goes = |set: &Override| metric.is_none_or(|metric| set.metric == metric);
        if !of_limit.values().any(|set| live(set) && goes(set)) {
            return Err(none());
        }
        of_limit.retain(|_, set| !goes(set));
        self.forget_overrides(author.at);
        Ok(object([("metric", json!(metric))]))
    }

    /// The key of this id, which must not have ended.
    fn live(&mut self, id: &str, now: Stamp) -> Result<&mut KeyRecord, Refusal> {
        let key = self
            .keys
            .get_mut(id)
            .ok_or_else(|| Refusal::NoKey(id.to_owned()))?;
        match key.state(now) {
            KeyState::Live => Ok(key),
            state => Err(Refusal::Ended {
                id: id.to_owned(),
                state,
            }),
        }
    }

    fn check_new(&self, hash: &str) -> Result<(), Refusal> {
        if !is_hash(hash) {
            return Err(Refusal::Shape(
                "a key's hash is `sha256:` and 64 lower-case hex digits",
            ));
        }
        let has = |key: &&KeyRecord| {
            let former = key.former.as_ref().is_some_and(|old| old.hash == hash);
            key.hash == hash || former
        };
        match self.keys.values().find(has) {
            Some(key) => Err(Refusal::SameKey(key.id.clone())),
            None => Ok(()),
        }
    }

    fn make_room(&mut self, now: Stamp) -> Result<(), Refusal> {
        if self.keys.len() < MAX_KEYS {
            return Ok(());
        }
        let ended = self
            .keys
            .values()
            .filter_map(|key| Some((key.ended(now)?, key.id.clone())));
        let (_, first) = ended.min().ok_or(Refusal::Full(MAX_KEYS, "keys"))?;
        self.keys.remove(&first);
        Ok(())
    }

    fn forget_overrides(&mut self, now: Stamp) {
        for of_limit in self.overrides.values_mut() {
            of_limit.retain(|_, set| set.until > now);
        }
        self.overrides.retain(|_, of_limit| !of_limit.is_empty());
    }
}

fn check(grant: &Grant, now: Stamp) -> Result<(), Refusal> {
    check_text("the key id", &grant.id, MAX_TEXT)?;
    if [NOBODY, LOCAL].contains(&grant.id.as_str()) {
        return Err(Refusal::Reserved(grant.id.clone()));
    }
    check_text("the hash", &grant.hash, MAX_TEXT)?;
    for (label, value) in &grant.subject {
        check_text("a label of the subject", label, MAX_TEXT)?;
        check_text("a value of the subject", value, MAX_TEXT)?;
    }
    if grant.subject.len() > MAX_LABELS {
        return Err(Refusal::Shape("the subject has more than 32 labels"));
    }
    if grant.roles.is_empty() {
        return Err(Refusal::Shape("the key has no role"));
    }
    if grant.expires.is_some_and(|end| end <= now) {
        return Err(Refusal::Past(THE_END));
    }
    Ok(())
}

fn check_text(what: &'static str, text: &str, most: usize) -> Result<(), Refusal> {
    match text.is_empty() || text.len() > most || !is_printable(text) {
        true => Err(Refusal::Text { what, most }),
        false => Ok(()),
    }
}

/// What of the pairs says something.
fn object<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    let told = pairs.into_iter().filter(|(_, value)| !value.is_null());
    told.map(|(name, value)| (name.to_owned(), value)).collect()
}
