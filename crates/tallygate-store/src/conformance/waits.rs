//! Exact waits: denied a moment before the instant that was named, admitted at it.
use super::Harness;
use super::rules::{
    ALICE, BOB, bucket, bucket_of, fixed, flight, long, request, rule, sliding, strict_bucket,
    tokens, tokens_by_user,
};
use super::trial::Trial;
use super::verdict::{Verdict, ensure, same};
use crate::store::Reserve;
use std::time::Duration;
use tallygate_core::{Calendar, Decision, Metric, Shape};

pub(super) const CASES: &[super::Case] = cases! { "waits":
    a_bucket_says_exactly_when,
    a_sliding_limit_says_exactly_when,
    a_fixed_limit_says_exactly_when,
    concurrency_says_exactly_when,
    several_limits_say_the_latest,
    a_denial_names_those_who_block,
    a_wait_depends_on_the_demand,
    asking_again_moves_no_wait,
    what_can_never_fit_says_the_largest_that_can,
};

const MOMENT: Duration = Duration::from_nanos(1);

/// Denied now, denied a moment before the instant that is named, admitted at it.
async fn exact(t: &Trial<'_>, ask: Reserve<'_>) -> Verdict {
    let denial = t.deny(ask).await?;
    let left = Duration::from(denial.retry_at.since(t.now()));
    t.about("the wait", left, denial.retry_after)?;
    t.pass(left.saturating_sub(MOMENT)).await;
    match t.reserve(ask).await? {
        Decision::Deny(again) => {
            same(
                "the instant a moment before it",
                again.retry_at,
                denial.retry_at,
            )?;
            t.pass_to(denial.retry_at).await;
            t.admit(ask).await.map(drop)
        }
        early => {
            let now = t.now();
            ensure(now >= denial.retry_at, || {
                format!("{early:?} at {now:?}, before {:?}", denial.retry_at)
            })
        }
    }
}

async fn a_bucket_says_exactly_when(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    for shape in [
        bucket(second * 7),
        bucket_of(second * 3, 5),
        strict_bucket(second * 11, 4),
    ] {
        let most = match shape {
            Shape::Bucket { burst, .. } => burst.unwrap_or(13),
            _ => 13,
        };
        let t = Trial::open(harness, tokens_by_user(13, shape)).await?;
        t.spend(ALICE, tokens(most)).await?;
        for amount in [1, 3, most, 2] {
            exact(&t, t.ask(ALICE, tokens(amount))).await?;
        }
    }
    Ok(())
}

async fn a_sliding_limit_says_exactly_when(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, sliding(second * 4))).await?;
    for amount in [30, 30, 40] {
        t.spend(ALICE, tokens(amount)).await?;
        t.pass(second).await;
    }
    exact(&t, t.ask(ALICE, tokens(31))).await?;
    exact(&t, t.ask(ALICE, tokens(60))).await?;
    exact(&t, t.ask(ALICE, tokens(100))).await
}

async fn a_fixed_limit_says_exactly_when(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, fixed(Calendar::Second))).await?;
    for amount in [1, 70, 100] {
        t.pass_to_full_second().await;
        let held = t.admit(t.ask(ALICE, tokens(100))).await?;
        exact(&t, t.ask(ALICE, tokens(amount))).await?;
        t.settle(held.id, tokens(100)).await?;
    }
    Ok(())
}

async fn concurrency_says_exactly_when(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 2, Shape::Concurrency);
    let t = Trial::open(harness, [rule("slots", &[], &[slots])]).await?;
    let flying = |seconds| Reserve {
        ttl: t.second * seconds,
        ..t.ask(BOB, flight(1))
    };
    let late = t.admit(flying(9)).await?;
    let soon = t.admit(flying(4)).await?;
    let denial = t.deny(t.ask(ALICE, flight(1))).await?;
    same(
        "the first slot's deadline",
        denial.retry_at,
        soon.expires_at,
    )?;
    exact(&t, t.ask(ALICE, flight(1))).await?;
    let denial = t.deny(t.ask(ALICE, flight(1))).await?;
    same(
        "the second slot's deadline",
        denial.retry_at,
        late.expires_at,
    )?;
    exact(&t, t.ask(ALICE, flight(1))).await
}

