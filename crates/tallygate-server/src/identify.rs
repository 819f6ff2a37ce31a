//! Who asks: from a key or from trusted headers to an [`Identity`].
//!
//! A key arrives as `Authorization: Bearer …`, `x-api-key` or `x-goog-api-key`, or, as Gemini's clients like it, as `?key=`
//! (which [`strip_key`] takes out again before anything is forwarded). Only its SHA-256 is known here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use subtle::ConstantTimeEq;
use tallygate_core::text::is_printable;
use tallygate_store::registry::{Keeper, Stamp};

use crate::percent;

mod grant;
mod identity;
mod key;
mod shown;

pub use grant::{GrantError, read_end, read_grant, untiered};
pub use identity::{Downgrade, Identity, Role, Roles};
pub use key::{KEY_PREFIX, KeyHash, KeyHashError, generate};
pub use shown::key_shown;

/// The headers a key may arrive in, in the order they are looked at.
pub const CREDENTIAL_HEADERS: [HeaderName; 3] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The headers a trusted proxy names the subject with, and the label each sets.
pub const TRUSTED_HEADERS: [(HeaderName, &str); 3] = [
    (HeaderName::from_static("x-tallygate-tenant"), "tenant"),
    (HeaderName::from_static("x-tallygate-user"), "user"),
    (HeaderName::from_static("x-tallygate-tier"), "tier"),
];

/// The label that holds a key's id.
pub const KEY_LABEL: &str = "key";

/// The longest value taken from a trusted header, in bytes; a longer one is refused, for each makes a counter.
pub const MAX_LABEL_VALUE: usize = 256;

/// Why a caller was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No key came with the request.
    #[error("no api key was sent")]
    Missing,
    /// The key is not known here.
    #[error("the api key is not known")]
    Unknown,
    /// The key was revoked.
    #[error("the api key was revoked")]
    Revoked,
    /// The key's time is over.
    #[error("the api key has expired")]
    Expired,
    /// A trusted header is not text or longer than [`MAX_LABEL_VALUE`].
    #[error("the header `{0}` is not text of at most 256 bytes")]
    BadHeader(&'static str),
}

/// Whether the `x-tallygate-*` headers are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// They are ignored.
    #[default]
    Keys,
    /// A proxy in front sets them. A key's own labels win over them, so a key bound to a tenant stays bound.
    Headers,
}

/// The keys and header rules that are in force.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// By the first eight bytes of the hash.
    ///
    /// What a caller can learn from the time of a look-up is at most which eight bytes of a *hash* are in use. Hashes are of
    /// 256 random bits, so a prefix of one says nothing that helps to find a key with that hash; the remaining bytes are
    /// compared in constant time.
    by_prefix: HashMap<u64, Vec<Pass>>,
    trust: Trust,
    anonymous: Option<Arc<Identity>>,
}

/// A key, by its hash, and whom it lets in until when.
#[derive(Clone, Debug)]
pub struct Pass {
    hash: KeyHash,
    identity: Arc<Identity>,
    end: End,
}

/// When a key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not by itself.
    Never,
    /// At this instant it lets nobody in any more.
    At(Stamp),
    /// It was revoked.
    Revoked,
}

impl Pass {
    /// The key with this hash lets in `identity` until `end`.
    #[must_use]
    pub fn new(hash: KeyHash, identity: Identity, end: End) -> Self {
        Self {
            hash,
            identity: Arc::new(identity.with_hash(hash)),
            end,
        }
    }

    fn open(&self, now: impl FnOnce() -> Stamp) -> Result<Arc<Identity>, Rejection> {
        match self.end {
            End::Revoked => Err(Rejection::Revoked),
            End::At(end) if end <= now() => Err(Rejection::Expired),
            End::At(_) | End::Never => Ok(Arc::clone(&self.identity)),
        }
    }
}

