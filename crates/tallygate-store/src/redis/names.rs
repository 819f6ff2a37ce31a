//! What counters and reservations are called in the store.
//!
//! A key is `prefix:{tag}` and a letter, then a name of fixed length: everything that a caller chooses goes through
//! SHA-256, so that no text of his can collide with another's or move to another slot.
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use tallygate_core::remote::RemoteRule;
use tallygate_core::{AS_ASKED, ReservationId};

/// Keys of one hash tag share a slot of a Cluster.
pub(crate) type Tag = u32;

/// A rule with its name in the store.
#[derive(Debug, Clone)]
pub(crate) struct NamedRule {
    pub(crate) rule: RemoteRule,
    pub(crate) name: [u8; 8],
    has_slots: bool,
}

/// The counters of one rule for one value of its labels.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) rule: NamedRule,
    pub(crate) tag: Tag,
    pub(crate) name: [u8; 16],
    /// Its key.
    pub(crate) key: Vec<u8>,
}

impl NamedRule {
    pub(crate) fn new(rule: RemoteRule) -> Self {
        let has_slots = rule.limits().any(|limit| {
            let metric = limit.metric();
            metric == tallygate_core::Metric::CONCURRENCY
        });
        Self {
            name: name_of(rule.tag()),
            has_slots,
            rule,
        }
    }

    /// The counters of a subject.
    pub(crate) fn account(&self, prefix: &str, subject: &[(&str, &str)]) -> Arc<Account> {
        let (mut labels, mut values) = (Sha256::new(), Sha256::new());
        values.update(self.name);
        for (label, value) in self.rule.labels(subject) {
            for text in [label, value] {
                labels.update(text.len().to_le_bytes());
                labels.update(text);
            }
            values.update(value.len().to_le_bytes());
            values.update(value);
        }
        let tag = u32::from_be_bytes(first(&labels.finalize()));
        Arc::new(self.named(prefix, tag, first(&values.finalize())))
    }

    /// The counters of a known name.
    pub(crate) fn named(&self, prefix: &str, tag: Tag, name: [u8; 16]) -> Account {
        Account {
            rule: self.clone(),
            tag,
            name,
            key: key(prefix, tag, b'a', &name),
        }
    }
}

impl Account {
    /// The key of the deadlines of what holds slots of it; none if it limits no concurrency.
    pub(crate) fn slots(&self, prefix: &str) -> Option<Vec<u8>> {
        self.rule
            .has_slots
            .then(|| key(prefix, self.tag, b'g', &self.name))
    }
}

/// A name of fixed length for a text.
pub(crate) fn name_of(text: &str) -> [u8; 8] {
    first(&Sha256::digest(text))
}

/// A new reservation's id, whose record is kept under `tag`.
pub(crate) fn new_id(tag: Tag) -> ReservationId {
    let random = u128::from_le_bytes(random()) >> 32;
    ReservationId::from_bits((u128::from(tag) << 96) | random)
}

/// Random bytes; in a simulation those of its seed.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[cfg(test)]
    if super::simulation::chance(&mut bytes) {
        return bytes;
    }
    getrandom::fill(&mut bytes).expect("invariant: the machine has a source of randomness");
    bytes
}

/// The tag under which a reservation's record is kept.
pub(crate) fn home(id: ReservationId) -> Tag {
    u32::try_from(id.bits() >> 96).unwrap_or(0)
}

/// The key of a reservation's record, or of the part of it that is kept under another tag.
pub(crate) fn record(prefix: &str, tag: Tag, id: ReservationId) -> Vec<u8> {
    let bytes = id.bits().to_be_bytes();
    key(prefix, tag, b'r', &bytes[4..])
}

/// All that the ledger of usage keeps is in one slot of a Cluster.
pub(crate) const LEDGER: Tag = 0x7573_6167;

/// The key of what the ledger needs to know of an open reservation.
pub(crate) fn memo(prefix: &str, id: ReservationId) -> Vec<u8> {
    key(prefix, LEDGER, b'm', &id.bits().to_be_bytes())
}

/// The key of the deadlines of all reservations that have such a memo.
pub(crate) fn memo_deadlines(prefix: &str) -> Vec<u8> {
    key(prefix, LEDGER, b'u', b"memos")
}

/// The reservation whose random part is this, with its record under `tag`.
pub(crate) fn id_of(tag: Tag, random: [u8; 12]) -> ReservationId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&tag.to_be_bytes());
    bytes[4..].copy_from_slice(&random);
    ReservationId::from_bits(u128::from_be_bytes(bytes))
}

/// The name of a subject's idempotency key, in whatever order its labels come.
pub(crate) fn idempotency(text: &str, subject: &[(&str, &str)]) -> [u8; 16] {
    let named = subject.iter().filter(|label| **label != AS_ASKED);
    let mut pairs: Vec<_> = named.copied().collect();
    pairs.sort_unstable();
    let mut hash = Sha256::new();
    hash.update(pairs.len().to_le_bytes());
    for (label, value) in pairs {
        for text in [label, value] {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
    }
    hash.update(text);
    first(&hash.finalize())
}

/// A key.
pub(crate) fn key(prefix: &str, tag: Tag, kind: u8, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(prefix.len() + 12 + name.len());
    key.extend_from_slice(prefix.as_bytes());
    key.extend_from_slice(b":{");
    let digit = |place: u32| b"0123456789abcdef"[(tag >> (28 - 4 * place)) as usize & 15];
    key.extend((0..8).map(digit));
    key.extend([b'}', kind]);
    key.extend_from_slice(name);
    key
}

/// A map by key. What a key ends by is the hash of a name or random, so that it needs no other hash.
pub(crate) type ByKey<K, T> = HashMap<K, T, BuildHasherDefault<Tail>>;

/// The last eight bytes of what was hashed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail(u64);

impl Hasher for Tail {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    /// The length of a key, which tells none from another.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| hash[at])
}
