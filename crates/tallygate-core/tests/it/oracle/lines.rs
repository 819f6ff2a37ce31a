//! Who may stand in which line.
use super::book::{Book, CounterName};
use super::tally::Fit;
use crate::op::Bid;
use crate::setup::amounts;
use std::collections::BTreeSet;
use tallygate_core::Ticket;

/// A caller in line.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub(crate) ticket: Ticket,
    pub(crate) bid: Bid,
    pub(crate) since: u64,
    pub(crate) until: u64,
}

/// The counters that may hold each caller up (the oldest caller first): those it does not fit, and those in whose line an older caller may stand.
/// With one alone it is there that it stands; with none it must have been admitted.
pub(crate) fn blocking(book: &Book, queue: &[Queued]) -> Vec<BTreeSet<CounterName>> {
    let mut contested = BTreeSet::new();
    let mut all = Vec::new();
    for caller in queue {
        let touched = book.judge(caller.bid.who, &amounts(caller.bid.demand));
        let blocks = touched
            .into_iter()
            .filter(|at| at.fit != Fit::Surely || contested.contains(&at.counter));
        let blocks: BTreeSet<CounterName> = blocks.map(|at| at.counter).collect();
        contested.extend(blocks.iter().copied());
        all.push(blocks);
    }
    all
}
