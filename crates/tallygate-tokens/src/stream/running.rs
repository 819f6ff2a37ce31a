//! Counting an answer's text while it streams by.

use crate::encoding::{Encoding, encoding_of};
use crate::output::per_mille_of;
use crate::tokenizer::split;

/// A count of text that arrives in small deltas. Text is counted once, in blocks cut where a cut
/// does not change the count; what is not counted yet is estimated.
#[derive(Debug)]
pub(super) struct Running {
    encoding: Encoding,
    /// Tokens of all blocks, before scaling.
    counted: u64,
    /// The text of each part that is not counted yet.
    tails: Vec<(Part, String)>,
}

/// Which of the texts that grow side by side a delta belongs to: choice or block, and tool call.
pub(super) type Part = (u64, u64);

/// Uncounted text of this many bytes is counted.
const BLOCK: usize = 1_024;

/// Uncounted text without a place to cut is counted at this size all the same; it may cost a
/// token more than the whole.
const MAX_TAIL: usize = 16 * BLOCK;

/// Parts followed apart; deltas of further parts are counted with the last one.
const MAX_PARTS: usize = 16;

/// Bytes a token of text not counted yet.
const BYTES_A_TOKEN: u64 = 4;

impl Running {
    pub(super) fn new(model: &str) -> Self {
        Self {
            encoding: encoding_of(model),
            counted: 0,
            tails: Vec::new(),
        }
    }

    /// The model is known now; text from here on is counted as its.
    pub(super) fn set_model(&mut self, model: &str) {
        self.encoding = encoding_of(model);
    }

    pub(super) fn add(&mut self, part: Part, text: &str) {
        if text.is_empty() {
            return;
        }
        let at = self.tail_of(part);
        let tail = &mut self.tails[at].1;
        tail.push_str(text);
        if tail.len() < BLOCK {
            return;
        }
        let from = tail.len().saturating_sub(text.len().max(BLOCK));
        let safe = split::last_safe(tail.as_bytes(), from, tail.len());
        let cut = match safe {
            Some(cut) => cut,
            None if tail.len() >= MAX_TAIL => tail.len(),
            None => return,
        };
        self.counted += self.encoding.tokenizer().count(&tail[..cut]);
        tail.drain(..cut);
    }

    /// The tokens so far: blocks as counted, the rest estimated.
    pub(super) fn tokens(&self) -> u64 {
        let waiting: usize = self.tails.iter().map(|(_, tail)| tail.len()).sum();
        let waiting = (waiting as u64).div_ceil(BYTES_A_TOKEN);
        self.scaled(self.counted + waiting)
    }

    /// The tokens of all text, counted.
    pub(super) fn finish(&self) -> u64 {
        let tokenizer = self.encoding.tokenizer();
        let tails = self.tails.iter().map(|(_, tail)| tokenizer.count(tail));
        self.scaled(self.counted + tails.sum::<u64>())
    }

    fn tail_of(&mut self, part: Part) -> usize {
        if let Some(at) = self.tails.iter().position(|(held, _)| *held == part) {
            return at;
        }
        if self.tails.len() < MAX_PARTS {
            self.tails.push((part, String::new()));
        }
        self.tails.len() - 1
    }

    fn scaled(&self, tokens: u64) -> u64 {
        per_mille_of(tokens, self.encoding.scale_per_mille)
    }
}
