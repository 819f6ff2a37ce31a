//! No starvation: waiters are served in order and woken exactly, and waiting holds nothing.
use super::Harness;
use super::rules::{ALICE, BOB, bucket, flight, long, request, rule, tokens, tokens_by_user};
use super::trial::{Trial, policy};
use super::verdict::{Stop, Verdict, ensure, fail, same};
use super::waiting::Waiting;
use crate::store::{BoxFuture, Reserve, Settlement};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tallygate_core::{Decision, Metric, Rule, Shape, WaitsFor};

pub(super) const CASES: &[super::Case] = cases! { "lines":
    waiters_are_served_at_the_exact_instant,
    waiters_are_served_in_order,
    a_newcomer_queues_behind,
    a_large_demand_is_not_starved,
    ones_own_limit_holds_nobody_up,
    a_settle_wakes,
    a_cancel_wakes,
    an_expiry_wakes,
    a_leaver_wakes_the_next,
    a_raised_limit_wakes,
    a_lowered_limit_answers,
    a_dropped_limit_wakes,
    a_waiter_that_leaves_holds_nothing,
    a_waiter_that_leaves_as_it_is_answered_holds_nothing,
    a_future_never_polled_does_nothing,
    a_wait_that_ends_consumes_nothing,
    a_hopeless_wait_is_refused_at_once,
    a_wait_that_loses_its_hope_is_refused_then,
    a_denied_waiter_knows_when,
    many_waiters_all_end,
    who_waits_for_rates_only_is_denied_by_a_quota,
    a_quota_that_fills_ends_a_wait_for_rates_only,
};

const MOMENT: Duration = Duration::from_nanos(1);

/// Goes on if a caller still waits, or if its time has come meanwhile by itself.
async fn still_waits(t: &Trial<'_>, waiting: &mut Waiting<'_>) -> Verdict {
    match waiting.is_waiting().await {
        Ok(()) => Ok(()),
        Err(_) if t.drift() > Duration::ZERO => Err(Stop::Skipped("the machine stalled")),
        Err(answer) => Err(fail(format!("answered too early: {answer:?}"))),
    }
}

async fn waiters_are_served_at_the_exact_instant(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    t.spend(ALICE, tokens(100)).await?;
    let free = t.deny(t.ask(ALICE, tokens(50))).await?.retry_at;
    let mut waiting = t.queue(t.patient(ALICE, tokens(50)), 1).await?;
    let left = Duration::from(free.since(t.now()));
    t.pass(left.saturating_sub(MOMENT)).await;
    still_waits(&t, &mut waiting).await?;
    t.pass_to(free).await;
    let admission = waiting.admitted().await?;
    ensure(t.now() >= free, || "it was served early".to_owned())?;
    let late = admission.waited.saturating_sub(left + t.drift());
    same("what it waited too long", late, Duration::ZERO)
}

async fn waiters_are_served_in_order(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    t.spend(ALICE, tokens(100)).await?;
    let mut first = t.queue(t.patient(ALICE, tokens(30)), 1).await?;
    let mut second_one = t.queue(t.patient(ALICE, tokens(10)), 2).await?;
    let mut third = t.queue(t.patient(ALICE, tokens(20)), 3).await?;
    t.pass(second * 2).await;
    for waiting in [&mut first, &mut second_one, &mut third] {
        still_waits(&t, waiting).await?;
    }
    t.pass(second).await;
    first.admitted().await?;
    still_waits(&t, &mut second_one).await?;
    t.pass(second).await;
    second_one.admitted().await?;
    still_waits(&t, &mut third).await?;
    t.pass(second * 2).await;
    third.admitted().await.map(drop)
}

async fn a_newcomer_queues_behind(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    t.spend(ALICE, tokens(90)).await?;
    let large = t.queue(t.patient(ALICE, tokens(50)), 1).await?;
    // There is room for 10, but the large one came first and needs it.
    let denial = t.deny(t.ask(ALICE, tokens(10))).await?;
    t.about("the wait of one behind", denial.retry_after, second * 5)?;
    let small = t.queue(t.patient(ALICE, tokens(10)), 2).await?;
    t.admit(t.ask(BOB, tokens(10))).await?;
    t.pass(second * 4).await;
    large.admitted().await?;
    t.pass(second).await;
    small.admitted().await.map(drop)
}

