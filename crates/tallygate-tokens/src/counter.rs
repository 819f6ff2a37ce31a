//! Counting texts and whole requests, with a memory of what was counted before.

use serde::Serialize;

use crate::answer;
use crate::call::Call;
use crate::dialect::{Endpoint, Method};
use crate::encoding::{Encoding, encoding_of};
use crate::memory::Memory;
use crate::output::per_mille_of;
use crate::plan::Group;
use crate::tokenizer::Tokenizer;

/// Counts texts and requests. Cheap to share (`Arc<Counter>`); vocabularies are loaded when they
/// are first needed, which takes up to a tenth of a second each.
#[derive(Debug)]
pub struct Counter {
    memory: Memory,
}

/// A number of tokens and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Tokens.
    pub tokens: u64,
    /// How they are known.
    pub method: Method,
}

impl Counter {
    /// A counter that remembers the counts of up to `cache_entries` messages (0: none; about 100
    /// bytes each) under a hash keyed by `seed`, which should be random so that nobody can choose
    /// messages that are taken for each other.
    pub fn new(seed: [u64; 2], cache_entries: usize) -> Self {
        Self {
            memory: Memory::new(seed, cache_entries),
        }
    }

    /// The tokens of a plain text.
    pub fn text(&self, model: &str, text: &str) -> Count {
        let encoding = encoding_of(model);
        let tokens = encoding.tokenizer().count(text);
        Count {
            tokens: scaled(encoding, tokens),
            method: encoding.method,
        }
    }

    /// The tokens of a plain text if they are at most `limit`; stops reading soon after the limit
    /// is passed.
    pub fn text_upto(&self, model: &str, text: &str, limit: u64) -> Option<u64> {
        let encoding = encoding_of(model);
        let unscaled = u128::from(limit) * 1_000 / u128::from(encoding.scale_per_mille.max(1));
        let unscaled = u64::try_from(unscaled).unwrap_or(u64::MAX);
        let tokens = encoding.tokenizer().count_upto(text, unscaled)?;
        Some(scaled(encoding, tokens))
    }

    /// The input tokens of a request, framing included.
    pub fn input(&self, call: &Call) -> Count {
        let encoding = encoding_of(call.model());
        let tokenizer = encoding.tokenizer();
        let plan = call.plan();
        let groups = plan.groups.iter().map(|group| {
            self.memory
                .count(encoding, group, || count_group(tokenizer, group))
        });
        let texts = groups.fold(0, u64::saturating_add);
        Count {
            tokens: plan.fixed.saturating_add(scaled(encoding, texts)),
            method: plan.method.and(encoding.method),
        }
    }

    /// A lower and an upper bound of [`Self::input`], found without counting: `remaining ≥ upper`
    /// admits and `remaining < lower` denies without a count.
    pub fn bounds(&self, call: &Call) -> (u64, u64) {
        let encoding = encoding_of(call.model());
        let tokenizer = encoding.tokenizer();
        let plan = call.plan();
        let texts = plan.groups.iter().flat_map(|group| &group.texts);
        let (low, high) = texts
            .map(|text| tokenizer.bounds(text))
            .fold((0, 0), |(low, high), (l, h)| (low + l, high + h));
        (
            plan.fixed.saturating_add(scaled(encoding, low)),
            plan.fixed.saturating_add(scaled(encoding, high)),
        )
    }

    /// Our own count of an answer's text.
    pub fn output(&self, model: &str, text: &str) -> u64 {
        self.text(model, text).tokens
    }

    /// Our own count of a whole answer, for one that tells no usage: its texts, reasoning and tool
    /// calls. `None` where the body is no JSON.
    pub fn output_of_body(&self, endpoint: Endpoint, model: &str, body: &[u8]) -> Option<u64> {
        let encoding = encoding_of(model);
        let texts = answer::texts(endpoint, body)?;
        let tokens = count_group(encoding.tokenizer(), &texts);
        Some(scaled(encoding, tokens))
    }
}

fn count_group(tokenizer: &dyn Tokenizer, group: &Group) -> u64 {
    group.texts.iter().map(|text| tokenizer.count(text)).sum()
}

fn scaled(encoding: Encoding, tokens: u64) -> u64 {
    per_mille_of(tokens, encoding.scale_per_mille)
}
