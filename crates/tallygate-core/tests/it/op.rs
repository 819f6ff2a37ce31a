//! What can be done to a ledger, as data.

/// A demand of one of the subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bid {
    /// Which of [`crate::setup::SUBJECTS`].
    pub(crate) who: usize,
    /// Requests, tokens, concurrency.
    pub(crate) demand: [u64; 3],
    pub(crate) ttl: u64,
    pub(crate) key: Option<u8>,
}

/// What a call is said to have used: requests and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Exactly([u64; 2]),
    AtLeast([u64; 2]),
    /// Exactly this of those that are stated.
    Stated([Option<u64>; 2]),
    /// This many thousandths of what was held at admission: never an overrun.
    Share(u64),
}

/// One operation. Reservations and tickets are named by their place among all that were ever made,
/// the newest being number 0, counted round, so that every number names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// Lets time pass, stopping at every instant the ledger asks for.
    Pass(u64),
    /// Lets time pass in one leap, as after a pause of the machine.
    Leap(u64),
    Reserve(Bid),
    Spend {
        who: usize,
        demand: [u64; 3],
    },
    Wait {
        bid: Bid,
        patience: u64,
    },
    Leave(usize),
    Settle(usize, Use),
    Cancel(usize),
    /// Takes back what its caller was never told of.
    Withdraw(usize),
    Extend {
        hold: usize,
        more: [u64; 3],
        ttl: Option<u64>,
    },
    /// Settles a reservation that was never made.
    Forge(u64),
    /// Puts a policy in force whose amounts are these thousandths of the first one's.
    Reload(u64),
    /// Puts a policy in force of those rules of the first one whose bits are set.
    Rules(usize),
    /// Saves the ledger and keeps a journal from then on.
    Save,
    /// Goes on with a ledger made of the last save and the journal since; callers in line are lost.
    Restart,
    /// Sets the wall clock's lead.
    Wall(i64),
    /// Looks while telling a time this much earlier.
    Back(u64),
    Sweep,
}

/// A policy and what is done under it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) rules: Vec<crate::setup::RuleSpec>,
    pub(crate) ops: Vec<Op>,
}
