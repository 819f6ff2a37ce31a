//! The Redis store: what callers ask, put to the script.
mod doubt;
mod ending;
mod errand;
mod extending;
mod journey;
mod turns;

use super::denials::Denials;
use super::desk::Desk;
use super::found::RedisFindings;
use super::hearing;
use super::holds::Holds;
use super::leases::{Leases, Regime};
use super::link::{Link, LinkError};
use super::metrics::MetricNames;
use super::names;
use super::opening::RedisOpenError;
use super::options::RedisOptions;
use super::outage::Outage;
use super::pump::{Carrier, Pump};
use super::record::Ending;
use super::room::Room;
use super::script::{self, Node};
use crate::store::{
    BoxFuture, LeaseStats, OutageStats, Reserve, SettleError, Settlement, Store, StoreError,
    StoreHealth, StoreStats,
};
pub(crate) use errand::{Errand, Outcomes, Turn};
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::remote;
use tallygate_core::{
    Amounts, Decision, Extended, Outcome, Policy, Receipt, ReservationId, Span, Standing, Time,
};
use tokio::sync::mpsc;
use turns::Turns;

/// Counters on a Redis or Valkey server, shared by every process that uses the same one.
#[derive(Debug)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) pump: Arc<Pump>,
    desk: RwLock<Arc<Desk>>,
    pub(crate) holds: Holds,
    pub(crate) room: Room,
    pub(crate) denials: Denials,
    pub(crate) leases: Leases,
    pub(crate) outage: Outage,
    turns: Turns,
}

/// How often an end is tried again because the reservation was changed meanwhile.
const CHANGES: usize = 8;

impl RedisStore {
    /// Connects, and checks that the server can be used. Must be called in a tokio runtime, which the store's tasks run in.
    ///
    /// # Errors
    /// When the server cannot be used: unreachable, a replica, too old, out of memory, without the rights it takes.
    pub async fn open(options: RedisOptions, policy: &Policy) -> Result<Arc<Self>, RedisOpenError> {
        let link = Link::open(&options, script::TEXT).await;
        let link = link.map_err(|error| error.with_prefix(options.prefix()))?;
        let store = Self::around(Arc::new(link), &options, policy).await?;
        // The first call is the one that compiles the script. A server that is away just now is waited for by its calls.
        if let Err(LinkError::Refused { reason }) = store.shared.learn_the_time().await {
            let error = RedisOpenError::of_script(options.shown(), reason);
            return Err(error.with_prefix(options.prefix()));
        }
        store.begin();
        store.shared.room.bound(options.waiters);
        Ok(store)
    }

    /// What the servers were when the store was opened.
    #[must_use]
    pub fn findings(&self) -> &RedisFindings {
        self.shared.pump.carrier().findings()
    }

    /// How each limit that applies to a subject is decided just now, by its name.
    #[must_use]
    pub fn regimes(&self, subject: &[(&str, &str)]) -> Vec<(Arc<str>, Regime)> {
        let errand = self
            .shared
            .errand_of(subject, (Amounts::ZERO, Span::ZERO), None);
        self.shared.leases.regimes(&errand, self.shared.now())
    }

    /// Gives back what was leased, and reports all that was used of it; waits for that, though not for long. Nothing is
    /// decided out of shares from now on.
    ///
    /// A store that is dropped does the same in the background, if its runtime lives so long.
    ///
    /// # Cancel safety
    /// What was not given back counts as used once its lease has ended.
    pub async fn close(&self) {
        self.shared.close_leases().await;
    }

    /// A store over any way to the script.
    #[cfg(test)]
    pub(crate) async fn over(
        carrier: Arc<dyn Carrier>,
        options: &RedisOptions,
        policy: &Policy,
    ) -> Result<Arc<Self>, RedisOpenError> {
        let store = Self::around(carrier, options, policy).await?;
        // Calls will say what keeps them from being answered.
        let _ = store.shared.learn_the_time().await;
        store.begin();
        Ok(store)
    }

    /// Sets its tasks going.
    fn begin(&self) {
        self.shared.keep_leases();
        Outage::start(&self.shared);
    }

    async fn around(
        carrier: Arc<dyn Carrier>,
        options: &RedisOptions,
        policy: &Policy,
    ) -> Result<Arc<Self>, RedisOpenError> {
        let (outage, carrier) =
            Outage::open(carrier, options, MetricNames::of(policy.metrics())).await?;
        let prefix = options.prefix();
        let node = Node {
            name: node_name(),
            prefix: prefix.into(),
            sees_subscribers: !carrier.is_cluster(),
            writes_many: carrier.findings().write_many(),
        };
        let notices = carrier.subscribe(hearing::channels(prefix, node.name));
        let (orphans, left) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            pump: Pump::new(carrier, node.clone(), orphans),
            desk: RwLock::new(Arc::new(Desk::new(node, policy))),
            holds: Holds::default(),
            room: Room::default(),
            denials: Denials::default(),
            leases: Leases::new(),
            outage,
            turns: Turns::default(),
        });
        tokio::spawn(ending::take_back(Arc::downgrade(&shared), left));
        hearing::listen(&shared, notices).await;
        Ok(Arc::new(Self { shared }))
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        if self.shared.has_shares() {
            let shared = self.shared.clone();
            let runtime = self.shared.pump.runtime().clone();
            runtime.spawn(async move { shared.close_leases().await });
        }
    }
}

impl Shared {
    pub(crate) fn desk(&self) -> Arc<Desk> {
        self.desk.read().clone()
    }

