//! A case at work: one fresh store, and what is said to it and expected of it.
use super::poll::{self, Strict};
use super::rules::Subject;
use super::verdict::{Failure, Stop, Verdict, fail, fail_at};
use super::{Harness, Rig};
use crate::store::{BoxFuture, Reserve, SettleError, SettledBy, Settlement, Store, WaitsFor};
use std::fmt::Debug;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Admission, Amounts, Decision, Denial, Extended, Metrics, Never, Policy, Receipt, ReservationId,
    Rule, Shape, Span, Standing, Stated, Time,
};

/// One store under test.
pub(super) struct Trial<'h> {
    pub(super) harness: &'h dyn Harness,
    rig: Arc<dyn Rig>,
    store: Arc<dyn Store>,
    /// What the case calls a second.
    pub(super) second: Duration,
    opened: Time,
    passed: std::sync::atomic::AtomicU64,
}

impl<'h> Trial<'h> {
    /// A fresh store under these rules.
    pub(super) async fn open(
        harness: &'h dyn Harness,
        rules: impl Into<Vec<Rule>>,
    ) -> Result<Self, Stop> {
        Self::open_with(harness, policy(rules)?).await
    }

    /// A fresh store under this policy.
    pub(super) async fn open_with(harness: &'h dyn Harness, policy: Policy) -> Result<Self, Stop> {
        let rig = harness.open(policy).await.map_err(fail)?;
        let store = rig.store();
        Ok(Self {
            harness,
            rig: Arc::from(rig),
            second: harness.second(),
            opened: store.now(),
            passed: 0.into(),
            store,
        })
    }

    /// The same counters through a second handle.
    pub(super) async fn second_handle(&self) -> Result<Self, Stop> {
        let handle = self.rig.second_handle().await;
        let store = handle.ok_or(Stop::Skipped("counters are private to one handle"))?;
        Ok(self.over(store))
    }

    /// What is left after a crash.
    pub(super) async fn restart(&self) -> Result<Self, Stop> {
        let store = self.rig.restart().await;
        let store = store.ok_or(Stop::Skipped("nothing outlives the store"))?;
        Ok(self.over(store))
    }

    fn over(&self, store: Arc<dyn Store>) -> Self {
        Self {
            harness: self.harness,
            rig: self.rig.clone(),
            second: self.second,
            opened: store.now(),
            passed: 0.into(),
            store,
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(super) fn now(&self) -> Time {
        self.store.now()
    }

    pub(super) async fn pass(&self, length: Duration) {
        let nanos = Span::from(length).as_nanos();
        self.passed
            .fetch_add(nanos, std::sync::atomic::Ordering::SeqCst);
        self.rig.pass(length).await;
    }

    /// Lets time pass until it is `time`.
    pub(super) async fn pass_to(&self, time: Time) {
        while self.now() < time {
            self.pass(time.since(self.now()).into()).await;
        }
    }

    /// Lets time pass to a full second of the calendar, so that the case has a whole one before it.
    pub(super) async fn pass_to_full_second(&self) {
        let into = self.now().as_nanos() % 1_000_000_000;
        self.pass(Duration::from_nanos(1_000_000_000 - into)).await;
    }

    /// How much more time has passed than the case let pass: none on a virtual clock.
    pub(super) fn drift(&self) -> Duration {
        let passed = self.passed.load(std::sync::atomic::Ordering::SeqCst);
        let all = Duration::from(self.now().since(self.opened));
        all.saturating_sub(Duration::from_nanos(passed))
    }

    /// Goes on if a length that shrinks as time passes is `wanted`.
    #[track_caller]
    pub(super) fn about(&self, what: &str, found: Duration, wanted: Duration) -> Verdict {
        let least = wanted.saturating_sub(self.drift());
        match found >= least && found <= wanted {
            true => Ok(()),
            false => Err(fail(format!(
                "{what} is {found:?}, not {wanted:?} (nor down to {least:?})"
            ))),
        }
    }

    /// An ask that does not wait.
    pub(super) fn ask<'a>(&self, subject: Subject<'a>, demand: Amounts) -> Reserve<'a> {
        Reserve {
            subject,
            demand,
            ttl: self.second * 10_000,
            max_wait: Duration::ZERO,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        }
    }

