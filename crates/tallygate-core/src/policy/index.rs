//! Finding the rules of a subject without looking at all of them.
//!
//! A rule that demands certain texts of a label is entered by each of them, and found by subjects that have one. Of several such labels
//! it is entered by the one that fewest rules were entered by: then what a subject finds is seldom more than applies to it. A rule
//! that demands nothing but patterns is looked at for everybody. What is found is only what may apply: whether it does, its rule says.
use super::CompiledRule;
use super::shared::Shared;
use crate::num;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;
use std::hash::Hasher;
use std::sync::Arc;

/// Places of rules in a policy.
pub(crate) type Places = SmallVec<[u32; 16]>;

/// The rules of a policy by name and by what they demand. A copy shares most of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    by_name: Shared<(Arc<str>, u32)>,
    by_pair: Shared<Pair>,
    /// The labels of all pairs, sorted.
    labels: Vec<Arc<str>>,
    /// The places of rules that no pair leads to, in their order.
    others: Vec<u32>,
}

/// The rules that are found by a label's value.
#[derive(Debug, Clone)]
struct Pair {
    label: Arc<str>,
    value: Arc<str>,
    places: SmallVec<[u32; 2]>,
}

impl Pair {
    fn is(&self, label: &str, value: &str) -> bool {
        *self.value == *value && *self.label == *label
    }
}

impl Index {
    /// The index of all these rules.
    pub(crate) fn new(rules: &[Arc<CompiledRule>]) -> Self {
        let mut index = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            index.add(rule, num::index32(place));
        }
        index
    }

    /// Enters a rule that stands after all that are entered.
    pub(crate) fn add(&mut self, rule: &CompiledRule, place: u32) {
        let name = rule.name();
        self.by_name.get_or_put(
            hash(name, ""),
            |(known, _)| **known == *name,
            || (Arc::from(name), place),
        );
        let demands = rule.exact_demands();
        let rarest = demands.min_by_key(|(label, values)| self.entered(label, values));
        match rarest {
            Some((label, values)) => self.enter(label, &values, place),
            None => self.others.push(place),
        }
    }

    /// Where the rule of this name stands.
    pub(crate) fn place_of(&self, name: &str) -> Option<usize> {
        let found = self
            .by_name
            .get(hash(name, ""), |(known, _)| **known == *name);
        found.map(|(_, place)| num::index(*place))
    }

    /// The places of the rules that may apply to a subject, each once, in their order.
    pub(crate) fn candidates(&self, subject: &[(&str, &str)]) -> Places {
        let mut places = Places::from_slice(&self.others);
        for (label, value) in subject {
            if self.is_indexed(label) {
                places.extend_from_slice(self.places(label, value));
            }
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    fn is_indexed(&self, label: &str) -> bool {
        let found = self.labels.binary_search_by(|known| (**known).cmp(label));
        found.is_ok()
    }

    fn places(&self, label: &str, value: &str) -> &[u32] {
        let pair = self
            .by_pair
            .get(hash(label, value), |pair| pair.is(label, value));
        pair.map_or(&[], |pair| &pair.places)
    }

    /// How many rules a subject finds at most that has one of these values.
    fn entered(&self, label: &str, values: &[&str]) -> usize {
        let lengths = values.iter().map(|value| self.places(label, value).len());
        lengths.max().unwrap_or(0)
    }

    fn enter(&mut self, label: &str, values: &[&str], place: u32) {
        let label = self.label(label);
        for value in values {
            let pair = self.by_pair.get_or_put(
                hash(&label, value),
                |pair| pair.is(&label, value),
                || Pair {
                    label: label.clone(),
                    value: Arc::from(*value),
                    places: SmallVec::new(),
                },
            );
            if let Some(pair) = pair {
                pair.places.push(place);
            }
        }
    }

    /// A label as it stands among all.
    fn label(&mut self, label: &str) -> Arc<str> {
        match self.labels.binary_search_by(|known| (**known).cmp(label)) {
            Ok(at) => self.labels.get(at).cloned().unwrap_or_default(),
            Err(at) => {
                let label: Arc<str> = Arc::from(label);
                self.labels.insert(at, label.clone());
                label
            }
        }
    }
}

/// The hash has no secret: whoever chooses texts that share a place makes a lookup no slower than looking at all rules.
fn hash(label: &str, value: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(label.as_bytes());
    hasher.write_u8(0xFF);
    hasher.write(value.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests;
