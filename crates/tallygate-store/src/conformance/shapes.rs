//! Every shape of a limit keeps its promise.
use super::Harness;
use super::rules::{
    ALICE, BOB, bucket, bucket_of, fixed, flight, long, rule, sliding, strict_bucket, tokens,
    tokens_by_user,
};
use super::trial::Trial;
use super::verdict::{Verdict, ensure, fail, same};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::Duration;
use tallygate_core::{Amounts, Calendar, Metric, Metrics, Mode, Policy, Shape, Time};

pub(super) const CASES: &[super::Case] = cases! { "shapes":
    a_bucket_refills_continuously,
    a_bucket_keeps_its_burst_after_idling,
    a_strict_bucket_keeps_any_span,
    a_sliding_limit_keeps_any_span,
    a_sliding_limit_forgets_nothing_early,
    a_fixed_limit_begins_anew_at_the_edge,
    a_day_ends_at_midnight_of_its_zone,
    concurrency_counts_calls_in_flight,
    windows_of_one_metric_count_apart,
    every_metric_counts,
    a_shadow_limit_counts_and_denies_nothing,
    what_is_not_asked_for_is_not_limited,
};

async fn a_bucket_refills_continuously(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    t.spend(ALICE, tokens(100)).await?;
    let denial = t.deny(t.ask(ALICE, tokens(40))).await?;
    t.about("the wait", denial.retry_after, second * 4)?;
    t.pass(second * 4).await;
    t.used(ALICE, "quota", 60).await?;
    t.spend(ALICE, tokens(40)).await?;
    let denial = t.deny(t.ask(ALICE, tokens(40))).await?;
    t.about("the wait", denial.retry_after, second * 4)
}

/// A peer admitted 16 of a burst of 10 after idling.
async fn a_bucket_keeps_its_burst_after_idling(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket_of(second * 100, 10))).await?;
    t.spend(ALICE, tokens(1)).await?;
    t.pass(second * 40).await;
    let mut admitted = 0;
    let mut records = Vec::new();
    while admitted < 16 && take(&t, 1, &mut records).await?.is_none() {
        admitted += 1;
    }
    bucket_envelope(&records, (10, 100, second * 100))?;
    ensure(admitted >= 10, || format!("{admitted} of a burst of 10"))
}

async fn a_strict_bucket_keeps_any_span(harness: &dyn Harness) -> Verdict {
    let window = harness.second() * 4;
    let t = Trial::open(harness, tokens_by_user(100, strict_bucket(window, 20))).await?;
    let records = greedy(&t, window * 3, 7).await?;
    any_span(&records, window, 100)?;
    bucket_envelope(&records, (20, 80, window))
}

async fn a_sliding_limit_keeps_any_span(harness: &dyn Harness) -> Verdict {
    let window = harness.second() * 4;
    let t = Trial::open(harness, tokens_by_user(100, sliding(window))).await?;
    let mut records = greedy(&t, window, 7).await?;
    t.pass(window / 3).await;
    records.extend(greedy(&t, window * 2, 3).await?);
    any_span(&records, window, 100)?;
    t.pass(window).await;
    t.spend(ALICE, tokens(100)).await.map(drop)
}

/// What came shortly after something else does not leave the window together with it.
async fn a_sliding_limit_forgets_nothing_early(harness: &dyn Harness) -> Verdict {
    let window = harness.second() * 8;
    let t = Trial::open(harness, tokens_by_user(100, sliding(window))).await?;
    let mut records = Vec::new();
    take(&t, 40, &mut records).await?;
    t.pass(window / 40).await;
    take(&t, 40, &mut records).await?;
    t.pass(window - window / 40).await;
    for amount in [10, 90, 50] {
        take(&t, amount, &mut records).await?;
    }
    any_span(&records, window, 100)
}

async fn a_fixed_limit_begins_anew_at_the_edge(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, fixed(Calendar::Second))).await?;
    t.pass_to_full_second().await;
    t.spend(ALICE, tokens(60)).await?;
    let standing = t.standing(ALICE, "quota").await?;
    let edge = t.now().plus(standing.reset.into());
    if standing.used == 60 {
        let denial = t.deny(t.ask(ALICE, tokens(41))).await?;
        let after = denial.retry_at.as_nanos() % 1_000_000_000;
        same("the rest of a second at the edge", after, 0)?;
    }
    t.pass_to(edge).await;
    t.used(ALICE, "quota", 0).await?;
    t.spend(ALICE, tokens(100)).await.map(drop)
}

