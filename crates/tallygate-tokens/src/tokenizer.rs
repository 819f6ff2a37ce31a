//! Counting the tokens of plain text.

mod classes;
mod merge;
mod pieces;
pub(crate) mod split;
mod vocabulary;

use std::sync::OnceLock;

use merge::Merger;
use pieces::{Cased, Contractions, Han, Split, Tail};
use tiktoken::CoreBpe;
use vocabulary::Vocabulary;

/// A tokenizer that counts. Special tokens written in the text (`<|endoftext|>`) are ordinary
/// text, as they are for a provider. Never panics; the time is linear in the text's length.
pub trait Tokenizer: Send + Sync {
    /// The number of tokens.
    fn count(&self, text: &str) -> u64;

    /// The number of tokens if it is at most `limit`, else `None`, found out soon after the limit
    /// is passed.
    fn count_upto(&self, text: &str, limit: u64) -> Option<u64>;

    /// A lower and an upper bound of the count, at a fraction of its cost.
    fn bounds(&self, text: &str) -> (u64, u64);
}

/// The tokenizer of an encoding by its public name; that of `o200k_base` for any other name.
pub(crate) fn of(name: &str) -> &'static dyn Tokenizer {
    let named = ENCODINGS.iter().find(|bpe| bpe.name == name);
    named.unwrap_or(&ENCODINGS[0])
}

/// The byte-pair encodings, loaded when they are first used.
static ENCODINGS: [Bpe; 13] = [
    Bpe::new("o200k_base", Split::Cased(O200K)),
    Bpe::new("cl100k_base", Split::Words { digits: 3 }),
    // Its special tokens differ from o200k's, its text does not.
    Bpe::new("o200k_harmony", Split::Cased(O200K)).stored_as("o200k_base"),
    Bpe::new("p50k_base", Split::Gpt2).with_hole(50_256),
    Bpe::new("r50k_base", Split::Gpt2),
    Bpe::new("llama3", Split::Words { digits: 3 }),
    Bpe::new("deepseek_v3", Split::DeepSeek),
    Bpe::new("qwen2", Split::Words { digits: 1 }),
    Bpe::new("mistral_v3", Split::Cased(TEKKEN)),
    Bpe::new("kimi_k2", Split::Cased(KIMI)).with_longest(256),
    Bpe::new("glm4", Split::Words { digits: 3 }).with_longest(512),
    Bpe::new("glm5", Split::Words { digits: 3 }).with_longest(512),
    Bpe::new("minimax_m2", Split::Cased(O200K)),
];

const O200K: Cased = Cased {
    digits: 3,
    contractions: Contractions::Joined,
    tail: Tail::NewlinesAndSlashes,
    han: Han::Mixed,
};

const TEKKEN: Cased = Cased {
    digits: 1,
    contractions: Contractions::Ignored,
    ..O200K
};

const KIMI: Cased = Cased {
    tail: Tail::Newlines,
    han: Han::Apart,
    ..O200K
};

/// A byte-pair encoding.
///
/// ASCII text, which is most text, is counted by the `tiktoken` crate in blocks cut at safe places.
/// The crate's time is not linear in every text (a run of a million equal signs, blanks beyond
/// ASCII, scripts its scanner does not know: up to minutes a megabyte), so all other text and long
/// pieces are counted here, with the crate's vocabulary.
struct Bpe {
    name: &'static str,
    /// The name the vocabulary is stored under.
    stored: &'static str,
    split: Split,
    /// An id that is no token although larger ones are.
    hole: Option<u32>,
    /// The longest token in bytes.
    longest: u64,
    vocabulary: OnceLock<Vocabulary>,
}

/// Bytes counted by the crate at once. A piece of this size is merged in well under 200 ns a byte.
const BLOCK: usize = 512;

/// Bytes counted here before ASCII is looked for again.
const STEP: usize = 96;

/// How the text ahead is to be counted.
enum Ahead {
    /// By the crate, up to a safe cut or the end.
    Plain(usize),
    /// Piece by piece, at least up to here.
    Pieces(usize),
}

