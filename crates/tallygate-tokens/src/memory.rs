//! A bounded memory of message counts.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::encoding::Encoding;
use crate::plan::Group;

/// Remembers the counts of groups of texts under a keyed 128-bit hash: without the key nobody can
/// write two messages that are taken for each other. Split into shards, so that threads seldom
/// meet. Holds no text.
#[derive(Debug)]
pub(crate) struct Memory {
    key: [u64; 2],
    shards: [Mutex<Shard>; SHARDS],
    /// Entries of each half of a shard.
    half: usize,
}

const SHARDS: usize = 16;

/// Groups shorter than this are counted faster than they are found.
const LEAST_BYTES: usize = 128;

/// The counts used lately, and those used before. When the former are too many they become the
/// latter, which are forgotten.
#[derive(Debug, Default)]
struct Shard {
    recent: Counts,
    older: Counts,
}

type Counts = HashMap<u128, u64, BuildHasherDefault<Folded>>;

impl Memory {
    /// A memory of at most `entries` counts; 0 remembers nothing.
    pub(crate) fn new(key: [u64; 2], entries: usize) -> Self {
        Self {
            key,
            shards: Default::default(),
            half: entries / (2 * SHARDS),
        }
    }

    /// The count of a group: remembered, or found by `count` and remembered.
    pub(crate) fn count(
        &self,
        encoding: Encoding,
        group: &Group,
        count: impl FnOnce() -> u64,
    ) -> u64 {
        if self.half == 0 || group.bytes() < LEAST_BYTES {
            return count();
        }
        let hash = self.hash(encoding, group);
        if let Some(tokens) = self.shard(hash).find(hash, self.half) {
            return tokens;
        }
        let tokens = count();
        self.shard(hash).enter(hash, tokens, self.half);
        tokens
    }

    fn hash(&self, encoding: Encoding, group: &Group) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        for text in std::iter::once(encoding.name).chain(group.texts.iter().map(|text| &**text)) {
            hasher.write(&text.len().to_le_bytes());
            hasher.write(text.as_bytes());
        }
        hasher.finish128().as_u128()
    }

    /// A shard is only ever changed by whole insertions, so one that a panic left is sound.
    fn shard(&self, hash: u128) -> MutexGuard<'_, Shard> {
        let at = (hash >> 64) as usize % SHARDS;
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn find(&mut self, hash: u128, half: usize) -> Option<u64> {
        if let Some(tokens) = self.recent.get(&hash) {
            return Some(*tokens);
        }
        let tokens = self.older.remove(&hash)?;
        self.enter(hash, tokens, half);
        Some(tokens)
    }

    fn enter(&mut self, hash: u128, tokens: u64, half: usize) {
        if self.recent.len() >= half {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(hash, tokens);
    }
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::encoding_of;

    fn group(text: &str) -> Group {
        let mut group = Group::default();
        group.push(text);
        group.push("x".repeat(LEAST_BYTES));
        group
    }

    fn held(memory: &Memory) -> usize {
        let shards = memory.shards.iter().map(|shard| shard.lock().unwrap());
        shards
            .map(|shard| shard.recent.len() + shard.older.len())
            .sum()
    }

    #[test]
    fn a_group_is_counted_once() {
        let memory = Memory::new([1, 2], 64);
        let encoding = encoding_of("gpt-4o");
        assert_eq!(memory.count(encoding, &group("a"), || 7), 7);
        assert_eq!(memory.count(encoding, &group("a"), || panic!("known")), 7);
        assert_eq!(memory.count(encoding, &group("b"), || 8), 8);
        assert_eq!(memory.count(encoding_of("gpt-4"), &group("a"), || 9), 9);
    }

    #[test]
    fn texts_are_told_apart_however_they_are_cut() {
        let memory = Memory::new([1, 2], 64);
        let encoding = encoding_of("gpt-4o");
        let text = "y".repeat(LEAST_BYTES);
        let mut cut = Group::default();
        cut.push(&text[..60]);
        cut.push(&text[60..]);
        let mut whole = Group::default();
        whole.push(text);
        assert_eq!(memory.count(encoding, &cut, || 1), 1);
        assert_eq!(memory.count(encoding, &whole, || 2), 2);
    }

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        for entries in [0, 31, 32, 100, 1_000] {
            let memory = Memory::new([3, 4], entries);
            let encoding = encoding_of("gpt-4o");
            for number in 0..3_000 {
                memory.count(encoding, &group(&number.to_string()), || number);
                assert!(held(&memory) <= entries, "{} of {entries}", held(&memory));
            }
        }
        let memory = Memory::new([3, 4], 1_000);
        let encoding = encoding_of("gpt-4o");
        memory.count(encoding, &group("kept"), || 5);
        for number in 0..5_000 {
            memory.count(encoding, &group(&number.to_string()), || number);
            memory.count(encoding, &group("kept"), || {
                panic!("forgotten after {number}")
            });
        }
    }
}