async fn a_day_ends_at_midnight_of_its_zone(harness: &dyn Harness) -> Verdict {
    for zone in ["UTC", "America/New_York", "Asia/Kolkata"] {
        let timezone = TimeZone::get(zone).map_err(|error| fail(error.to_string()))?;
        let day = Shape::Fixed {
            window: Calendar::Day,
            timezone: timezone.clone(),
        };
        let t = Trial::open(harness, tokens_by_user(100, day)).await?;
        let midnight = midnight_after(t.now(), &timezone)?;
        t.spend(ALICE, tokens(60)).await?;
        let left = midnight.since(t.now()).into();
        let standing = t.standing(ALICE, "quota").await?;
        t.about("the reset", standing.reset, left)?;
        let denial = t.deny(t.ask(ALICE, tokens(41))).await?;
        same(zone, denial.retry_at, midnight)?;
    }
    Ok(())
}

fn midnight_after(now: Time, timezone: &TimeZone) -> Result<Time, super::Stop> {
    let stamp = Timestamp::from_nanosecond(i128::from(now.as_nanos()));
    let zoned = stamp.map(|stamp| stamp.to_zoned(timezone.clone()));
    let midnight = zoned.and_then(|zoned| zoned.tomorrow()?.start_of_day());
    let midnight = midnight.map_err(|error| fail(error.to_string()))?;
    let nanos = u64::try_from(midnight.timestamp().as_nanosecond());
    nanos
        .map(Time::from_nanos)
        .map_err(|error| fail(error.to_string()))
}

async fn concurrency_counts_calls_in_flight(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 2, Shape::Concurrency);
    let t = Trial::open(harness, [rule("slots", &["user"], &[slots])]).await?;
    let one = t.admit(t.ask(ALICE, flight(10))).await?;
    let two = t.admit(t.ask(ALICE, flight(10))).await?;
    t.deny(t.ask(ALICE, flight(10))).await?;
    t.admit(t.ask(BOB, flight(10))).await?;
    t.settle(one.id, flight(10)).await?;
    t.used(ALICE, "slots", 1).await?;
    t.admit(t.ask(ALICE, flight(10))).await?;
    t.deny(t.ask(ALICE, flight(10))).await?;
    t.cancel(two.id).await?;
    t.admit(t.ask(ALICE, flight(10))).await.map(drop)
}

/// In a peer two windows of one metric shared a key.
async fn windows_of_one_metric_count_apart(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let limit = |amount, shape| [(Metric::TOKENS, amount, shape)];
    let short = rule("short", &["user"], &limit(10, sliding(second)));
    let middle = rule("middle", &["user"], &limit(25, sliding(second * 100)));
    let t = Trial::open(
        harness,
        [short, middle, rule("long", &["user"], &limit(1000, long()))],
    )
    .await?;
    for _ in 0..2 {
        t.spend(ALICE, tokens(10)).await?;
        t.pass(second).await;
    }
    t.used(ALICE, "short", 0).await?;
    t.used(ALICE, "middle", 20).await?;
    t.used(ALICE, "long", 20).await?;
    let denial = t.deny(t.ask(ALICE, tokens(6))).await?;
    same("blockers", denial.blocked_by.len(), 1)?;
    same("the blocker", &*denial.blocked_by[0].limit.name, "middle")?;
    t.spend(ALICE, tokens(5)).await.map(drop)
}

async fn every_metric_counts(harness: &dyn Harness) -> Verdict {
    let metrics = Metrics::with_custom(["images"]).map_err(|error| fail(error.to_string()))?;
    let all: Vec<(Metric, String)> = metrics
        .iter()
        .map(|(metric, name)| (metric, name.to_owned()))
        .collect();
    let limit = |metric| match metric {
        Metric::CONCURRENCY => (metric, 5, Shape::Concurrency),
        _ => (metric, 5, long()),
    };
    let rules = all
        .iter()
        .map(|(metric, name)| rule(name, &["user"], &[limit(*metric)]));
    let policy = Policy::new(rules.collect(), metrics).map_err(|error| fail(error.to_string()))?;
    let t = Trial::open_with(harness, policy).await?;
    for (metric, name) in &all {
        let demand = |amount| Amounts::ZERO.with(*metric, amount);
        t.admit(t.ask(ALICE, demand(3))).await?;
        t.used(ALICE, name, 3).await?;
        let denial = t.deny(t.ask(ALICE, demand(3))).await?;
        same(
            "the blocker",
            &*denial.blocked_by[0].limit.metric_name,
            name,
        )?;
        t.admit(t.ask(ALICE, demand(2))).await?;
    }
    Ok(())
}

