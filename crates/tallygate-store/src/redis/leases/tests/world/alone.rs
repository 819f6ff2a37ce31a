//! What processes decide while they cannot reach the store, and what becomes of that.
use super::caller::demand;
use super::scene::{Scene, Words};
use super::{Node, USERS, World};
use crate::redis::names::Account;
use crate::redis::simulation::ground::Ground;
use crate::redis::simulation::network::Inner;
use crate::redis::simulation::truth::{End, Verdict};
use crate::store::{Reserve, SettleError, SettledBy, Settlement, Store, StoreHealth, WaitsFor};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Outcome, Receipt, ReservationId};
use tokio::time::Instant;

/// For how long a call is sent again before the store is taken to be out of reach.
const DEADLINE: Duration = Duration::from_secs(1);

/// How long after its return a store is surely found again: a call may just have been given up, and some are lost.
const GRACE: Duration = Duration::from_millis(1500);

/// Whether the store has counted it, though it may have forgotten it since.
pub(super) fn is_there(inner: &Inner, id: ReservationId) -> bool {
    inner.truth.entries.contains_key(&id.bits()) || inner.lost.contains(&id.bits())
}

/// What is counted nowhere was admitted by limits that are all open, while the store was out of reach as far as the process
/// could know, and really.
pub(super) fn may_be_uncounted(inner: &mut Inner, seat: usize, words: Words) -> Verdict {
    if words != Words::Open {
        return Err(format!("n{seat} admits what nobody counts"));
    }
    if !inner.is_silent(seat, DEADLINE) {
        return Err(format!(
            "n{seat} does not count, and had an answer just now"
        ));
    }
    match inner.darkness(seat, Instant::now() - GRACE).is_zero() {
        true => Err(format!("n{seat} does not count, and could reach the store")),
        false => Ok(()),
    }
}

/// What is not decided in the store is of shares that the script still keeps for the process.
pub(super) fn is_of_shares(
    ground: &Ground,
    (accounts, node): (&[Arc<Account>], [u8; 8]),
    (amounts, now): (Amounts, u64),
) -> Verdict {
    // A replica that takes over may not have heard of a share: what that comes to is bounded elsewhere.
    if ground.failovers() > 0 {
        return Ok(());
    }
    for account in accounts {
        let kept = ground.lease(&account.key, node, now);
        for (at, limit) in account.rule.rule.limits().enumerate() {
            let wanted = amounts.get(limit.metric());
            let share = kept.and_then(|lease| lease.amounts.get(at));
            if wanted > share.copied().unwrap_or(0) {
                let name = &limit.info().name;
                return Err(format!("{name}: {wanted} is spent of a share of {share:?}"));
            }
        }
    }
    Ok(())
}

/// Who was admitted and not counted is told what it says.
pub(super) fn is_ended(ended: &Result<Receipt, SettleError>, used: Amounts) -> Verdict {
    match ended {
        Ok(receipt) if receipt.charged == used => Ok(()),
        Err(SettleError::Standing(receipt)) if receipt.outcome == Outcome::Expired => Ok(()),
        other => Err(format!("what was not counted came to {other:?}")),
    }
}

/// What callers were told of reservations in the store.
#[derive(Default)]
pub(super) struct Told {
    admitted: BTreeSet<u128>,
    /// It has come to this.
    receipts: Vec<(ReservationId, Amounts)>,
    /// It will: a process keeps it.
    kept: Vec<(usize, ReservationId, Amounts)>,
    /// Processes that have died with what they kept.
    dead: BTreeSet<usize>,
}

impl Told {
    pub(super) fn admit(&mut self, id: ReservationId) {
        self.admitted.insert(id.bits());
    }

    pub(super) fn hear(
        &mut self,
        seat: usize,
        id: ReservationId,
        (ended, used): (&Result<Receipt, SettleError>, u64),
    ) {
        match ended {
            Ok(receipt) => self.receipts.push((id, receipt.charged)),
            Err(SettleError::Kept { .. }) => self.kept.push((seat, id, demand(used))),
            Err(_) => {}
        }
    }

    pub(super) fn bury(&mut self, seat: usize) {
        self.dead.insert(seat);
    }

    /// How many were told that their end is kept.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether it has all come to pass, as the store's own answers show.
    pub(super) fn has_come_true(&self, inner: &Inner, scene: Scene) -> Verdict {
        for (id, used) in &self.receipts {
            came_to(inner, *id, |end| is_charged(end, used))?;
        }
        let kept = self.kept.iter();
        for (_, id, used) in kept.filter(|(seat, ..)| !self.dead.contains(seat)) {
            // A deadline may have passed before it was delivered.
            let is_late = |end: &Option<End>| *end == Some(End::Expired) && !scene.is_exact();
            came_to(inner, *id, |end| is_charged(end, used) || is_late(end))?;
        }
        match scene.is_exact() {
            true => self.nothing_is_nobodys(inner),
            false => Ok(()),
        }
    }

    /// What was asked of the store in vain, and decided alone, is given back there.
    fn nothing_is_nobodys(&self, inner: &Inner) -> Verdict {
        for (id, entry) in &inner.truth.entries {
            let is_told = self.admitted.contains(id);
            if !is_told && entry.end != Some(End::Withdrawn) {
                let (id, end) = (ReservationId::from_bits(*id), &entry.end);
                return Err(format!("{id} came to {end:?}, and is nobody's"));
            }
        }
        Ok(())
    }
}

fn is_charged(end: &Option<End>, used: &Amounts) -> bool {
    matches!(end, Some(End::Ended(receipt)) if receipt.charged == *used)
}

/// How it came out in the store, unless the store has lost it.
fn came_to(inner: &Inner, id: ReservationId, is_so: impl Fn(&Option<End>) -> bool) -> Verdict {
    let entry = inner.truth.entries.get(&id.bits());
    match entry.filter(|_| !inner.lost.contains(&id.bits())) {
        Some(entry) if !is_so(&entry.end) => {
            let end = &entry.end;
            Err(format!("{id} came to {end:?}, and something else was told"))
        }
        _ => Ok(()),
    }
}

impl World {
    /// Whether every process has delivered what it kept, and decides with the store again.
    pub(super) async fn all_are_exact(&self) -> Verdict {
        let nodes: Vec<Node> = {
            let processes = self.processes.lock();
            processes.iter().map(|one| one.node.clone()).collect()
        };
        for node in nodes {
            self.is_exact(&node).await?;
        }
        Ok(())
    }

    async fn is_exact(&self, node: &Node) -> Verdict {
        let (seat, outage) = (node.seat, node.store.outage());
        if (outage.kept, outage.lost) != (0, 0) || node.store.health() != StoreHealth::Up {
            return Err(format!("n{seat} is not well again: {outage:?}"));
        }
        let subject = [("user", USERS[0])];
        let decision = node.store.reserve(Reserve {
            subject: &subject,
            demand: demand(1),
            ttl: Duration::from_secs(60),
            max_wait: Duration::ZERO,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        });
        let id = match decision.await {
            Ok(Decision::Admit(admission)) => admission.id,
            // The quota is used up.
            Ok(Decision::Deny(_)) => return Ok(()),
            other => return Err(format!("n{seat} has found the store again: {other:?}")),
        };
        if !self.network.with(|inner| is_there(inner, id)) {
            return Err(format!("n{seat} still decides alone"));
        }
        let ended = node.store.settle(id, Settlement::Exact(demand(1))).await;
        ended.map(drop).map_err(|error| format!("n{seat}: {error}"))
    }
}
