//! What calls of a kind produced lately, to say how much to hold for the next one.

mod sketch;

use std::collections::BTreeMap;

use crate::dialect::Endpoint;
use sketch::Sketch;

/// The kind of a call, as far as its output depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputClass<'a> {
    /// The model that answers.
    pub model: &'a str,
    /// Who asks.
    pub tenant: &'a str,
    /// The operation.
    pub endpoint: Endpoint,
}

/// Learns the output of calls by (model, tenant, endpoint, power of two of the input).
///
/// Every key holds a quantile sketch (a DDSketch with logarithmic buckets of at most 3.2 %) whose
/// weights halve each time [`HALF_LIFE`] observations have come, so it follows what happens
/// *lately*. Under [`MIN_SAMPLES`] observations a key is not trusted and a wider one answers: the
/// tenant's calls of any size, then the model's, then all calls. Integer arithmetic only: the same
/// observations give the same answers everywhere.
#[derive(Clone, Debug)]
pub struct Learner {
    recent: Sketches,
    older: Sketches,
    keys_each: usize,
}

type Sketches = BTreeMap<Box<[u8]>, Sketch>;

/// Observations under which a key is not trusted.
pub const MIN_SAMPLES: u64 = 20;

/// Observations of a key after which the weight of what it had seen before is halved.
pub const HALF_LIFE: u64 = 512;

impl Learner {
    /// A learner of at most `max_keys` keys (at least 8): of more than that, the ones not observed
    /// for longest are forgotten. A key takes 5 KiB at most, usually well under one.
    pub fn new(max_keys: usize) -> Self {
        Self {
            recent: BTreeMap::new(),
            older: BTreeMap::new(),
            keys_each: (max_keys / 2).max(SCOPES.len()),
        }
    }

    /// A call of this class with `input` tokens produced `output` tokens.
    pub fn observe(&mut self, class: &OutputClass<'_>, input: u64, output: u64) {
        for scope in SCOPES {
            self.entry(key(scope, class, input)).observe(output);
        }
    }

    /// The quantile (950 per mille is the 95th percentile) of the output of calls like this one;
    /// `None` while nothing near enough has been seen [`MIN_SAMPLES`] times.
    pub fn quantile(&self, class: &OutputClass<'_>, input: u64, per_mille: u32) -> Option<u64> {
        SCOPES.iter().find_map(|&scope| {
            let sketch = self.get(&key(scope, class, input))?;
            (sketch.samples() >= MIN_SAMPLES).then(|| sketch.quantile(per_mille))?
        })
    }

    /// Adds what another learner has seen. Order does not matter, apart from which keys are
    /// forgotten when there are too many.
    pub fn merge(&mut self, other: &Self) {
        for (key, sketch) in other.older.iter().chain(&other.recent) {
            self.entry(key.clone()).merge(sketch);
        }
    }

    /// How many keys are held.
    pub fn keys(&self) -> usize {
        self.recent.len() + self.older.len()
    }

    fn get(&self, key: &[u8]) -> Option<&Sketch> {
        self.recent.get(key).or_else(|| self.older.get(key))
    }

    /// The sketch of a key, now among the recent ones. When these are too many they become the
    /// older ones, and the older ones are forgotten.
    fn entry(&mut self, key: Box<[u8]>) -> &mut Sketch {
        if !self.recent.contains_key(&key) {
            let sketch = self.older.remove(&key).unwrap_or_default();
            if self.recent.len() >= self.keys_each {
                self.older = std::mem::take(&mut self.recent);
            }
            self.recent.insert(key.clone(), sketch);
        }
        self.recent.entry(key).or_default()
    }
}

/// What a key speaks for, from the narrowest to the widest.
#[derive(Clone, Copy)]
enum Scope {
    Size,
    Tenant,
    Model,
    Global,
}

const SCOPES: [Scope; 4] = [Scope::Size, Scope::Tenant, Scope::Model, Scope::Global];

/// A key's bytes: every text is preceded by its length, so no two keys are spelt alike.
fn key(scope: Scope, class: &OutputClass<'_>, input: u64) -> Box<[u8]> {
    let mut key = Vec::with_capacity(24 + class.model.len() + class.tenant.len());
    let endpoint = class.endpoint.name();
    let parts: &[&str] = match scope {
        Scope::Size | Scope::Tenant => &[class.model, endpoint, class.tenant],
        Scope::Model => &[class.model],
        Scope::Global => &[],
    };
    for part in parts {
        key.extend_from_slice(&part.len().to_le_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    if let Scope::Size = scope {
        let log2 = u64::BITS - input.leading_zeros();
        key.extend_from_slice(&log2.to_le_bytes());
    }
    key.into()
}
