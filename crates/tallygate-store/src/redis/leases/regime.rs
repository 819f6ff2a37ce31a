//! What can be seen of leases.

/// How a limit's decisions are made at this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Regime {
    /// Each in the store.
    Exact,
    /// Here, out of a share that the store set aside for this process.
    Leased {
        /// The whole share: held by open reservations, used, or left; in the metric's unit.
        share: u64,
        /// What is left of it.
        left: u64,
    },
}
