//! A hash table of which a copy shares all but the parts that are changed in it.
use crate::num;
use hashbrown::HashTable;
use std::sync::Arc;

/// What was put in, by hashes that the caller makes.
#[derive(Debug, Clone)]
pub(crate) struct Shared<T> {
    parts: Vec<Arc<HashTable<(u64, T)>>>,
}

/// Over how many parts all is spread: a change copies one of them.
const PARTS: usize = 64;

impl<T> Default for Shared<T> {
    fn default() -> Self {
        let empty = Arc::new(HashTable::new());
        Self {
            parts: vec![empty; PARTS],
        }
    }
}

impl<T: Clone> Shared<T> {
    /// What was put in by this hash and is the one wanted.
    pub(crate) fn get(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let part = self.parts.get(part_of(hash))?;
        let found = part.find(hash, |(known, one)| *known == hash && is_it(one));
        found.map(|(_, one)| one)
    }

    /// The same to be changed, put in first if it is not there.
    pub(crate) fn get_or_put(
        &mut self,
        hash: u64,
        is_it: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Option<&mut T> {
        let part = Arc::make_mut(self.parts.get_mut(part_of(hash))?);
        let wanted = |(known, one): &(u64, T)| *known == hash && is_it(one);
        let entry = part.entry(hash, wanted, |(hash, _)| *hash);
        let (_, one) = entry.or_insert_with(|| (hash, make())).into_mut();
        Some(one)
    }
}

/// By bits of a hash that the table of a part makes the least of.
fn part_of(hash: u64) -> usize {
    num::index(num::low32(hash >> 32)) & PARTS.wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(table: &mut Shared<(u64, u64)>, key: u64, value: u64) {
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) & !0xFF;
        let one = table.get_or_put(hash, |(known, _)| *known == key, || (key, 0));
        one.unwrap().1 = value;
    }

    fn get(table: &Shared<(u64, u64)>, key: u64) -> Option<u64> {
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) & !0xFF;
        let found = table.get(hash, |(known, _)| *known == key);
        found.map(|(_, value)| *value)
    }

    #[test]
    fn a_copy_is_not_changed_by_what_is_put_into_the_other() {
        let mut one = Shared::default();
        (0..1_000).for_each(|key| put(&mut one, key, key));
        let mut other = one.clone();
        put(&mut other, 7, 70);
        put(&mut other, 1_000, 1);
        assert_eq!((get(&one, 7), get(&one, 1_000)), (Some(7), None));
        assert_eq!((get(&other, 7), get(&other, 1_000)), (Some(70), Some(1)));
        assert!((8..1_000).all(|key| get(&other, key) == Some(key)));
        let apart = one.parts.iter().zip(&other.parts);
        let apart = apart.filter(|(one, other)| !Arc::ptr_eq(one, other));
        assert!(apart.count() <= 2, "all else is shared");
    }

    #[test]
    fn what_shares_a_hash_is_told_apart() {
        let mut table: Shared<(u64, u64)> = Shared::default();
        for key in 0..50 {
            let one = table.get_or_put(9, |(known, _)| *known == key, || (key, key));
            assert_eq!(one.map(|one| one.0), Some(key));
        }
        for key in 0..50 {
            assert_eq!(table.get(9, |(known, _)| *known == key), Some(&(key, key)));
        }
        assert_eq!(table.get(9, |(known, _)| *known == 50), None);
    }
}
