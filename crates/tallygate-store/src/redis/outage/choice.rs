//! What limits do when their store is out of reach.
use crate::redis::names::Account;
use std::sync::Arc;
use tallygate_core::StoreDown;
use tallygate_core::remote::RemoteRule;

/// What is done with a demand while the store is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Choice {
    /// It is admitted and not counted: all limits that apply are `open`, or none deny.
    Open,
    /// It is admitted if this process had leased enough of the `share` limits before.
    Share,
    /// It is refused: a limit that applies is `closed`.
    Closed,
}

impl Choice {
    /// The strictest word of all limits that apply. Those that only watch have none.
    pub(super) fn of(accounts: &[Arc<Account>]) -> Self {
        let rules = accounts.iter().map(|account| &account.rule.rule);
        rules.map(Self::of_rule).max().unwrap_or(Self::Open)
    }

    pub(crate) fn of_rule(rule: &RemoteRule) -> Self {
        match rule.store_down() {
            _ if !rule.is_enforced() => Self::Open,
            StoreDown::Open => Self::Open,
            StoreDown::Share => Self::Share,
            StoreDown::Closed => Self::Closed,
        }
    }
}

/// The accounts that are spent from shares.
pub(super) fn shared(accounts: &[Arc<Account>]) -> impl Iterator<Item = &Arc<Account>> {
    accounts
        .iter()
        .filter(|account| Choice::of_rule(&account.rule.rule) == Choice::Share)
}