    pub(crate) fn now(&self) -> Time {
        self.pump.clock().now()
    }

    /// Asks anything, for the time that comes with the answer.
    pub(crate) async fn learn_the_time(&self) -> Result<(), LinkError> {
        let id = names::new_id(0);
        let asked = self.pump.ask(names::home(id), self.desk().look(id));
        asked.await.map(drop)
    }

    pub(crate) fn is_apart(&self) -> bool {
        self.pump.carrier().is_cluster()
    }

    async fn peek(&self, subject: &[(&str, &str)]) -> Result<Vec<Standing>, LinkError> {
        let errand = self.errand_of(subject, (Amounts::ZERO, Span::ZERO), None);
        let (sheets, now) = self.look_at(&errand).await?;
        let views = super::desk::views(&errand.ask.accounts, &sheets);
        Ok(remote::standings(&views, now))
    }

    /// Decides with the store alone.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        ask: Reserve<'_>,
    ) -> Result<Decision, StoreError> {
        let errand = self.errand(&ask);
        if let Some(leased) = self.leases.decide(&errand, &ask, self.now()) {
            self.outage.spent_share();
            return Ok(leased);
        }
        if !ask.max_wait.is_zero() {
            return self.wait(errand, ask.max_wait).await;
        }
        if let Some(denial) = self.denials.decide(&errand, self.now()) {
            return Ok(denial);
        }
        Ok(match self.attempt_last(&errand).await? {
            Outcomes::Admitted(admission, _) => Decision::Admit(admission),
            Outcomes::Blocked(blocks, now) => remote::denial(blocks, now),
            Outcomes::Never(never) => never,
        })
    }
}

impl Store for RedisStore {
    fn reserve<'a>(&'a self, ask: Reserve<'a>) -> BoxFuture<'a, Result<Decision, StoreError>> {
        Box::pin(self.shared.decide(ask))
    }

    fn settle<'a>(
        &'a self,
        id: ReservationId,
        usage: Settlement,
    ) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        let used = match usage {
            Settlement::Exact(amounts) => Ending::Exactly(amounts),
            Settlement::Stated(stated) => Ending::Stated(stated),
            Settlement::AtLeast(amounts) => Ending::AtLeast(amounts),
        };
        Box::pin(self.shared.finish(id, (Outcome::Settled, used)))
    }

    fn cancel<'a>(&'a self, id: ReservationId) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        let nothing = Ending::Exactly(Amounts::ZERO);
        Box::pin(self.shared.finish(id, (Outcome::Cancelled, nothing)))
    }

    fn extend<'a>(
        &'a self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Extended, SettleError>> {
        Box::pin(self.shared.extend_any(id, (more, ttl.map(Span::from))))
    }

    fn peek<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Vec<Standing>, StoreError>> {
        Box::pin(async move { Ok(self.shared.peek(subject).await?) })
    }

    fn replace_policy(&self, policy: Arc<Policy>) -> Result<(), StoreError> {
        let mut desk = self.shared.desk.write();
        let next = desk.followed_by(&policy);
        if !next.metrics.extends(&desk.metrics) {
            return Err(StoreError::Metrics);
        }
        self.shared.outage.name_metrics(next.metrics.clone());
        let is_more = next.rules.extend(&desk.rules);
        *desk = Arc::new(next);
        drop(desk);
        // Rules that are new bind nobody in line, and no share was set aside of them.
        if is_more {
            return Ok(());
        }
        self.shared.denials.clear(None);
        self.shared.leases.replace(&self.shared.desk(), self.now());
        self.shared.rehome();
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        let shared = &self.shared;
        let now = shared.now();
        let uncounted = shared.outage.uncounted.open(now);
        StoreStats {
            counters: 0,
            reservations: shared.holds.count(now)
                + shared.room.unsure()
                + shared.leases.open()
                + uncounted,
            waiters: shared.room.waiting() + shared.outage.waiting(),
        }
    }

    fn health(&self) -> StoreHealth {
        self.shared.outage.health()
    }

    fn outage(&self) -> OutageStats {
        let (unreadable, unreadable_last) = self.shared.pump.unreadable();
        OutageStats {
            unreadable,
            unreadable_last,
            ..self.shared.outage.stats()
        }
    }

    fn regimes(&self, subject: &[(&str, &str)]) -> Vec<(Arc<str>, Regime)> {
        Self::regimes(self, subject)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::close(self))
    }

    fn leases(&self) -> LeaseStats {
        self.shared.leases.stats(self.shared.pump.calls())
    }

    fn now(&self) -> Time {
        self.shared.now()
    }
}

/// A random name of eight letters and digits for this process.
fn node_name() -> [u8; 8] {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    names::random::<8>().map(|byte| LETTERS[usize::from(byte % 32)])
}

/// The script gave an answer that cannot be.
struct Strange;

impl From<Strange> for LinkError {
    fn from(_: Strange) -> Self {
        Self::Refused {
            reason: "the script gave an answer that is none".to_owned(),
        }
    }
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Down {
                reason,
                retry_after,
            } => Self::Down {
                reason,
                retry_after,
            },
            error @ (LinkError::Refused { .. } | LinkError::Unreadable { .. }) => Self::Down {
                reason: error.to_string(),
                retry_after: Duration::from_secs(1),
            },
        }
    }
}

impl From<LinkError> for SettleError {
    fn from(error: LinkError) -> Self {
        Self::Store(error.into())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