/// In peers a request of 80 % of the bucket behind small ones waited for ever.
async fn a_large_demand_is_not_starved(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    t.spend(ALICE, tokens(100)).await?;
    let begun = t.now();
    let mut large = Some(t.queue(t.patient(ALICE, tokens(80)), 1).await?);
    let mut behind = Vec::new();
    for waiters in 2..42 {
        t.deny(t.ask(ALICE, tokens(1))).await?;
        behind.push(t.queue(t.patient(ALICE, tokens(1)), waiters).await?);
        t.pass(second / 5).await;
        if t.store().stats().waiters < waiters {
            break;
        }
    }
    let waited = match large.take() {
        Some(large) => large.admitted().await?.waited,
        None => Duration::ZERO,
    };
    // Eight seconds refill 80: the ideal of a line.
    let ideal = second * 8;
    ensure(waited <= ideal + t.drift(), || {
        format!("{waited:?} instead of {ideal:?}")
    })?;
    ensure(waited + t.drift() >= ideal, || {
        format!("served early, after {waited:?}")
    })?;
    t.pass_to(begun.plus((second * 13).into())).await;
    for small in behind {
        small.admitted().await?;
    }
    Ok(())
}

async fn ones_own_limit_holds_nobody_up(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let all = rule("all", &[], &[(Metric::TOKENS, 100, bucket(second * 10))]);
    let own = rule(
        "own",
        &["user"],
        &[(Metric::TOKENS, 20, bucket(second * 40))],
    );
    let t = Trial::open(harness, [all, own]).await?;
    t.spend(ALICE, tokens(20)).await?;
    let alice = t.queue(t.patient(ALICE, tokens(10)), 1).await?;
    for user in ["b", "c", "d", "e"] {
        t.spend(&[("user", user)], tokens(20)).await?;
    }
    let waiting = t.queue(t.patient(BOB, tokens(20)), 2).await?;
    t.pass(second * 2).await;
    waiting.admitted().await?;
    t.pass(second * 18).await;
    alice.admitted().await.map(drop)
}

fn tokens_and_slot() -> [Rule; 2] {
    let slots = [(Metric::CONCURRENCY, 1, Shape::Concurrency)];
    let quota = [(Metric::TOKENS, 1000, long())];
    [rule("quota", &["user"], &quota), rule("slot", &[], &slots)]
}

async fn a_settle_wakes(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    let waiting = t.queue(t.patient(ALICE, tokens(60)), 1).await?;
    t.settle(held.id, tokens(40)).await?;
    let admission = waiting.admitted().await?;
    t.settle(admission.id, tokens(60)).await?;
    t.used(ALICE, "quota", 100).await
}

async fn a_cancel_wakes(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_and_slot()).await?;
    let held = t.admit(t.ask(ALICE, flight(10))).await?;
    let waiting = t.queue(t.patient(BOB, flight(10)), 1).await?;
    t.cancel(held.id).await?;
    waiting.admitted().await.map(drop)
}

async fn an_expiry_wakes(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_and_slot()).await?;
    let brief = Reserve {
        ttl: t.second * 5,
        ..t.ask(ALICE, flight(10))
    };
    let held = t.admit(brief).await?;
    let mut waiting = t.queue(t.patient(BOB, flight(10)), 1).await?;
    let left = Duration::from(held.expires_at.since(t.now()));
    t.pass(left.saturating_sub(MOMENT)).await;
    still_waits(&t, &mut waiting).await?;
    t.pass_to(held.expires_at).await;
    waiting.admitted().await.map(drop)
}

async fn a_leaver_wakes_the_next(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(60))).await?;
    let large = t.queue(t.patient(ALICE, tokens(80)), 1).await?;
    let small = t.queue(t.patient(ALICE, tokens(40)), 2).await?;
    drop(large);
    small.admitted().await?;
    t.cancel(held.id).await?;
    t.used(ALICE, "quota", 40).await
}

async fn a_raised_limit_wakes(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    for shape in [bucket(second * 1000), long()] {
        let t = Trial::open(harness, tokens_by_user(100, shape.clone())).await?;
        let held = t.admit(t.ask(ALICE, tokens(100))).await?;
        let waiting = t.queue(t.patient(ALICE, tokens(60)), 1).await?;
        replace(&t, tokens_by_user(200, shape))?;
        waiting.admitted().await?;
        t.used(ALICE, "quota", 160).await?;
        t.cancel(held.id).await?;
        t.used(ALICE, "quota", 60).await?;
    }
    Ok(())
}

fn replace(t: &Trial<'_>, rules: impl Into<Vec<Rule>>) -> Verdict {
    let replaced = t.store().replace_policy(Arc::new(policy(rules)?));
    replaced.map_err(|error| fail(error.to_string()))
}

