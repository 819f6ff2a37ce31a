//! A store that notes who stood in line, and leaves everything else to the store behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tallygate_core::{Amounts, Decision, Extended, Policy, Receipt, ReservationId, Standing, Time};
use tallygate_store::{
    BoxFuture, Reserve, SettleError, Settlement, Store, StoreError, StoreHealth, StoreStats,
};

use super::stage::USERS;

pub(super) struct Witness {
    behind: Arc<dyn Store>,
    waited: [AtomicU64; 3],
}

impl Witness {
    pub(super) fn new(behind: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            behind,
            waited: Default::default(),
        })
    }

    /// How many admitted calls of each user had stood in line.
    pub(super) fn waited(&self) -> [u64; 3] {
        self.waited
            .each_ref()
            .map(|waited| waited.load(Ordering::Relaxed))
    }

    fn note(&self, subject: &[(&str, &str)], decision: &Decision) {
        let Decision::Admit(admission) = decision else {
            return;
        };
        let of_user = |name: &str| subject.contains(&("user", name));
        if admission.waited > Duration::ZERO
            && let Some(index) = USERS.iter().position(|user| of_user(user.name))
        {
            self.waited[index].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Store for Witness {
    fn reserve<'a>(&'a self, ask: Reserve<'a>) -> BoxFuture<'a, Result<Decision, StoreError>> {
        Box::pin(async move {
            let decision = self.behind.reserve(ask).await?;
            self.note(ask.subject, &decision);
            Ok(decision)
        })
    }

    fn settle<'a>(
        &'a self,
        id: ReservationId,
        usage: Settlement,
    ) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        self.behind.settle(id, usage)
    }

    fn cancel<'a>(&'a self, id: ReservationId) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        self.behind.cancel(id)
    }

    fn extend<'a>(
        &'a self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Extended, SettleError>> {
        self.behind.extend(id, more, ttl)
    }

    fn peek<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Vec<Standing>, StoreError>> {
        self.behind.peek(subject)
    }

    fn replace_policy(&self, policy: Arc<Policy>) -> Result<(), StoreError> {
        self.behind.replace_policy(policy)
    }

    fn stats(&self) -> StoreStats {
        self.behind.stats()
    }

    fn health(&self) -> StoreHealth {
        self.behind.health()
    }

    fn now(&self) -> Time {
        self.behind.now()
    }
}