impl Tokenizer for Bpe {
    fn count(&self, text: &str) -> u64 {
        self.count_upto(text, u64::MAX).unwrap_or(u64::MAX)
    }

    fn count_upto(&self, text: &str, limit: u64) -> Option<u64> {
        if self.bounds_by_length(text).0 > limit {
            return None;
        }
        let encoding = self.encoding()?;
        let mut pieces = None;
        let (mut tokens, mut at) = (0_u64, 0);
        while at < text.len() {
            let added = match ahead(text.as_bytes(), at) {
                Ahead::Plain(end) => {
                    let block = &text[at..end];
                    at = end;
                    encoding.count(block)
                }
                Ahead::Pieces(end) => {
                    let pieces = pieces.get_or_insert_with(|| Pieces::new(self, encoding));
                    pieces.count(text, &mut at, end)
                }
            };
            tokens += added as u64;
            if tokens > limit {
                return None;
            }
        }
        Some(tokens)
    }

    /// No token is longer than the longest and none is empty; a space after a sign or letter
    /// always begins a new piece, and every piece costs at least one token.
    fn bounds(&self, text: &str) -> (u64, u64) {
        let (low, high) = self.bounds_by_length(text);
        (low.max(split::least_pieces(text.as_bytes())), high)
    }
}

impl Bpe {
    const fn new(name: &'static str, split: Split) -> Self {
        Self {
            name,
            stored: name,
            split,
            hole: None,
            longest: 128,
            vocabulary: OnceLock::new(),
        }
    }

    const fn stored_as(mut self, name: &'static str) -> Self {
        self.stored = name;
        self
    }

    const fn with_hole(mut self, id: u32) -> Self {
        self.hole = Some(id);
        self
    }

    const fn with_longest(mut self, bytes: u64) -> Self {
        self.longest = bytes;
        self
    }

    fn encoding(&self) -> Option<&'static CoreBpe> {
        tiktoken::get_encoding(self.stored)
    }

    fn vocabulary(&self, encoding: &CoreBpe) -> &Vocabulary {
        self.vocabulary
            .get_or_init(|| Vocabulary::read(encoding, self.hole))
    }

    fn bounds_by_length(&self, text: &str) -> (u64, u64) {
        let bytes = text.len() as u64;
        (bytes.div_ceil(self.longest), bytes)
    }
}

/// Looks at the text from `at`, which is inside it.
fn ahead(text: &[u8], at: usize) -> Ahead {
    let end = (at + BLOCK).min(text.len());
    let block = &text[at..end];
    if !block.is_ascii() {
        let ascii = block.iter().take_while(|byte| byte.is_ascii()).count();
        let cut = split::last_safe(text, at, at + ascii);
        return cut.map_or(Ahead::Pieces(at + ascii + STEP), Ahead::Plain);
    }
    if end == text.len() {
        return Ahead::Plain(end);
    }
    let cut = split::last_safe(text, at, end);
    cut.map_or(Ahead::Pieces(end), Ahead::Plain)
}

/// Counting piece by piece.
struct Pieces<'a> {
    split: Split,
    vocabulary: &'a Vocabulary,
    merger: Merger,
}

impl<'a> Pieces<'a> {
    fn new(bpe: &'a Bpe, encoding: &CoreBpe) -> Self {
        Self {
            split: bpe.split,
            vocabulary: bpe.vocabulary(encoding),
            merger: Merger::default(),
        }
    }

    /// Counts whole pieces from `at` until `end` is reached or passed, and moves `at` there.
    fn count(&mut self, text: &str, at: &mut usize, end: usize) -> usize {
        let mut tokens = 0;
        while *at < end.min(text.len()) {
            let next = self.split.end(text, *at);
            tokens += self
                .merger
                .count(self.vocabulary, &text.as_bytes()[*at..next]);
            *at = next;
        }
        tokens
    }
}

#[cfg(test)]
mod tests;
