//! All or nothing, and never over.
use super::rules::{ALICE, bucket, flight, long, request, rule, tokens, tokens_by_user};
use super::trial::Trial;
use super::verdict::{Verdict, ensure, same};
use super::{Harness, poll};
use crate::store::{BoxFuture, Reserve, Settlement, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tallygate_core::{Amounts, Decision, Metric, Shape};

pub(super) const CASES: &[super::Case] = cases! { "atomic":
    a_denial_changes_nothing,
    token_denials_burn_no_requests,
    outstanding_reservations_are_seen,
    never_over_under_concurrent_callers,
    never_over_on_several_limits_at_once,
    never_over_while_others_settle,
    never_more_in_flight_under_concurrent_callers,
};

async fn a_denial_changes_nothing(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 10, Shape::Concurrency);
    let t = Trial::open(
        harness,
        [
            rule("first", &[], &[(Metric::TOKENS, 1000, long()), slots]),
            rule("second", &["user"], &[(Metric::REQUESTS, 10, long())]),
            rule("third", &["user"], &[(Metric::TOKENS, 100, long())]),
            rule(
                "fourth",
                &["user"],
                &[(Metric::TOKENS, 1000, bucket(harness.second() * 1000))],
            ),
        ],
    )
    .await?;
    t.admit(t.ask(ALICE, request(60).with(Metric::CONCURRENCY, 1)))
        .await?;
    for _ in 0..20 {
        let denial = t
            .deny(t.ask(ALICE, request(41).with(Metric::CONCURRENCY, 1)))
            .await?;
        same("blockers", denial.blocked_by.len(), 1)?;
        t.never(t.ask(ALICE, request(101))).await?;
    }
    for (name, used) in [("first", 60), ("second", 1), ("third", 60), ("fourth", 60)] {
        t.used(ALICE, name, used).await?;
    }
    same("open reservations", t.store().stats().reservations, 1)
}

/// In a peer the limits of one request were spent one after another: a denial by tokens had burnt a request.
async fn token_denials_burn_no_requests(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(
        harness,
        [rule(
            "both",
            &["user"],
            &[
                (Metric::REQUESTS, 10, long()),
                (Metric::TOKENS, 100, long()),
            ],
        )],
    )
    .await?;
    t.spend(ALICE, request(91)).await?;
    for _ in 0..50 {
        t.deny(t.ask(ALICE, request(10))).await?;
    }
    for _ in 0..9 {
        t.spend(ALICE, request(1)).await?;
    }
    let denial = t.deny(t.ask(ALICE, request(0))).await?;
    same(
        "the blocker",
        denial.blocked_by[0].limit.metric,
        Metric::REQUESTS,
    )
}

/// In a peer a plain check did not see what others held.
async fn outstanding_reservations_are_seen(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(70))).await?;
    let standing = t.standing(ALICE, "quota").await?;
    same("what remains", standing.remaining, 30)?;
    t.deny(t.ask(ALICE, tokens(31))).await?;
    let second = t.admit(t.ask(ALICE, tokens(30))).await?;
    same("what remains", second.standings[0].remaining, 0)?;
    t.cancel(held.id).await?;
    t.used(ALICE, "quota", 30).await
}

/// A peer admitted 1036 of 1000 with four threads. Seven callers in step do not come out even.
async fn never_over_under_concurrent_callers(harness: &dyn Harness) -> Verdict {
    for shape in [long(), bucket(harness.second() * 1_000_000)] {
        let t = Trial::open(harness, tokens_by_user(1000, shape)).await?;
        let admitted = Arc::new(AtomicU64::new(0));
        t.together((0..7).map(|_| takers(&t, tokens(1), &admitted)).collect())
            .await?;
        same("admitted", admitted.load(Ordering::SeqCst), 1000)?;
        t.used(ALICE, "quota", 1000).await?;
    }
    Ok(())
}

