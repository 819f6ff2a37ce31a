//! Stores in front of a memory store: a sound one that is never ready at once, and ones with a flaw each, as
//! seen in limiters of the field. The suite must pass the one and find out the others.
use crate::support::{MemoryRig, pass, virtual_store};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tallygate_core::{
    Amounts, Decision, Denial, Extended, Metric, Policy, Receipt, ReservationId, Standing, Time,
};
use tallygate_store::conformance::{Harness, Rig};
use tallygate_store::{
    BoxFuture, MemoryStore, Reserve, SettleError, Settlement, Store, StoreError, StoreStats,
    WaitsFor,
};

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    ChecksThenTakes,
    SpendsLimitsInTurn,
    ChargesEachSettle,
    ForgetsOveruse,
    ChargesWhenSettling,
    ForgetsKeys,
    GuessesIds,
    NeverExpires,
    AlwaysSaysAMinute,
    RoundsWaitsDown,
    RoundsWaitsUp,
    SaysNowForNever,
    HasNoLine,
    SitsOutQuotas,
    DoesNotWake,
    KeepsThoseWhoLeft,
    ActsUnpolled,
    PeeksByTaking,
    StartsAnewOnReload,
    JoinsValues,
}

/// Stores with one flaw on virtual clocks; tasks run by turns.
pub(crate) struct Fronts(pub(crate) Flaw);

impl Harness for Fronts {
    fn open(&self, policy: Policy) -> BoxFuture<'_, Result<Box<dyn Rig>, String>> {
        let memory = virtual_store(&policy);
        let front = Arc::new(Front::new(self.0, memory.clone()));
        let rig: Box<dyn Rig> = match self.0 {
            Flaw::None => Box::new(Shared { memory, front }),
            _ => Box::new(MemoryRig { memory, front }),
        };
        Box::pin(std::future::ready(Ok(rig)))
    }

    fn patience(&self) -> Duration {
        match self.0 {
            // What never comes need not be waited for.
            Flaw::DoesNotWake
            | Flaw::SitsOutQuotas
            | Flaw::KeepsThoseWhoLeft
            | Flaw::NeverExpires => Duration::from_millis(50),
            _ => Duration::from_secs(10),
        }
    }
}

/// Counters that several fronts share and that outlive each.
struct Shared {
    memory: Arc<MemoryStore>,
    front: Arc<Front>,
}

impl Shared {
    fn another(&self) -> BoxFuture<'_, Option<Arc<dyn Store>>> {
        let front: Arc<dyn Store> = Arc::new(Front::new(Flaw::None, self.memory.clone()));
        Box::pin(std::future::ready(Some(front)))
    }
}

impl Rig for Shared {
    fn store(&self) -> Arc<dyn Store> {
        self.front.clone()
    }

    fn pass(&self, length: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move { pass(&self.memory, length) })
    }

    fn second_handle(&self) -> BoxFuture<'_, Option<Arc<dyn Store>>> {
        self.another()
    }

    fn restart(&self) -> BoxFuture<'_, Option<Arc<dyn Store>>> {
        self.another()
    }
}

type Orphan = BoxFuture<'static, Result<Decision, StoreError>>;

/// What a front remembers of a reservation.
#[derive(Clone)]
struct Known {
    id: ReservationId,
    reserved: Amounts,
    subject: Vec<(String, String)>,
    settled: bool,
}

/// A store in front of a memory store.
struct Front {
    flaw: Flaw,
    memory: Mutex<Arc<MemoryStore>>,
    known: Mutex<HashMap<u64, Known>>,
    orphans: Arc<Mutex<Vec<Orphan>>>,
    waiting: AtomicUsize,
}

