//! What must hold when a primary dies and its replica takes over.
use crate::live::{RESERVED, Told, USED};
use std::time::{Duration, Instant};
use tallygate_sim::servers::Server;

/// When a primary was killed, and how long it took until another was there.
pub(crate) struct Death {
    /// What was written before, the replica has.
    pub(crate) heard: Instant,
    pub(crate) began: Instant,
    pub(crate) failover: Duration,
}

impl Death {
    /// How many were admitted that the replica may not have heard of.
    fn unheard(&self, told: &Told) -> u64 {
        // On a busy machine an answer may be read later, though none is given before another is there.
        told.between(self.heard, self.began + ANSWERS.max(self.failover))
    }
}

/// For how long after its death a primary's last answers may be read. Nobody takes over sooner: a silence of half of
/// that is no death yet.
const ANSWERS: Duration = Duration::from_millis(500);

/// Kills a primary whose replica has `heard` all until then, and waits for what takes over.
pub(crate) fn kill(primary: &Server, heard: Instant, takes_over: impl FnOnce()) -> Death {
    let began = Instant::now();
    primary.kill();
    takes_over();
    Death {
        heard,
        began,
        failover: began.elapsed(),
    }
}

/// Waits until a replica is seen to keep up with its primary; answers until when it surely has heard all.
pub(crate) fn keeps_up(primary: &Server, replica: &Server) -> Instant {
    // One that has just come is sent nothing before its first word, up to a second later.
    heard(primary, replica);
    heard(primary, replica)
}

/// Waits until the replica has all that the primary had before this was called; answers when that was.
fn heard(primary: &Server, replica: &Server) -> Instant {
    let offset = |server: &Server, name: &str| -> u64 {
        let info = server.info("replication").expect("an answer");
        let offset = info.get(name).and_then(|text| text.parse().ok());
        offset.unwrap_or_else(|| panic!("{name} in {info:?}"))
    };
    let began = Instant::now();
    let written = offset(primary, "master_repl_offset");
    while offset(replica, "slave_repl_offset") < written {
        assert!(began.elapsed() < HEARS, "the replica does not keep up");
        std::thread::sleep(Duration::from_millis(1)); // tidy: sleeps because the other side is a process
    }
    began
}

/// How long a replica may take to hear what its primary wrote, on a machine that is busy with other tests.
const HEARS: Duration = Duration::from_secs(60);

/// How long callers may find no store beyond the time for which there is none: until they try again, and their call's deadline.
const RETURN: Duration = Duration::from_secs(10);

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
    // What took over may have admitted for a while when it was first seen.
    let after = told.admissions.iter();
    let after = after.filter(|at| **at > death.began + ANSWERS);
    assert!(after.count() > 0, "the limit was reached before the death");
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
    let lost = death.unheard(told);
    // What was not settled in time counts as used, as does what nobody was told of: no caller has more than one of these
    // when its store goes.
    let unsure = told.interruptions;
    eprintln!("told {told_sum}, taken {taken}, unheard {lost}, interrupted {unsure}");
    assert!(
        taken + lost * RESERVED >= told_sum,
        "more was lost than the replica had not heard"
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
    let unheard = death.unheard(told) * RESERVED;
    eprintln!(
        "{sum} of {limit}: {over} over; {unheard} were admitted since the replica heard, {:?} before the death",
        death.began - death.heard
    );
    assert!(
        over <= unheard,
        "{over} over, of which {unheard} are explained"
    );
    over
}