async fn several_limits_say_the_latest(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let limits = [
        (Metric::REQUESTS, 10, bucket(second * 10)),
        (Metric::TOKENS, 100, bucket(second * 20)),
    ];
    let slow = rule(
        "slow",
        &["user"],
        &[(Metric::TOKENS, 50, sliding(second * 15))],
    );
    let t = Trial::open(harness, [rule("fast", &["user"], &limits), slow]).await?;
    t.spend(ALICE, request(50).with(Metric::REQUESTS, 10))
        .await?;
    let denial = t.deny(t.ask(ALICE, request(50))).await?;
    t.about("the wait", denial.retry_after, second * 15)?;
    let names: Vec<&str> = denial.blocked_by.iter().map(|by| &*by.limit.name).collect();
    same("the blockers", names, vec!["fast", "slow"])?;
    exact(&t, t.ask(ALICE, request(50))).await
}

/// A window that has turned since it was last looked at blocks nobody.
async fn a_denial_names_those_who_block(harness: &dyn Harness) -> Verdict {
    let brief = [(Metric::TOKENS, 10, fixed(Calendar::Second))];
    let month = [(Metric::REQUESTS, 1, long())];
    let rules = [
        rule("month", &["user"], &month),
        rule("second", &["user"], &brief),
    ];
    let t = Trial::open(harness, rules).await?;
    t.spend(ALICE, request(10)).await?;
    t.pass(Duration::from_secs(1)).await;
    let denial = t.deny(t.ask(ALICE, request(10))).await?;
    same("blockers", denial.blocked_by.len(), 1)?;
    same("the blocker", &*denial.blocked_by[0].limit.name, "month")
}

/// A peer said `Retry-After: 60` whatever the wait.
async fn a_wait_depends_on_the_demand(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(60, bucket(second * 60))).await?;
    t.spend(ALICE, tokens(60)).await?;
    for amount in [1, 2, 30, 59, 60] {
        let denial = t.deny(t.ask(ALICE, tokens(amount))).await?;
        let wait = second * u32::try_from(amount).unwrap_or(u32::MAX);
        t.about("the wait", denial.retry_after, wait)?;
    }
    Ok(())
}

async fn asking_again_moves_no_wait(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    for shape in [bucket(second * 10), sliding(second * 10)] {
        let t = Trial::open(harness, tokens_by_user(100, shape)).await?;
        t.spend(ALICE, tokens(100)).await?;
        let first = t.deny(t.ask(ALICE, tokens(50))).await?;
        for _ in 0..4 {
            t.pass(second).await;
            let again = t.deny(t.ask(ALICE, tokens(50))).await?;
            same("the instant", again.retry_at, first.retry_at)?;
        }
        exact(&t, t.ask(ALICE, tokens(50))).await?;
    }
    Ok(())
}

/// Peers answered a finite wait for ever, or zero.
async fn what_can_never_fit_says_the_largest_that_can(harness: &dyn Harness) -> Verdict {
    let limits = [(Metric::REQUESTS, 2, long()), (Metric::TOKENS, 500, long())];
    let narrow = [(Metric::TOKENS, 400, bucket_of(harness.second() * 60, 300))];
    let rules = [
        rule("wide", &["user"], &limits),
        rule("narrow", &["user"], &narrow),
    ];
    let t = Trial::open(harness, rules).await?;
    for max_wait in [Duration::ZERO, t.second * 1000] {
        let ask = Reserve {
            max_wait,
            ..t.ask(ALICE, request(600))
        };
        let never = t.never(ask).await?;
        same("the largest", never.largest, vec![(Metric::TOKENS, 300)])?;
        same("the limits it cannot fit", never.blocked_by.len(), 2)?;
    }
    let never = t.never(t.ask(ALICE, request(400))).await?;
    same("the limits it cannot fit", never.blocked_by.len(), 1)?;
    let requests = request(301).with(Metric::REQUESTS, 3);
    let mut largest = t.never(t.ask(ALICE, requests)).await?.largest;
    largest.sort_unstable();
    same(
        "the largest",
        largest,
        vec![(Metric::REQUESTS, 2), (Metric::TOKENS, 300)],
    )?;
    t.admit(t.ask(ALICE, request(300))).await.map(drop)
}