/// Asks 200 times for `demand`, and counts what is admitted.
fn takers(t: &Trial<'_>, demand: Amounts, admitted: &Arc<AtomicU64>) -> BoxFuture<'static, ()> {
    let (store, admitted, ask) = (t.store().clone(), admitted.clone(), t.ask(ALICE, demand));
    Box::pin(async move {
        for _ in 0..200 {
            if let Ok(Decision::Admit(_)) = store.reserve(ask).await {
                admitted.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
}

async fn never_over_on_several_limits_at_once(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(
        harness,
        [
            rule("all", &[], &[(Metric::TOKENS, 2000, long())]),
            rule(
                "own",
                &["user"],
                &[
                    (Metric::REQUESTS, 500, long()),
                    (Metric::TOKENS, 5000, long()),
                ],
            ),
        ],
    )
    .await?;
    let admitted = Arc::new(AtomicU64::new(0));
    t.together((0..7).map(|_| takers(&t, request(7), &admitted)).collect())
        .await?;
    let admitted = admitted.load(Ordering::SeqCst);
    same("admitted", admitted, 2000 / 7)?;
    t.used(ALICE, "all", admitted * 7).await?;
    t.used(ALICE, "own", admitted).await?;
    same(
        "open reservations",
        t.store().stats().reservations as u64,
        admitted,
    )
}

async fn never_over_while_others_settle(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(1000, long())).await?;
    let spent = Arc::new(AtomicU64::new(0));
    t.together((0..7).map(|_| settlers(&t, &spent)).collect())
        .await?;
    let spent = spent.load(Ordering::SeqCst);
    ensure(spent <= 1000, || format!("{spent} of 1000"))?;
    // A refusal means that more was taken than this, six others holding 15 each.
    ensure(spent > 895, || {
        format!("only {spent} of 1000 while more was asked for")
    })?;
    t.used(ALICE, "quota", spent).await
}

/// Asks 200 times for 15, uses 5 of it, and counts what was used.
fn settlers(t: &Trial<'_>, spent: &Arc<AtomicU64>) -> BoxFuture<'static, ()> {
    let (store, spent, ask) = (t.store().clone(), spent.clone(), t.ask(ALICE, tokens(15)));
    Box::pin(async move {
        for _ in 0..200 {
            if let Ok(Decision::Admit(admission)) = store.reserve(ask).await {
                let settled = store
                    .settle(admission.id, Settlement::Exact(tokens(5)))
                    .await;
                let used = settled.map_or(0, |receipt| receipt.charged.get(Metric::TOKENS));
                spent.fetch_add(used, Ordering::SeqCst);
            }
        }
    })
}

async fn never_more_in_flight_under_concurrent_callers(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 3, Shape::Concurrency);
    let t = Trial::open(harness, [rule("slots", &[], &[slots])]).await?;
    let flying = Arc::new(Flying::default());
    let ask = Reserve {
        max_wait: Duration::from_secs(3600),
        ..t.ask(ALICE, flight(1))
    };
    t.together((0..8).map(|_| fly(t.store(), ask, &flying)).collect())
        .await?;
    same("flights", flying.landed.load(Ordering::SeqCst), 8 * 50)?;
    let most = flying.most.load(Ordering::SeqCst);
    ensure(most <= 3, || format!("{most} in flight of 3"))?;
    t.used(ALICE, "slots", 0).await
}

#[derive(Default)]
struct Flying {
    now: AtomicU64,
    most: AtomicU64,
    landed: AtomicU64,
}

/// Fifty calls in a row, each waiting for its slot.
fn fly(
    store: &Arc<dyn Store>,
    ask: Reserve<'static>,
    flying: &Arc<Flying>,
) -> BoxFuture<'static, ()> {
    let (store, flying) = (store.clone(), flying.clone());
    Box::pin(async move {
        for _ in 0..50 {
            let Ok(Decision::Admit(admission)) = store.reserve(ask).await else {
                return;
            };
            let now = flying.now.fetch_add(1, Ordering::SeqCst) + 1;
            flying.most.fetch_max(now, Ordering::SeqCst);
            poll::give_way().await;
            flying.now.fetch_sub(1, Ordering::SeqCst);
            if store
                .settle(admission.id, Settlement::Exact(flight(1)))
                .await
                .is_ok()
            {
                flying.landed.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
}
