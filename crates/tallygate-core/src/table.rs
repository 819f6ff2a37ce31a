//! The table of accounts: open addressing over whole accounts, so that finding one touches one place in memory.
//!
//! An account's home is its key's share of the table's length; it stands there or in one of the places after
//! it, without a gap (linear probing). Taking one out moves the next ones up. The table is
//! filled to four fifths and then grows by half, so that it takes at most 90 bytes an account.
use crate::account::{Account, Key};
use crate::num;

/// Accounts by key.
#[derive(Debug, Default)]
pub(crate) struct Table {
    places: Vec<Account>,
    len: usize,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the account of a key stands.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<usize> {
        let home = self.home(key.low);
        let (before, after) = self.places.split_at_checked(home)?;
        for (steps, account) in after.iter().enumerate() {
            if account.is(key) {
                return Some(home.saturating_add(steps));
            }
            if account.is_vacant() {
                return None;
            }
        }
        let around = before.iter().take_while(|account| !account.is_vacant());
        around
            .enumerate()
            .find(|(_, account)| account.is(key))
            .map(|(at, _)| at)
    }

    #[inline]
    pub(crate) fn get(&self, place: usize) -> Option<&Account> {
        self.places.get(place)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut Account> {
        self.places.get_mut(place)
    }

    /// Adds an account whose key is not there; answers its place.
    pub(crate) fn insert(&mut self, account: Account) -> Option<usize> {
        if self.len.saturating_mul(5) >= self.places.len().saturating_mul(4) {
            let half = self.places.len().checked_div(2).unwrap_or(0);
            self.resize(self.places.len().saturating_add(half).max(LEAST));
        }
        self.len = self.len.saturating_add(1);
        self.settle(account)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.places.iter().filter(|account| !account.is_vacant())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Account> {
        self.places
            .iter_mut()
            .filter(|account| !account.is_vacant())
    }

    /// Drops the accounts that `keep` does not want; answers how many.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Account) -> bool) -> usize {
        let before = self.len;
        self.len = 0;
        let mut places = std::mem::take(&mut self.places);
        for account in &mut places {
            match !account.is_vacant() && keep(account) {
                true => self.len = self.len.saturating_add(1),
                false => *account = Account::vacant(),
            }
        }
        if self.len < before {
            let wanted = room_for(self.len);
            let shrinks = wanted.saturating_mul(4) < places.len();
            let length = if shrinks { wanted } else { places.len() };
            self.refill(places, length);
        } else {
            self.places = places;
        }
        before.saturating_sub(self.len)
    }

    /// Puts accounts of different keys into a table that is empty.
    pub(crate) fn fill(&mut self, accounts: Vec<Account>) {
        if !accounts.is_empty() {
            self.len = accounts.len();
            self.refill(accounts, room_for(self.len));
        }
    }

    #[inline]
    fn home(&self, low: u64) -> usize {
        num::share(low, self.places.len())
    }

    fn resize(&mut self, length: usize) {
        let places = std::mem::take(&mut self.places);
        self.refill(places, length);
    }

    fn refill(&mut self, accounts: Vec<Account>, length: usize) {
        self.places = std::iter::repeat_with(Account::vacant)
            .take(length)
            .collect();
        for account in accounts.into_iter().filter(|account| !account.is_vacant()) {
            self.settle(account);
        }
    }

    /// Puts an account into the first vacant place from its home on.
    fn settle(&mut self, account: Account) -> Option<usize> {
        let home = self.home(account.low());
        let length = self.places.len();
        let around = (home..length).chain(0..home);
        let vacant = |at: &usize| self.places.get(*at).is_some_and(Account::is_vacant);
        let place = around.into_iter().find(vacant)?;
        *self.places.get_mut(place)? = account;
        Some(place)
    }
}

/// The length of a table for so many accounts and some more.
fn room_for(accounts: usize) -> usize {
    let more = accounts.checked_div(2).unwrap_or(0);
    accounts.saturating_add(more).max(LEAST)
}

/// The smallest table.
const LEAST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn key(low: u64) -> Key {
        Key {
            slot: 0,
            high: 9,
            low,
        }
    }

    /// Keys that share homes, ends of the table included, are found as long as they are there and not after.
    #[test]
    fn finds_exactly_what_was_put_in_and_not_dropped() {
        let mut table = Table::default();
        let mut known = HashSet::new();
        let mut low = 1u64;
        for round in 0..2_000u64 {
            low = low
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(round | 1);
            let crowded = if round.is_multiple_of(3) {
                u64::MAX - round
            } else {
                low
            };
            if known.insert(crowded) {
                let place = table.insert(Account::keyed(key(crowded)));
                assert_eq!(place, table.find(key(crowded)));
            }
            if round % 500 == 499 {
                let dropped = table.retain(|account| account.low() % 4 != 0);
                let before = known.len();
                known.retain(|low| low % 4 != 0);
                assert_eq!(dropped, before - known.len());
            }
            assert_eq!(table.len(), known.len());
        }
        assert!(known.iter().all(|low| table.find(key(*low)).is_some()));
        assert!((0..1_000).all(|low| known.contains(&low) == table.find(key(low)).is_some()));
    }
}
