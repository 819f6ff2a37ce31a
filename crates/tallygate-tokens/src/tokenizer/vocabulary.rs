//! A vocabulary as a table from bytes to ranks.

use tiktoken::CoreBpe;

/// The tokens of a vocabulary by their bytes. A token's rank says how early it is merged.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// The ranks of tokens of two bytes; most lookups are for these.
    pairs: Box<[u32]>,
    /// The bytes of all tokens, one after another in the order of `starts`.
    bytes: Box<[u8]>,
    /// Where each token's bytes begin, and one more for the end of the last.
    starts: Box<[u32]>,
    ranks: Box<[u32]>,
    /// Open addressing: the upper half of a key's hash, and the number of its token plus one.
    tags: Box<[u32]>,
    tokens: Box<[u32]>,
    longest: usize,
}

/// The rank of what is no token: merged last, that is never.
pub(super) const NO_RANK: u32 = u32::MAX;

impl Vocabulary {
    /// Reads the tokens of an encoding. `hole`: an id below the largest that is no token.
    pub(super) fn read(encoding: &CoreBpe, hole: Option<u32>) -> Self {
        let size = encoding.vocab_size();
        let ids = (0..).filter(|&id| Some(id) != hole).take(size);
        let mut bytes = Vec::with_capacity(8 * size);
        let mut starts = Vec::with_capacity(size + 1);
        let mut ranks = Vec::with_capacity(size);
        for id in ids {
            starts.push(offset(bytes.len()));
            bytes.extend_from_slice(&encoding.decode(&[id]));
            ranks.push(id);
        }
        starts.push(offset(bytes.len()));
        Self::index(bytes, starts, ranks)
    }

    fn index(bytes: Vec<u8>, starts: Vec<u32>, ranks: Vec<u32>) -> Self {
        let slots = (2 * ranks.len()).next_power_of_two();
        let mut vocabulary = Self {
            pairs: vec![NO_RANK; 1 << 16].into(),
            bytes: bytes.into(),
            starts: starts.into(),
            ranks: ranks.into(),
            tags: vec![0; slots].into(),
            tokens: vec![0; slots].into(),
            longest: 1,
        };
        for token in 0..vocabulary.ranks.len() {
            vocabulary.enter(token);
        }
        vocabulary
    }

    fn enter(&mut self, token: usize) {
        let key = self.key(token);
        let length = key.len();
        if let &[first, second] = key {
            self.pairs[pair(first, second)] = self.ranks[token];
            return;
        }
        let (tag, mut slot) = place(key, self.tags.len());
        self.longest = self.longest.max(length);
        while self.tokens[slot] != 0 {
            slot = (slot + 1) & (self.tags.len() - 1);
        }
        self.tags[slot] = tag;
        self.tokens[slot] = offset(token + 1);
    }

    /// The longest token's length in bytes.
    #[cfg(test)]
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The rank of a token, [`NO_RANK`] if there is none of these bytes.
    pub(super) fn rank(&self, key: &[u8]) -> u32 {
        if let &[first, second] = key {
            return self.pair_rank(first, second);
        }
        if key.len() > self.longest {
            return NO_RANK;
        }
        let (tag, mut slot) = place(key, self.tags.len());
        loop {
            match self.tokens[slot] {
                0 => return NO_RANK,
                token if self.tags[slot] == tag => {
                    let token = token as usize - 1;
                    if self.key(token) == key {
                        return self.ranks[token];
                    }
                }
                _ => {}
            }
            slot = (slot + 1) & (self.tags.len() - 1);
        }
    }

    pub(super) fn pair_rank(&self, first: u8, second: u8) -> u32 {
        self.pairs[pair(first, second)]
    }

    fn key(&self, token: usize) -> &[u8] {
        &self.bytes[self.starts[token] as usize..self.starts[token + 1] as usize]
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// Vocabularies are far below 2^32 bytes and tokens.
fn offset(number: usize) -> u32 {
    u32::try_from(number).expect("invariant: vocabularies compiled in are a few megabytes")
}

/// A key's tag and its first slot. Speed matters and secrecy does not: the keys are fixed.
fn place(key: &[u8], slots: usize) -> (u32, usize) {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = key.len() as u64;
    let mut words = key.chunks_exact(8);
    for word in &mut words {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        hash = (hash.rotate_left(29) ^ word).wrapping_mul(FACTOR);
    }
    let rest = words.remainder();
    let rest = rest
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u64::from(byte));
    hash = (hash.rotate_left(29) ^ rest).wrapping_mul(FACTOR);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(FACTOR);
    ((hash >> 32) as u32, (hash >> 16) as usize & (slots - 1))
}