impl Front {
    fn new(flaw: Flaw, memory: Arc<MemoryStore>) -> Self {
        Self {
            flaw,
            memory: Mutex::new(memory),
            known: Mutex::default(),
            orphans: Arc::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn memory(&self) -> Arc<MemoryStore> {
        self.memory.lock().clone()
    }

    async fn decide(&self, ask: Reserve<'_>) -> Result<Decision, StoreError> {
        let memory = self.memory();
        match self.flaw {
            Flaw::ChecksThenTakes => check_then_take(&memory, ask).await,
            Flaw::SpendsLimitsInTurn => in_turn(&memory, ask),
            Flaw::ForgetsKeys => {
                let idempotency_key = None;
                memory
                    .reserve(Reserve {
                        idempotency_key,
                        ..ask
                    })
                    .await
            }
            Flaw::NeverExpires => {
                let ttl = Duration::MAX;
                memory.reserve(Reserve { ttl, ..ask }).await
            }
            Flaw::HasNoLine => self.without_line(&memory, ask).await,
            Flaw::DoesNotWake => {
                let mut inner = memory.reserve(ask);
                let deaf = || Context::from_waker(Waker::noop());
                poll_fn(move |_| inner.as_mut().poll(&mut deaf())).await
            }
            Flaw::KeepsThoseWhoLeft => {
                let kept = Kept {
                    inner: Some(owned(memory, ask)),
                    orphans: self.orphans.clone(),
                };
                kept.await
            }
            Flaw::JoinsValues => {
                let joined: Vec<&str> = ask.subject.iter().map(|(_, value)| *value).collect();
                let joined = joined.join(":");
                let subject: Vec<(&str, &str)> = ask
                    .subject
                    .iter()
                    .map(|(label, _)| (*label, joined.as_str()))
                    .collect();
                memory
                    .reserve(Reserve {
                        subject: &subject,
                        ..ask
                    })
                    .await
            }
            _ => memory.reserve(ask).await,
        }
    }

    /// Each asks over and over, and who comes at the right moment wins.
    async fn without_line(
        &self,
        memory: &MemoryStore,
        ask: Reserve<'_>,
    ) -> Result<Decision, StoreError> {
        let until = memory.now().plus(ask.max_wait.into());
        let _counted = Counted::new(&self.waiting);
        loop {
            let decision = memory.try_reserve(&ask)?;
            if !matches!(decision, Decision::Deny(_)) || memory.now() >= until {
                return Ok(decision);
            }
            give_way().await;
        }
    }

    fn known(&self, id: ReservationId) -> Option<Known> {
        let mut known = self.known.lock();
        let found = known.get_mut(&(id.bits() as u64))?;
        let before = found.clone();
        found.settled = true;
        (before.id == id || self.flaw == Flaw::GuessesIds).then_some(before)
    }

    fn end(
        &self,
        memory: &MemoryStore,
        known: &Known,
        used: Amounts,
    ) -> Result<Receipt, SettleError> {
        let charge = || memory.spend(&borrowed(&known.subject), &used);
        match self.flaw {
            Flaw::ChargesEachSettle if known.settled => {
                charge()?;
                memory.settle_now(known.id, Settlement::Exact(used))
            }
            Flaw::ChargesWhenSettling => {
                let receipt = memory.cancel_now(known.id)?;
                charge()?;
                Ok(receipt)
            }
            Flaw::ForgetsOveruse => {
                let used = used.zip(&known.reserved, u64::min);
                memory.settle_now(known.id, Settlement::Exact(used))
            }
            _ => memory.settle_now(known.id, Settlement::Exact(used)),
        }
    }

    /// What is said of a decision.
    fn told(&self, ask: &Reserve<'_>, decision: Decision) -> Decision {
        if let Decision::Admit(admission) = &decision {
            let known = Known {
                id: admission.id,
                reserved: admission.reserved,
                subject: owned_subject(ask),
                settled: false,
            };
            let low = admission.id.bits() as u64;
            self.known.lock().insert(low, known);
        }
        match (self.flaw, decision) {
            (Flaw::NeverExpires, Decision::Admit(mut admission)) => {
                admission.expires_at = self.now().plus(ask.ttl.into());
                Decision::Admit(admission)
            }
            (Flaw::AlwaysSaysAMinute, Decision::Deny(denial)) => waits(denial, |_| 60_000_000_000),
            (Flaw::RoundsWaitsDown, Decision::Deny(denial)) => {
                waits(denial, |nanos| nanos / 1_000_000 * 1_000_000)
            }
            (Flaw::RoundsWaitsUp, Decision::Deny(denial)) => {
                waits(denial, |nanos| nanos.next_multiple_of(1_000_000_000))
            }
            (Flaw::SaysNowForNever, Decision::Never(never)) => Decision::Deny(Denial {
                blocked_by: never.blocked_by,
                retry_after: Duration::ZERO,
                retry_at: self.now(),
            }),
            (_, decision) => decision,
        }
    }
}

/// A denial with another wait.
fn waits(denial: Denial, change: impl Fn(u64) -> u64) -> Decision {
    let nanos = u64::try_from(denial.retry_after.as_nanos()).unwrap_or(u64::MAX);
    let changed = change(nanos);
    let retry_at = denial.retry_at.as_nanos() - nanos + changed;
    Decision::Deny(Denial {
        retry_after: Duration::from_nanos(changed),
        retry_at: Time::from_nanos(retry_at),
        ..denial
    })
}

/// Looks whether there is room, and charges in a second step.
async fn check_then_take(memory: &MemoryStore, ask: Reserve<'_>) -> Result<Decision, StoreError> {
    let fits = |standing: &Standing| standing.remaining >= ask.demand.get(standing.limit.metric);
    if !memory.peek_now(ask.subject).iter().all(fits) {
        return memory.try_reserve(&ask);
    }
    give_way().await;
    let taken = memory.try_reserve(&Reserve {
        demand: Amounts::ZERO,
        ..ask
    })?;
    if let Decision::Admit(admission) = &taken {
        let charged = memory.settle_now(admission.id, Settlement::Exact(ask.demand));
        assert!(charged.is_ok(), "what was just reserved can be settled");
    }
    Ok(taken)
}

/// Takes one metric after another; what was taken stays taken when a later one denies.
fn in_turn(memory: &MemoryStore, ask: Reserve<'_>) -> Result<Decision, StoreError> {
    let mut last = memory.try_reserve(&Reserve {
        demand: Amounts::ZERO,
        ..ask
    })?;
    for (metric, amount) in ask.demand.iter() {
        let demand = Amounts::ZERO.with(metric, amount);
        last = memory.try_reserve(&Reserve { demand, ..ask })?;
        if !matches!(last, Decision::Admit(_)) {
            break;
        }
    }
    Ok(last)
}

/// A wait that borrows nothing.
fn owned(memory: Arc<MemoryStore>, ask: Reserve<'_>) -> Orphan {
    let subject = owned_subject(&ask);
    let key = ask.idempotency_key.map(str::to_owned);
    let (demand, ttl, max_wait) = (ask.demand, ask.ttl, ask.max_wait);
    let (settled_by, waits_for) = (ask.settled_by, ask.waits_for);
    Box::pin(async move {
        let ask = Reserve {
            subject: &borrowed(&subject),
            demand,
            ttl,
            max_wait,
            idempotency_key: key.as_deref(),
            waits_for,
            settled_by,
        };
        memory.reserve(ask).await
    })
}

fn owned_subject(ask: &Reserve<'_>) -> Vec<(String, String)> {
    let own = |(label, value): &(&str, &str)| ((*label).to_owned(), (*value).to_owned());
    ask.subject.iter().map(own).collect()
}

fn borrowed(subject: &[(String, String)]) -> Vec<(&str, &str)> {
    let pairs = subject.iter();
    pairs
        .map(|(label, value)| (label.as_str(), value.as_str()))
        .collect()
}

/// A wait that goes on when its caller has left.
struct Kept {
    inner: Option<Orphan>,
    orphans: Arc<Mutex<Vec<Orphan>>>,
}

impl Future for Kept {
    type Output = Result<Decision, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = &mut self.inner else {
            return Poll::Pending;
        };
        let answer = inner.as_mut().poll(context);
        if answer.is_ready() {
            self.inner = None;
        }
        answer
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.orphans.lock().extend(self.inner.take());
    }
}

/// Counts one while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn give_way() {
    let mut given = false;
    poll_fn(|context| match std::mem::replace(&mut given, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

impl Store for Front {
    fn reserve<'a>(&'a self, ask: Reserve<'a>) -> BoxFuture<'a, Result<Decision, StoreError>> {
        if self.flaw == Flaw::ActsUnpolled && ask.max_wait.is_zero() {
            let decision = self.memory().try_reserve(&ask);
            return Box::pin(std::future::ready(decision));
        }
        Box::pin(async move {
            give_way().await;
            let ask = match self.flaw {
                Flaw::SitsOutQuotas => Reserve {
                    waits_for: WaitsFor::Anything,
                    ..ask
                },
                _ => ask,
            };
            Ok(self.told(&ask, self.decide(ask).await?))
        })
    }

    fn settle<'a>(
        &'a self,
        id: ReservationId,
        usage: Settlement,
    ) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        Box::pin(async move {
            give_way().await;
            let memory = self.memory();
            let known = self.known(id);
            match (usage, known) {
                (Settlement::Exact(used), Some(known)) => self.end(&memory, &known, used),
                _ => memory.settle_now(id, usage),
            }
        })
    }

    fn cancel<'a>(&'a self, id: ReservationId) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        Box::pin(async move {
            give_way().await;
            self.memory().cancel_now(id)
        })
    }

    fn extend<'a>(
        &'a self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Extended, SettleError>> {
        Box::pin(async move {
            give_way().await;
            self.memory().extend_now(id, &more, ttl)
        })
    }

    fn peek<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Vec<Standing>, StoreError>> {
        Box::pin(async move {
            give_way().await;
            let memory = self.memory();
            if self.flaw == Flaw::PeeksByTaking {
                memory.spend(subject, &Amounts::ZERO.with(Metric::TOKENS, 1))?;
            }
            Ok(memory.peek_now(subject))
        })
    }

    fn replace_policy(&self, policy: Arc<Policy>) -> Result<(), StoreError> {
        if self.flaw == Flaw::StartsAnewOnReload {
            *self.memory.lock() = virtual_store(&policy);
            return Ok(());
        }
        self.memory().replace_policy(policy)
    }

    fn stats(&self) -> StoreStats {
        let mut stats = self.memory().stats();
        stats.waiters += self.waiting.load(Ordering::SeqCst);
        stats
    }

    fn now(&self) -> Time {
        self.memory().now()
    }
}
