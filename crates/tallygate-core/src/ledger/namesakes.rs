//! The callers in line by idempotency key: when one of them is admitted, its namesakes need not wait.
use crate::num;
use hashbrown::HashTable;
use smallvec::SmallVec;

/// The places of the callers in line that gave an idempotency key.
#[derive(Debug, Default)]
pub(crate) struct Namesakes(HashTable<(u128, u32)>);

impl Namesakes {
    pub(crate) fn add(&mut self, name: u128, at: u32) {
        self.0
            .insert_unique(num::low64(name), (name, at), |(name, _)| num::low64(*name));
    }

    pub(crate) fn remove(&mut self, name: u128, at: u32) {
        let entry = self
            .0
            .find_entry(num::low64(name), |known| *known == (name, at));
        if let Ok(entry) = entry {
            entry.remove();
        }
    }

    /// The places of those who gave this key.
    pub(crate) fn of(&self, name: u128) -> SmallVec<[u32; 2]> {
        let known = self.0.iter_hash(num::low64(name));
        known
            .filter(|(known, _)| *known == name)
            .map(|(_, at)| *at)
            .collect()
    }
}