impl Keyring {
    /// A keyring of these keys. Without any, everybody is let in without one.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = Pass>, trust: Trust) -> Self {
        let open = Self {
            by_prefix: HashMap::new(),
            trust,
            anonymous: Some(Arc::new(Identity::anonymous())),
        };
        open.with(keys)
    }

    /// The same with more keys; of two with one hash the earlier is looked at. A single one, whatever it is worth, ends that
    /// everybody is let in.
    #[must_use]
    pub fn with(mut self, keys: impl IntoIterator<Item = Pass>) -> Self {
        for key in keys {
            self.anonymous = None;
            self.by_prefix
                .entry(key.hash.prefix())
                .or_default()
                .push(key);
        }
        self
    }

    /// The same, letting in nobody without a key even if it holds none.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.anonymous = None;
        self
    }

    /// Whether everybody is let in: there is no key, and never was.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.anonymous.is_some()
    }

    /// Who may administer by these keys at `now`.
    #[must_use]
    pub fn keeper(&self, now: Stamp) -> Keeper {
        let keys = self.by_prefix.values().flatten();
        let keepers = keys.filter_map(|key| {
            let owner = key.open(|| now).ok()?;
            let keeper = match key.end {
                End::Never => Keeper::Lasting,
                End::At(_) | End::Revoked => Keeper::Ending,
            };
            owner.may(Role::Admin).then_some(keeper)
        });
        keepers.max().unwrap_or_default()
    }

    /// Who sent a request with these headers and this query, at `now`.
    ///
    /// # Errors
    /// When keys are in force: [`Rejection::Missing`], [`Rejection::Unknown`], [`Rejection::Revoked`] or
    /// [`Rejection::Expired`]. Otherwise never, except for a bad trusted header.
    pub fn identify(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        now: impl FnOnce() -> Stamp,
    ) -> Result<Arc<Identity>, Rejection> {
        let identity = self.by_key(headers, query, now)?;
        match self.trust {
            Trust::Keys => Ok(identity),
            Trust::Headers => with_trusted(identity, headers),
        }
    }

    /// Whether the key of a caller that was let in was revoked or taken away since. One whose time is over was not.
    #[must_use]
    pub fn has_revoked(&self, identity: &Identity) -> bool {
        let Some(hash) = identity.hash() else {
            return false;
        };
        self.find(hash).is_none_or(|key| key.end == End::Revoked)
    }

    /// Whether the key of a caller that was let in would let it in again at `now`.
    #[must_use]
    pub fn lets_in(&self, identity: &Identity, now: impl FnOnce() -> Stamp) -> bool {
        let found = identity.hash().and_then(|hash| self.find(hash));
        found.is_some_and(|key| key.open(now).is_ok())
    }

    fn by_key(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        now: impl FnOnce() -> Stamp,
    ) -> Result<Arc<Identity>, Rejection> {
        if let Some(anonymous) = &self.anonymous {
            return Ok(Arc::clone(anonymous));
        }
        let key = key_of(headers, query).ok_or(Rejection::Missing)?;
        let found = self.find(&KeyHash::of(&key)).ok_or(Rejection::Unknown)?;
        found.open(now)
    }

    fn find(&self, hash: &KeyHash) -> Option<&Pass> {
        let candidates = self.by_prefix.get(&hash.prefix())?;
        candidates
            .iter()
            .find(|known| known.hash.as_bytes().ct_eq(hash.as_bytes()).into())
    }
}

fn with_trusted(identity: Arc<Identity>, headers: &HeaderMap) -> Result<Arc<Identity>, Rejection> {
    let mut added = Vec::new();
    for (header, label) in &TRUSTED_HEADERS {
        let Some(value) = headers.get(header) else {
            continue;
        };
        let value = value
            .to_str()
            .ok()
            .filter(|text| text.len() <= MAX_LABEL_VALUE && is_printable(text));
        let value = value.ok_or(Rejection::BadHeader(label_header(label)))?;
        if identity.label(label).is_none() && !value.is_empty() {
            added.push(((*label).to_owned(), value.to_owned()));
        }
    }
    if added.is_empty() {
        return Ok(identity);
    }
    Ok(Arc::new(identity.with_labels(added)))
}

fn label_header(label: &str) -> &'static str {
    match label {
        "tenant" => "x-tallygate-tenant",
        "user" => "x-tallygate-user",
        _ => "x-tallygate-tier",
    }
}

fn key_of<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Cow<'a, [u8]>> {
    let in_headers = CREDENTIAL_HEADERS.iter().find_map(|name| {
        let value = headers.get(name)?.as_bytes();
        let key = if *name == AUTHORIZATION {
            bearer(value)
        } else {
            value
        };
        (!key.is_empty()).then_some(Cow::Borrowed(key))
    });
    in_headers.or_else(|| query_key(query?))
}

/// The token of a `Bearer` credential; any other scheme's whole value, which no hash will match.
fn bearer(value: &[u8]) -> &[u8] {
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => value,
    }
}

fn query_key(query: &str) -> Option<Cow<'_, [u8]>> {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("key="))?;
    (!value.is_empty()).then(|| percent::decoded(value))
}

/// The path and query without `key=…`; all else stays byte by byte.
#[must_use]
pub fn strip_key(path_and_query: &str) -> Cow<'_, str> {
    let Some((path, query)) = path_and_query.split_once('?') else {
        return Cow::Borrowed(path_and_query);
    };
    if !query.split('&').any(is_key) {
        return Cow::Borrowed(path_and_query);
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    Cow::Owned(format!("{path}{mark}{}", kept.join("&")))
}

fn is_key(pair: &str) -> bool {
    pair == "key" || pair.starts_with("key=")
}

#[cfg(test)]
mod tests;
