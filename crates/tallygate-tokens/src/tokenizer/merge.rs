//! Merging a piece's bytes into tokens, for counting.
//!
//! Of all neighbours whose bytes together are a token, those of the lowest rank are merged first,
//! of equals the leftmost. A long piece is merged in windows, so that its cost is linear: a
//! sequence of tokens is what merging the whole would give exactly if every two neighbours are
//! what merging these two alone would give. So a window is merged together with the last tokens
//! before it, and if the first of them comes out as it went in, all before it stand too.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::vocabulary::{NO_RANK, Vocabulary};

/// Counts the tokens of pieces; keeps its memory from one to the next.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// Where the part after the one that begins here begins.
    next: Vec<u32>,
    /// Where the part before begins.
    previous: Vec<u32>,
    /// The rank of the part that begins here together with the next one.
    ranks: Vec<u32>,
    /// Rank and place of the merges to be made; outdated ones stay in until they are met.
    heap: BinaryHeap<Reverse<(u32, u32)>>,
    /// Where the tokens of the window end, in it.
    window: Vec<usize>,
    /// Where the tokens of a long piece end, as far as it is merged.
    ends: Vec<usize>,
}

/// Bytes of a long piece merged at once.
const WINDOW: usize = 768;

/// Tokens merged again with the next window.
const CARRY: usize = 2;

/// Pieces up to this length are merged by looking through all neighbours each time.
const SHORT: usize = 24;

impl Merger {
    /// The number of tokens of a piece.
    pub(super) fn count(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> usize {
        match piece.len() {
            0 | 1 => piece.len(),
            _ if vocabulary.rank(piece) != NO_RANK => 1,
            2 => 2,
            3..=SHORT => count_short(vocabulary, piece),
            length if length <= 2 * WINDOW => {
                self.merge(vocabulary, piece);
                self.window.len()
            }
            _ => self.count_long(vocabulary, piece),
        }
    }

    fn count_long(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> usize {
        self.ends.clear();
        let mut done = 0;
        while done < piece.len() {
            let upto = (done + WINDOW).min(piece.len());
            self.extend(vocabulary, &piece[..upto]);
            done = upto;
        }
        self.ends.len()
    }

    /// Merges the bytes of `piece` that no token in `ends` covers, and as many tokens before them
    /// as these bytes can have an effect on.
    fn extend(&mut self, vocabulary: &Vocabulary, piece: &[u8]) {
        let mut carry = CARRY;
        loop {
            let kept = self.ends.len().saturating_sub(carry);
            let start = if kept == 0 { 0 } else { self.ends[kept - 1] };
            self.merge(vocabulary, &piece[start..]);
            let stands = self.window.first().map(|end| start + end);
            if kept == 0 || stands == self.ends.get(kept).copied() {
                self.ends.truncate(kept);
                self.ends.extend(self.window.iter().map(|end| start + end));
                return;
            }
            carry *= 2;
        }
    }

    /// Merges all of `bytes`; the ends of the tokens are in `window`.
    fn merge(&mut self, vocabulary: &Vocabulary, bytes: &[u8]) {
        self.set_up(vocabulary, bytes);
        while let Some(Reverse((rank, at))) = self.heap.pop() {
            let at = at as usize;
            if self.ranks[at] == rank {
                self.join(vocabulary, bytes, at);
            }
        }
        self.window.clear();
        let mut at = 0;
        while at < bytes.len() {
            at = self.next[at] as usize;
            self.window.push(at);
        }
    }

    fn set_up(&mut self, vocabulary: &Vocabulary, bytes: &[u8]) {
        let length = bytes.len() as u32;
        self.next.clear();
        self.next.extend(1..=length);
        self.previous.clear();
        self.previous
            .extend((0..length).map(|at| at.saturating_sub(1)));
        self.ranks.clear();
        let pairs = bytes.windows(2);
        self.ranks
            .extend(pairs.map(|pair| vocabulary.pair_rank(pair[0], pair[1])));
        self.ranks.push(NO_RANK);
        let mut merges = std::mem::take(&mut self.heap).into_vec();
        merges.clear();
        let ranks = self.ranks.iter().zip(0..);
        merges.extend(
            ranks
                .filter(|(rank, _)| **rank != NO_RANK)
                .map(|(r, at)| Reverse((*r, at))),
        );
        self.heap = merges.into();
    }

    /// Merges the part at `at` with the next one, and finds the new ranks of the merged part and
    /// of the one before it.
    fn join(&mut self, vocabulary: &Vocabulary, bytes: &[u8], at: usize) {
        let gone = self.next[at] as usize;
        let after = self.next[gone] as usize;
        self.ranks[gone] = NO_RANK;
        self.next[at] = after as u32;
        if after < bytes.len() {
            self.previous[after] = at as u32;
            let end = self.next[after] as usize;
            self.set_rank(at, vocabulary.rank(&bytes[at..end]));
        } else {
            self.ranks[at] = NO_RANK;
        }
        if at > 0 {
            let before = self.previous[at] as usize;
            self.set_rank(before, vocabulary.rank(&bytes[before..after]));
        }
    }

    fn set_rank(&mut self, at: usize, rank: u32) {
        self.ranks[at] = rank;
        if rank != NO_RANK {
            self.heap.push(Reverse((rank, at as u32)));
        }
    }
}

fn count_short(vocabulary: &Vocabulary, piece: &[u8]) -> usize {
    let mut starts = [0; SHORT + 1];
    let mut ranks = [NO_RANK; SHORT + 1];
    let mut parts = piece.len();
    for (at, start) in starts.iter_mut().enumerate() {
        *start = at;
    }
    for (rank, pair) in ranks.iter_mut().zip(piece.windows(2)) {
        *rank = vocabulary.pair_rank(pair[0], pair[1]);
    }
    loop {
        let lowest = (0..parts).min_by_key(|&at| ranks[at]).unwrap_or(0);
        if ranks[lowest] == NO_RANK {
            return parts;
        }
        starts.copy_within(lowest + 2..=parts, lowest + 1);
        ranks.copy_within(lowest + 1..parts, lowest);
        parts -= 1;
        for at in lowest.saturating_sub(1)..=lowest {
            let after_next = starts.get(at + 2).filter(|_| at + 2 <= parts);
            ranks[at] = after_next.map_or(NO_RANK, |&end| vocabulary.rank(&piece[starts[at]..end]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_piece_is_merged_as_if_at_once() {
        let encoding = tiktoken::get_encoding("o200k_base").unwrap();
        let vocabulary = Vocabulary::read(encoding, None);
        let mut merger = Merger::default();
        let mut state = 9_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        for alphabet in [
            "a",
            "ab",
            "=-",
            "etaoinshr",
            "abcdefghijklmnopqrstuvwxyz",
            "漢字仮名",
            "\n ",
        ] {
            let letters: Vec<char> = alphabet.chars().collect();
            for length in [500, 1_025, 1_500, 4_000] {
                let piece: String = (0..length)
                    .map(|_| letters[random(letters.len() as u64) as usize])
                    .collect();
                let piece = piece.as_bytes();
                merger.merge(&vocabulary, piece);
                let whole = merger.window.clone();
                let counted = merger.count_long(&vocabulary, piece);
                assert_eq!(merger.ends, whole, "{alphabet} {length}");
                assert_eq!(counted, whole.len());
            }
        }
    }
}