async fn a_shadow_limit_counts_and_denies_nothing(harness: &dyn Harness) -> Verdict {
    let mut shadow = rule("shadow", &["user"], &[(Metric::TOKENS, 10, long())]);
    shadow.mode = Mode::Shadow;
    let t = Trial::open(harness, [shadow]).await?;
    let within = t.admit(t.ask(ALICE, tokens(10))).await?;
    same("limits that would have denied", within.shadowed.len(), 0)?;
    let beyond = t.admit(t.ask(ALICE, tokens(30))).await?;
    let names: Vec<&str> = beyond.shadowed.iter().map(|limit| &*limit.name).collect();
    same("the limits that would have denied", names, vec!["shadow"])?;
    t.used(ALICE, "shadow", 40).await
}

async fn what_is_not_asked_for_is_not_limited(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(10, long())).await?;
    let admission = t.admit(t.ask(ALICE, tokens(10))).await?;
    t.settle(admission.id, tokens(90)).await?;
    t.deny(t.ask(ALICE, tokens(1))).await?;
    let requests = Amounts::ZERO.with(Metric::REQUESTS, 1);
    t.admit(t.ask(ALICE, requests)).await?;
    t.admit(t.ask(ALICE, Amounts::ZERO)).await.map(drop)
}

/// An admission, with the store's time before and after it.
struct Record {
    before: Time,
    after: Time,
    amount: u64,
}

/// Takes `amount` if it fits; else answers until when not.
async fn take(
    t: &Trial<'_>,
    amount: u64,
    records: &mut Vec<Record>,
) -> Result<Option<Time>, super::Stop> {
    let before = t.now();
    match t.reserve(t.ask(ALICE, tokens(amount))).await? {
        tallygate_core::Decision::Admit(admission) => {
            let after = t.now();
            t.settle(admission.id, tokens(amount)).await?;
            records.push(Record {
                before,
                after,
                amount,
            });
            Ok(None)
        }
        tallygate_core::Decision::Deny(denial) => Ok(Some(denial.retry_at)),
        never @ tallygate_core::Decision::Never(_) => Err(fail(format!("unexpected {never:?}"))),
    }
}

/// Takes all it can for a while, at the instants it is told.
async fn greedy(t: &Trial<'_>, length: Duration, amount: u64) -> Result<Vec<Record>, super::Stop> {
    let mut records = Vec::new();
    let end = t.now().plus(length.into());
    while t.now() < end {
        if let Some(retry_at) = take(t, amount, &mut records).await? {
            t.pass_to(retry_at).await;
        }
    }
    Ok(records)
}

/// Never more than `limit` in any span shorter than `window`.
fn any_span(records: &[Record], window: Duration, limit: u64) -> Verdict {
    each_span(records, |length, sum| {
        let over = length < window && sum > limit;
        ensure(!over, || {
            format!("{sum} of {limit} within {length:?} of {window:?}")
        })
    })
}

/// Never more than `burst` and the refill of `amount` each `every`.
fn bucket_envelope(records: &[Record], (burst, amount, every): (u64, u64, Duration)) -> Verdict {
    each_span(records, |length, sum| {
        let refill = u128::from(amount) * length.as_nanos() / every.as_nanos();
        let over = u128::from(sum) > u128::from(burst) + refill;
        ensure(!over, || {
            format!("{sum} within {length:?} on a burst of {burst}")
        })
    })
}

/// Looks at the sum of each run of admissions, with the longest it can have taken.
fn each_span(records: &[Record], look: impl Fn(Duration, u64) -> Verdict) -> Verdict {
    for (at, first) in records.iter().enumerate() {
        let mut sum = 0;
        for last in &records[at..] {
            sum += last.amount;
            look(last.after.since(first.before).into(), sum)?;
        }
    }
    Ok(())
}
