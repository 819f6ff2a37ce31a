//! Denials remembered: who was told "not before then" is told so again without asking the store.
//!
//! What is remembered are the counters as the denial found them, so that another demand of the same subject is judged
//! too. Others' charges since can only make a wait longer; what makes it shorter is heard: the store tells on a channel
//! when something was given back on a counter that somebody was denied for. A message that was lost costs [`MAX_AGE`].
use super::desk::views;
use super::names::Account;
use super::sheet::Sheet;
use super::store::Errand;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::remote::{self, Block, Judgement};
use tallygate_core::{Decision, Time};
use tokio::time::Instant;

/// How long a denial is believed at most.
const MAX_AGE: Duration = Duration::from_secs(1);

/// How many counters are remembered; past it all are forgotten.
const MOST: usize = 65_536;

/// The counters that somebody was denied for lately, by their account's key.
#[derive(Default)]
pub(crate) struct Denials(Mutex<Known>);

/// How often something was given back before a question was asked: an answer that was overtaken is not remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

/// Over how many numbers the accounts are spread that count what was given back.
const SPREAD: usize = 256;

struct Known {
    by_key: HashMap<Vec<u8>, (Sheet, Instant)>,
    given_back: [u64; SPREAD],
    /// Whether messages are heard.
    hearing: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            given_back: [0; SPREAD],
            hearing: false,
        }
    }
}

impl Known {
    fn mark(&self, accounts: &[Arc<Account>]) -> Mark {
        let numbers = accounts
            .iter()
            .map(|account| self.given_back[spread(&account.key)]);
        Mark(numbers.fold(0, u64::wrapping_add))
    }
}

fn spread(key: &[u8]) -> usize {
    key.last().map_or(0, |byte| usize::from(*byte)) % SPREAD
}

impl Denials {
    /// To be taken before the store is asked.
    pub(crate) fn mark(&self, accounts: &[Arc<Account>]) -> Mark {
        self.0.lock().mark(accounts)
    }

    /// The denial of a demand, if all its counters are known and have no room yet.
    pub(crate) fn decide(&self, errand: &Errand, now: Time) -> Option<Decision> {
        Some(remote::denial(self.blocks(errand, now)?, now))
    }

    /// What is known to deny a demand.
    pub(crate) fn blocks(&self, errand: &Errand, now: Time) -> Option<Vec<Block>> {
        if errand.ask.name.is_some() {
            return None;
        }
        let sheets = self.sheets(&errand.ask.accounts)?;
        let views = views(&errand.ask.accounts, &sheets);
        match remote::judge(&views, &errand.ask.demand, now) {
            Judgement::Blocked(blocks) => Some(blocks),
            _ => None,
        }
    }

    /// An account of a demand that is known to have no room for it, whatever is known of the others.
    pub(crate) fn full(&self, errand: &Errand, now: Time) -> Option<Arc<Account>> {
        let is_full = |account: &&Arc<Account>| {
            let account = std::slice::from_ref(*account);
            let Some(sheets) = self.sheets(account) else {
                return false;
            };
            let judged = remote::judge(&views(account, &sheets), &errand.ask.demand, now);
            matches!(judged, Judgement::Blocked(_))
        };
        errand.ask.accounts.iter().find(is_full).cloned()
    }

    fn sheets(&self, accounts: &[Arc<Account>]) -> Option<Vec<Sheet>> {
        let known = self.0.lock();
        if known.by_key.is_empty() {
            return None;
        }
        let fresh = |account: &Arc<Account>| {
            let (sheet, since) = known.by_key.get(&account.key)?;
            (since.elapsed() < MAX_AGE).then(|| sheet.clone())
        };
        accounts.iter().map(fresh).collect()
    }

    /// Remembers the counters that a demand was denied for.
    pub(crate) fn remember(&self, errand: &Errand, sheets: &[Sheet], mark: Mark) {
        let mut known = self.0.lock();
        if !known.hearing || known.mark(&errand.ask.accounts) != mark {
            return;
        }
        if known.by_key.len() >= MOST {
            known.by_key.clear();
        }
        let since = Instant::now();
        for (account, sheet) in errand.ask.accounts.iter().zip(sheets) {
            let kept = (sheet.clone(), since);
            known.by_key.insert(account.key.clone(), kept);
        }
    }

    /// This process has changed these accounts: what is remembered of them is old.
    pub(crate) fn outdate(&self, accounts: &[Arc<Account>]) {
        let mut known = self.0.lock();
        if known.by_key.is_empty() {
            return;
        }
        for account in accounts {
            known.by_key.remove(&account.key);
        }
    }

    /// Something was given back on an account.
    pub(crate) fn forget(&self, key: &[u8]) {
        let mut known = self.0.lock();
        known.by_key.remove(key);
        known.given_back[spread(key)] += 1;
    }

    /// Forgets all, and remembers only while messages are heard.
    pub(crate) fn clear(&self, hearing: Option<bool>) {
        let mut known = self.0.lock();
        known.by_key.clear();
        known.hearing = hearing.unwrap_or(known.hearing);
    }
}
