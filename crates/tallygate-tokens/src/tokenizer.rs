//! Counting the tokens of plain text.

pub(crate) mod split;

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

/// The tokenizer of an encoding by its name; `o200k_base` for a name that is none.
pub(crate) fn of(name: &str) -> &'static dyn Tokenizer {
    let bpe = tiktoken::get_encoding(name).or_else(|| tiktoken::get_encoding("o200k_base"));
    bpe.map_or(&Bytes as &dyn Tokenizer, |bpe| bpe)
}

impl Tokenizer for tiktoken::CoreBpe {
    fn count(&self, text: &str) -> u64 {
        Self::count(self, text) as u64
    }

    fn count_upto(&self, text: &str, limit: u64) -> Option<u64> {
        let tokens = Tokenizer::count(self, text);
        (tokens <= limit).then_some(tokens)
    }

    fn bounds(&self, text: &str) -> (u64, u64) {
        (text.len().div_ceil(128) as u64, text.len() as u64)
    }
}

/// Counts bytes: what stands where no vocabulary was compiled in.
struct Bytes;

impl Tokenizer for Bytes {
    fn count(&self, text: &str) -> u64 {
        text.len() as u64
    }

    fn count_upto(&self, text: &str, limit: u64) -> Option<u64> {
        (self.count(text) <= limit).then(|| self.count(text))
    }

    fn bounds(&self, text: &str) -> (u64, u64) {
        (self.count(text), self.count(text))
    }
}