    /// An ask that waits as long as anybody could want.
    pub(super) fn patient<'a>(&self, subject: Subject<'a>, demand: Amounts) -> Reserve<'a> {
        Reserve {
            max_wait: self.second * 5_000,
            ..self.ask(subject, demand)
        }
    }

    #[track_caller]
    pub(super) fn reserve<'a>(
        &'a self,
        ask: Reserve<'a>,
    ) -> impl Future<Output = Result<Decision, Stop>> + Send + 'a {
        let at = Location::caller();
        async move {
            let decision = self.soon(self.store.reserve(ask), at).await?;
            decision.map_err(|error| unexpected(at, "a decision", &error))
        }
    }

    #[track_caller]
    pub(super) fn admit<'a>(
        &'a self,
        ask: Reserve<'a>,
    ) -> impl Future<Output = Result<Admission, Stop>> + Send + 'a {
        let (at, decision) = (Location::caller(), self.reserve(ask));
        async move {
            match decision.await? {
                Decision::Admit(admission) => Ok(admission),
                other => Err(unexpected(at, "an admission", &other)),
            }
        }
    }

    #[track_caller]
    pub(super) fn deny<'a>(
        &'a self,
        ask: Reserve<'a>,
    ) -> impl Future<Output = Result<Denial, Stop>> + Send + 'a {
        let (at, decision) = (Location::caller(), self.reserve(ask));
        async move {
            match decision.await? {
                Decision::Deny(denial) => Ok(denial),
                other => Err(unexpected(at, "a denial", &other)),
            }
        }
    }

    #[track_caller]
    pub(super) fn never<'a>(
        &'a self,
        ask: Reserve<'a>,
    ) -> impl Future<Output = Result<Never, Stop>> + Send + 'a {
        let (at, decision) = (Location::caller(), self.reserve(ask));
        async move {
            match decision.await? {
                Decision::Never(never) => Ok(never),
                other => Err(unexpected(at, "a never", &other)),
            }
        }
    }

    /// Reserves and settles the same amounts.
    #[track_caller]
    pub(super) fn spend<'a>(
        &'a self,
        subject: Subject<'a>,
        demand: Amounts,
    ) -> impl Future<Output = Result<Receipt, Stop>> + Send + 'a {
        let (at, admission) = (Location::caller(), self.admit(self.ask(subject, demand)));
        async move {
            let usage = Settlement::Exact(demand);
            let settled = self.store.settle(admission.await?.id, usage);
            let receipt = self.soon(settled, at).await?;
            receipt.map_err(|error| unexpected(at, "a receipt", &error))
        }
    }

    #[track_caller]
    pub(super) fn settle(
        &self,
        id: ReservationId,
        used: Amounts,
    ) -> impl Future<Output = Result<Receipt, Stop>> + Send + '_ {
        self.end(self.store.settle(id, Settlement::Exact(used)))
    }

    #[track_caller]
    pub(super) fn settle_stated(
        &self,
        id: ReservationId,
        used: Stated,
    ) -> impl Future<Output = Result<Receipt, Stop>> + Send + '_ {
        self.end(self.store.settle(id, Settlement::Stated(used)))
    }

    #[track_caller]
    pub(super) fn settle_at_least(
        &self,
        id: ReservationId,
        used: Amounts,
    ) -> impl Future<Output = Result<Receipt, Stop>> + Send + '_ {
        self.end(self.store.settle(id, Settlement::AtLeast(used)))
    }

    #[track_caller]
    pub(super) fn cancel(
        &self,
        id: ReservationId,
    ) -> impl Future<Output = Result<Receipt, Stop>> + Send + '_ {
        self.end(self.store.cancel(id))
    }

    #[track_caller]
    pub(super) fn extend(
        &self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<Extended, Stop>> + Send + '_ {
        self.end(self.store.extend(id, more, ttl))
    }

    /// The answer of an end that must succeed.
    #[track_caller]
    fn end<'a, T: Send + 'a>(
        &'a self,
        ending: BoxFuture<'a, Result<T, SettleError>>,
    ) -> impl Future<Output = Result<T, Stop>> + Send + 'a {
        let at = Location::caller();
        async move {
            let answer = self.soon(ending, at).await?;
            answer.map_err(|error| unexpected(at, "an answer", &error))
        }
    }

    /// Where a limit of a subject stands.
    #[track_caller]
    pub(super) fn standing<'a>(
        &'a self,
        subject: Subject<'a>,
        limit: &'a str,
    ) -> impl Future<Output = Result<Standing, Stop>> + Send + 'a {
        let at = Location::caller();
        async move {
            let standings = self.soon(self.store.peek(subject), at).await?;
            let mut standings = standings.map_err(|error| unexpected(at, "standings", &error))?;
            let place = standings
                .iter()
                .position(|standing| &*standing.limit.name == limit);
            place
                .map(|place| standings.swap_remove(place))
                .ok_or_else(|| fail_at(at, format!("no limit `{limit}` stands for {subject:?}")))
        }
    }

    /// Goes on if a limit of a subject has `wanted` taken (on a bucket, less what came back by itself).
    #[track_caller]
    pub(super) fn used<'a>(
        &'a self,
        subject: Subject<'a>,
        limit: &'a str,
        wanted: u64,
    ) -> impl Future<Output = Verdict> + Send + 'a {
        let (at, standing) = (Location::caller(), self.standing(subject, limit));
        async move {
            let standing = standing.await?;
            let least = wanted.saturating_sub(refilled(&standing, self.drift()));
            match standing.used >= least && standing.used <= wanted {
                true => Ok(()),
                false => Err(fail_at(
                    at,
                    format!("{} of `{limit}` is taken, not {wanted}", standing.used),
                )),
            }
        }
    }

    /// Goes on as soon as something holds that needs no time to pass.
    #[track_caller]
    pub(super) fn soon_holds<'a>(
        &'a self,
        what: &'a str,
        holds: impl Fn() -> bool + Send + Sync + 'a,
    ) -> impl Future<Output = Verdict> + Send + 'a {
        let at = Location::caller();
        async move {
            let mut never = Box::pin(std::future::pending::<()>());
            poll::until(&mut never, self.harness.patience(), &holds).await;
            match holds() {
                true => Ok(()),
                false => Err(fail_at(at, what.to_owned())),
            }
        }
    }

    /// Runs tasks at the same time, to their end.
    #[track_caller]
    pub(super) fn together(
        &self,
        tasks: Vec<BoxFuture<'static, ()>>,
    ) -> impl Future<Output = Verdict> + Send + '_ {
        self.soon(self.harness.together(tasks), Location::caller())
    }

    /// The output of a future that needs no time to pass.
    async fn soon<T>(
        &self,
        future: BoxFuture<'_, T>,
        at: &'static Location<'static>,
    ) -> Result<T, Stop> {
        self.answer(Strict::new(future), at).await
    }

    pub(super) async fn answer<T>(
        &self,
        mut future: Strict<BoxFuture<'_, T>>,
        at: &'static Location<'static>,
    ) -> Result<T, Stop> {
        let output = poll::within(&mut future, self.harness.patience()).await;
        output.ok_or_else(|| fail_at(at, "no answer came".to_owned()))
    }
}

/// A policy of these rules and the built-in metrics.
#[track_caller]
pub(super) fn policy(rules: impl Into<Vec<Rule>>) -> Result<Policy, Stop> {
    let policy = Policy::new(rules.into(), Metrics::default());
    policy.map_err(|error| Stop::Failed(Failure::new(error.to_string())))
}

pub(super) fn unexpected(at: &'static Location<'static>, wanted: &str, seen: &impl Debug) -> Stop {
    fail_at(at, format!("{wanted} expected: {seen:?}"))
}

/// How much of a bucket can have come back in `length`.
fn refilled(standing: &Standing, length: Duration) -> u64 {
    let Shape::Bucket { every, .. } = standing.limit.shape else {
        return 0;
    };
    let refilled = u128::from(standing.limit.amount) * length.as_nanos();
    let refilled = refilled.div_ceil(u128::from(every.as_nanos()));
    u64::try_from(refilled).unwrap_or(u64::MAX)
}
