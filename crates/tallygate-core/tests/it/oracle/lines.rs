//! Who may stand in which line.
use super::book::{Book, CounterName, Refusal};
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
    walk(book, queue).0
}

/// The counters in whose line somebody may stand: also one that has room for all of them, for the sake of a caller that keeps
/// its place there.
pub(crate) fn contested(book: &Book, queue: &[Queued]) -> BTreeSet<CounterName> {
    walk(book, queue).1
}

/// What may hold each caller up, and in which lines any of them may stand.
fn walk(book: &Book, queue: &[Queued]) -> (Vec<BTreeSet<CounterName>>, BTreeSet<CounterName>) {
    let mut contested = BTreeSet::new();
    let mut all = Vec::new();
    for caller in queue {
        let touched = book.judge(caller.bid.who, &amounts(caller.bid.demand));
        let blocks: BTreeSet<CounterName> = touched
            .iter()
            .filter(|at| at.fit != Fit::Surely || contested.contains(&at.counter))
            .map(|at| at.counter)
            .collect();
        match may_keep_its_place(book, caller, &touched) {
            true => contested.extend(touched.iter().map(|at| at.counter)),
            false => contested.extend(blocks.iter().copied()),
        }
        all.push(blocks);
    }
    (all, contested)
}

/// Whether a caller may stand in a line that does not block it while it waits in another: that may cost the others an
/// eighth of what it has waited.
fn may_keep_its_place(book: &Book, caller: &Queued, touched: &[Refusal]) -> bool {
    let instant = |at: &Refusal| book.tally(at.counter).fits_at(at.amount, book.now);
    let instants: Option<Vec<(u64, u64)>> = touched.iter().map(instant).collect();
    let soonest = instants.map(|all| all.iter().map(|at| at.0).max().unwrap_or(book.now));
    let cost = soonest.map_or(0, |soonest| soonest - book.now);
    touched.len() > 1 && cost * 8 <= book.now - caller.since
}