async fn a_lowered_limit_answers(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    t.admit(t.ask(ALICE, tokens(100))).await?;
    let mut small = t.queue(t.patient(ALICE, tokens(40)), 1).await?;
    let large = t.queue(t.patient(ALICE, tokens(60)), 2).await?;
    replace(&t, tokens_by_user(50, long()))?;
    match large.answer().await? {
        Decision::Never(never) => same("the largest", never.largest, vec![(Metric::TOKENS, 50)])?,
        other => return Err(fail(format!("never expected: {other:?}"))),
    }
    still_waits(&t, &mut small).await
}

async fn a_dropped_limit_wakes(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    let waiting = t.queue(t.patient(ALICE, tokens(60)), 1).await?;
    replace(&t, [])?;
    let admission = waiting.admitted().await?;
    t.settle(admission.id, tokens(60)).await?;
    t.settle(held.id, tokens(100)).await.map(drop)
}

async fn a_waiter_that_leaves_holds_nothing(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(90))).await?;
    for _ in 0..10 {
        drop(t.queue(t.patient(ALICE, tokens(50)), 1).await?);
        let store = t.store().clone();
        t.soon_holds("a caller that left is in line", move || {
            store.stats().waiters == 0
        })
        .await?;
    }
    t.used(ALICE, "quota", 90).await?;
    // Where its place is given up by a message, that may be on its way.
    let next = t.admit(t.patient(ALICE, tokens(10))).await?;
    t.settle(next.id, tokens(10)).await?;
    t.cancel(held.id).await?;
    t.used(ALICE, "quota", 10).await?;
    same("open reservations", t.store().stats().reservations, 0)
}

async fn a_waiter_that_leaves_as_it_is_answered_holds_nothing(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_and_slot()).await?;
    for _ in 0..10 {
        let held = t.admit(t.ask(ALICE, flight(10))).await?;
        let waiting = t.queue(t.patient(BOB, flight(10)), 1).await?;
        let next = t.queue(t.patient(ALICE, flight(10)), 2).await?;
        t.cancel(held.id).await?;
        // Its turn has come, and it never hears of it.
        drop(waiting);
        let next = next.admitted().await?;
        t.cancel(next.id).await?;
    }
    t.used(BOB, "quota", 0).await?;
    same("open reservations", t.store().stats().reservations, 0)
}

async fn a_future_never_polled_does_nothing(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(10))).await?;
    drop(t.store().reserve(t.ask(ALICE, tokens(50))));
    drop(t.store().reserve(t.patient(ALICE, tokens(50))));
    drop(t.store().settle(held.id, Settlement::Exact(tokens(0))));
    drop(t.store().cancel(held.id));
    drop(t.store().extend(held.id, tokens(50), None));
    t.used(ALICE, "quota", 10).await?;
    t.settle(held.id, tokens(5)).await?;
    t.used(ALICE, "quota", 5).await
}

async fn a_wait_that_ends_consumes_nothing(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(60))).await?;
    let impatient = Reserve {
        max_wait: t.second * 3,
        ..t.ask(ALICE, tokens(50))
    };
    let mut waiting = t.queue(impatient, 1).await?;
    t.pass(t.second * 3 - MOMENT).await;
    still_waits(&t, &mut waiting).await?;
    t.pass(MOMENT).await;
    let denial = waiting.denied().await?;
    same("the blocker", &*denial.blocked_by[0].limit.name, "quota")?;
    same("waiters", t.store().stats().waiters, 0)?;
    t.used(ALICE, "quota", 60).await?;
    t.cancel(held.id).await?;
    t.spend(ALICE, tokens(100)).await.map(drop)
}

async fn a_hopeless_wait_is_refused_at_once(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    t.spend(ALICE, tokens(100)).await?;
    let ask = |seconds| Reserve {
        max_wait: second * seconds,
        ..t.ask(ALICE, tokens(80))
    };
    let before = t.now();
    let denial = t.deny(ask(5)).await?;
    let took = Duration::from(t.now().since(before));
    ensure(took < second * 5, || format!("refused after {took:?}"))?;
    t.about("the wait", denial.retry_after, second * 8)?;
    let waiting = t.queue(ask(8), 1).await?;
    t.pass(second * 8).await;
    waiting.admitted().await.map(drop)
}

