//! What must hold when a primary dies and its replica takes over.
use crate::live::{RESERVED, Told, USED};
use std::time::{Duration, Instant};

/// When a primary was killed, and how long it took until another was there.
pub(crate) struct Death {
    /// What was written before, the replica has.
    pub(crate) heard: Instant,
    pub(crate) began: Instant,
    pub(crate) failover: Duration,
}

/// How far behind its primary a replica on the same machine may be, however busy that is.
pub(crate) const LAG: Duration = Duration::from_secs(1);

/// How long callers may find no store beyond the time for which there is none: until they try again, and their call's deadline.
const RETURN: Duration = Duration::from_secs(3);

/// Nobody was without the store for longer than there was none.
pub(crate) fn went_on(told: &Told, death: &Death) {
    eprintln!(
        "{} admissions, {} failures, {} denials, {} unknown, another primary after {:?}, longest outage {:?}",
        told.admissions.len(),
        told.failures.len(),
        told.denials,
        told.unknown,
        death.failover,
        told.outage,
    );
    if let Some(first) = told.first_failure {
        assert!(first + RETURN >= death.began, "nothing failed before");
    }
    assert!(
        told.outage <= death.failover + RETURN,
        "{:?} without a store, which was away for {:?}",
        told.outage,
        death.failover
    );
}

/// What is counted is what callers were told, but for what they were told within the replication lag before the death.
pub(crate) fn kept_count(told: &Told, death: &Death, (told_sum, taken): (u64, u64)) {
    let lost = told.between(death.heard, death.began);
    // What was not settled in time counts as used, as does what nobody was told of.
    let unsure = told.failures.len() as u64;
    eprintln!("told {told_sum}, taken {taken}, within the lag {lost}, unsure {unsure}");
    assert!(
        taken + lost * RESERVED >= told_sum,
        "more was lost than the lag explains"
    );
    assert!(
        taken <= told_sum + (unsure + told.unknown + lost) * RESERVED.max(USED),
        "more is taken than anybody asked for"
    );
}

/// Everything together is within the limit, but for what was admitted since the replica last heard of anything.
/// Answers by how much it is over.
pub(crate) fn kept_limit(told: &Told, death: &Death, limit: u64) -> u64 {
    let sum: u64 = told.charged.iter().sum();
    let over = sum.saturating_sub(limit);
    let unheard = told.between(death.heard, death.began) * RESERVED;
    eprintln!(
        "{sum} of {limit}: {over} over; {unheard} were admitted within {:?} before the death",
        death.began - death.heard
    );
    assert!(
        over <= unheard,
        "{over} over, of which {unheard} are explained"
    );
    over
}