/// What is open may be given back, so a caller waits for it; once it was used, no wait of his can help.
async fn a_wait_that_loses_its_hope_is_refused_then(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 40))).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    let ask = || Reserve {
        max_wait: second * 20,
        ..t.ask(ALICE, tokens(80))
    };
    let first = t.queue(ask(), 1).await?;
    let next = t.queue(ask(), 2).await?;
    let before = t.now();
    t.settle(held.id, tokens(100)).await?;
    let denial = first.denied().await?;
    t.about("the wait", denial.retry_after, second * 32)?;
    next.denied().await?;
    let took = Duration::from(t.now().since(before));
    ensure(took < second * 10, || format!("refused after {took:?}"))?;
    same("waiters", t.store().stats().waiters, 0)?;
    t.used(ALICE, "quota", 100).await
}

/// One whose wait ends behind others is told what one who came then would be.
async fn a_denied_waiter_knows_when(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 100))).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    let first = t.queue(t.patient(ALICE, tokens(30)), 1).await?;
    let impatient = Reserve {
        max_wait: second * 3,
        ..t.ask(ALICE, tokens(20))
    };
    let waiting = t.queue(impatient, 2).await?;
    t.pass(second * 3).await;
    let denial = waiting.denied().await?;
    t.about("the wait behind the first", denial.retry_after, second * 47)?;
    same(
        "the instant",
        t.deny(t.ask(ALICE, tokens(20))).await?.retry_at,
        denial.retry_at,
    )?;
    t.settle(held.id, tokens(100)).await?;
    t.pass_to(denial.retry_at).await;
    first.admitted().await?;
    t.admit(t.ask(ALICE, tokens(20))).await.map(drop)
}

async fn many_waiters_all_end(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_and_slot()).await?;
    let served = Arc::new(AtomicU64::new(0));
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    for at in 0..60 {
        let (store, served) = (t.store().clone(), served.clone());
        let ask = t.patient(if at % 2 == 0 { ALICE } else { BOB }, flight(10));
        tasks.push(Box::pin(async move {
            if let Ok(Decision::Admit(admission)) = store.reserve(ask).await
                && store
                    .settle(admission.id, Settlement::Exact(flight(10)))
                    .await
                    .is_ok()
            {
                served.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    t.together(tasks).await?;
    same("served", served.load(Ordering::SeqCst), 60)?;
    t.used(ALICE, "quota", 300).await?;
    t.used(BOB, "quota", 300).await
}

/// A rate for all, and a quota a user.
fn rate_and_quota(t: Duration) -> [Rule; 2] {
    let rate = [(Metric::REQUESTS, 1, bucket(t * 1000))];
    let quota = [(Metric::TOKENS, 100, long())];
    [rule("rate", &[], &rate), rule("quota", &["user"], &quota)]
}

async fn who_waits_for_rates_only_is_denied_by_a_quota(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, rate_and_quota(harness.second())).await?;
    // It may be given back, so that whoever waits for anything would have hope.
    t.admit(t.ask(ALICE, request(60))).await?;
    let for_rates = |amount| Reserve {
        waits_for: WaitsFor::Rates,
        ..t.patient(ALICE, request(amount))
    };
    // Both are in the way of it.
    let denial = t.deny(for_rates(41)).await?;
    same("the limits in its way", denial.blocked_by.len(), 2)?;
    same("who waits", t.store().stats().waiters, 0)?;
    let mut waiting = t.queue(for_rates(40), 1).await?;
    still_waits(&t, &mut waiting).await
}

/// Whatever fills it: it was never in the line of the quota.
async fn a_quota_that_fills_ends_a_wait_for_rates_only(harness: &dyn Harness) -> Verdict {
    for overruns in [false, true] {
        let t = Trial::open(harness, rate_and_quota(harness.second())).await?;
        let held = t.admit(t.ask(ALICE, request(50))).await?;
        let ask = Reserve {
            waits_for: WaitsFor::Rates,
            ..t.patient(ALICE, request(40))
        };
        let waiting = t.queue(ask, 1).await?;
        match overruns {
            true => drop(t.settle(held.id, request(61)).await?),
            // It asks for nothing that the rate counts.
            false => drop(t.spend(ALICE, tokens(11)).await?),
        }
        let denial = waiting.denied().await?;
        let by = denial.blocked_by.iter();
        let is_told = by.into_iter().any(|by| &*by.limit.name == "quota");
        ensure(is_told, || format!("the quota is not named: {denial:?}"))?;
        same("who waits", t.store().stats().waiters, 0)?;
    }
    Ok(())
}
