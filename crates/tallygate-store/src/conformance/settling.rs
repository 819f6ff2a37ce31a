//! Settled as if the real use had been known at admission.
use super::Harness;
use super::rules::{
    ALICE, bucket, fixed, flight, long, request, rule, sliding, tokens, tokens_by_user,
};
use super::trial::Trial;
use super::verdict::{Verdict, ensure, same};
use tallygate_core::{Amounts, Calendar, Metric, Outcome, Shape, Stated};

pub(super) const CASES: &[super::Case] = cases! { "settling":
    a_cancel_gives_all_back,
    a_refund_counts_from_the_reservation,
    a_bucket_full_since_gives_nothing_back,
    a_refund_cannot_be_taken_twice,
    an_overrun_is_debt_until_repaid,
    an_overrun_counts_from_the_reservation,
    at_least_returns_nothing,
    what_is_not_stated_stays_as_held,
    a_window_that_has_gone_is_not_refunded,
    a_sliding_window_is_refunded_where_it_was_charged,
    the_receipt_says_what_was_done,
};

async fn a_cancel_gives_all_back(harness: &dyn Harness) -> Verdict {
    let every = harness.second() * 10;
    let limits = [
        (Metric::TOKENS, 100, long()),
        (Metric::REQUESTS, 10, sliding(every)),
    ];
    let slots = [(Metric::CONCURRENCY, 1, Shape::Concurrency)];
    let t = Trial::open(
        harness,
        [rule("both", &["user"], &limits), rule("slots", &[], &slots)],
    )
    .await?;
    let demand = request(80).with(Metric::CONCURRENCY, 1);
    for _ in 0..20 {
        let held = t.admit(t.ask(ALICE, demand)).await?;
        let receipt = t.cancel(held.id).await?;
        same("the outcome", receipt.outcome, Outcome::Cancelled)?;
        same("charged", receipt.charged, Amounts::ZERO)?;
        same("returned", receipt.returned, demand)?;
    }
    t.used(ALICE, "both", 0).await?;
    t.used(ALICE, "slots", 0).await?;
    same("open reservations", t.store().stats().reservations, 0)
}

async fn a_refund_counts_from_the_reservation(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    t.pass(second * 5).await;
    t.spend(ALICE, tokens(50)).await?;
    // Had nothing been used at first, the bucket had been full for 5 s: only the 50 since are taken.
    t.settle(held.id, tokens(0)).await?;
    t.used(ALICE, "quota", 50).await?;
    let held = t.admit(t.ask(ALICE, tokens(40))).await?;
    t.settle(held.id, tokens(15)).await?;
    t.used(ALICE, "quota", 65).await?;
    // What was really used at the reservation has come back since.
    t.pass(second * 10).await;
    let held = t.admit(t.ask(ALICE, tokens(40))).await?;
    t.pass(second * 5).await;
    t.settle(held.id, tokens(15)).await?;
    t.used(ALICE, "quota", 0).await
}

async fn a_bucket_full_since_gives_nothing_back(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    t.pass(second * 10).await;
    t.spend(ALICE, tokens(100)).await?;
    t.settle(held.id, tokens(0)).await?;
    t.used(ALICE, "quota", 100).await?;
    let denial = t.deny(t.ask(ALICE, tokens(50))).await?;
    t.about("the wait", denial.retry_after, second * 5)
}

/// A clamped refund lets a bucket give its burst twice in one breath.
async fn a_refund_cannot_be_taken_twice(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(t.admit(t.ask(ALICE, tokens(25))).await?);
    }
    t.pass(second * 5).await;
    t.spend(ALICE, tokens(50)).await?;
    for (at, admission) in held.iter().enumerate() {
        t.settle(admission.id, tokens(0)).await?;
        // 25 come back twice; then the bucket would have been full.
        let taken = 100 - 25 * (at as u64 + 1).min(2);
        t.used(ALICE, "quota", taken).await?;
    }
    t.spend(ALICE, tokens(50)).await?;
    let denial = t.deny(t.ask(ALICE, tokens(50))).await?;
    t.about("the wait", denial.retry_after, second * 5)
}

/// In a peer a use above the balance deducted nothing.
async fn an_overrun_is_debt_until_repaid(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    for shape in [
        bucket(second * 10),
        sliding(second * 10),
        fixed(Calendar::Month),
    ] {
        let t = Trial::open(harness, tokens_by_user(100, shape)).await?;
        let held = t.admit(t.ask(ALICE, tokens(10))).await?;
        let receipt = t.settle(held.id, tokens(150)).await?;
        same("charged", receipt.charged, tokens(150))?;
        same("returned", receipt.returned, tokens(0))?;
        let debt = receipt.debt.get(Metric::TOKENS);
        ensure(debt <= 50 && debt > 25, || {
            format!("a debt of {debt} instead of 50")
        })?;
        t.used(ALICE, "quota", 150).await?;
        same(
            "what remains",
            t.standing(ALICE, "quota").await?.remaining,
            0,
        )?;
        t.deny(t.ask(ALICE, tokens(1))).await?;
    }
    Ok(())
}

async fn an_overrun_counts_from_the_reservation(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, bucket(second * 10))).await?;
    let held = t.admit(t.ask(ALICE, tokens(10))).await?;
    t.pass(second * 4).await;
    t.settle(held.id, tokens(150)).await?;
    // 150 at the reservation, 40 repaid since.
    t.used(ALICE, "quota", 110).await?;
    let denial = t.deny(t.ask(ALICE, tokens(20))).await?;
    t.about("the wait", denial.retry_after, second * 3)?;
    t.pass_to(denial.retry_at).await;
    t.spend(ALICE, tokens(20)).await.map(drop)
}

async fn at_least_returns_nothing(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let less = t.admit(t.ask(ALICE, tokens(10))).await?;
    let receipt = t.settle_at_least(less.id, tokens(4)).await?;
    same("charged", receipt.charged, tokens(10))?;
    t.used(ALICE, "quota", 10).await?;
    let more = t.admit(t.ask(ALICE, tokens(10))).await?;
    let receipt = t.settle_at_least(more.id, tokens(25)).await?;
    same("charged", receipt.charged, tokens(25))?;
    t.used(ALICE, "quota", 35).await
}

async fn what_is_not_stated_stays_as_held(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 5, Shape::Concurrency);
    let requests = rule(
        "requests",
        &["user"],
        &[(Metric::REQUESTS, 10, long()), slots],
    );
    let quota = rule("quota", &["user"], &[(Metric::TOKENS, 100, long())]);
    let t = Trial::open(harness, [requests, quota]).await?;
    let mut stated = Stated::default();
    stated.set(Metric::TOKENS, 25);
    for turn in 1..=3 {
        let held = t
            .admit(t.ask(ALICE, request(30).with(Metric::CONCURRENCY, 1)))
            .await?;
        let receipt = t.settle_stated(held.id, stated).await?;
        same("charged", receipt.charged, request(25))?;
        same("returned", receipt.returned, flight(5))?;
        t.used(ALICE, "quota", 25 * turn).await?;
        t.used(ALICE, "requests", turn).await?;
    }
    let standings = t.store().peek(ALICE).await;
    let in_flight = standings.map(|all| all[1].used);
    same("calls in flight", in_flight, Ok(0))
}

async fn a_window_that_has_gone_is_not_refunded(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let second_long = fixed(Calendar::Second);
    for (shape, window) in [
        (second_long, std::time::Duration::from_secs(1)),
        (sliding(second * 2), second * 2),
    ] {
        let t = Trial::open(harness, tokens_by_user(100, shape)).await?;
        t.pass_to_full_second().await;
        let refunded = t.admit(t.ask(ALICE, tokens(50))).await?;
        let overrun = t.admit(t.ask(ALICE, tokens(50))).await?;
        t.pass(window).await;
        let later = t.admit(t.ask(ALICE, tokens(70))).await?;
        t.settle(refunded.id, tokens(0)).await?;
        t.settle(overrun.id, tokens(500)).await?;
        let standing = t.standing(ALICE, "quota").await?;
        let moved_on = t.drift() > window / 2;
        ensure(standing.used == 70 || moved_on, || {
            format!("{} is taken, not 70", standing.used)
        })?;
        t.settle(later.id, tokens(70)).await?;
    }
    Ok(())
}

async fn a_sliding_window_is_refunded_where_it_was_charged(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    let t = Trial::open(harness, tokens_by_user(100, sliding(second * 10))).await?;
    let early = t.admit(t.ask(ALICE, tokens(60))).await?;
    t.pass(second * 5).await;
    t.spend(ALICE, tokens(40)).await?;
    t.settle(early.id, tokens(20)).await?;
    t.used(ALICE, "quota", 60).await?;
    let denial = t.deny(t.ask(ALICE, tokens(60))).await?;
    t.about("the wait", denial.retry_after, second * 5)?;
    t.pass_to(denial.retry_at).await;
    t.spend(ALICE, tokens(60)).await.map(drop)
}

async fn the_receipt_says_what_was_done(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 5, Shape::Concurrency);
    let limits = [(Metric::TOKENS, 100, long()), slots];
    let t = Trial::open(harness, [rule("both", &["user"], &limits)]).await?;
    let held = t.admit(t.ask(ALICE, flight(60))).await?;
    same("reserved", held.reserved, flight(60))?;
    let receipt = t.settle(held.id, flight(25)).await?;
    same("the outcome", receipt.outcome, Outcome::Settled)?;
    same("charged", receipt.charged, tokens(25))?;
    same("returned", receipt.returned, flight(35))?;
    same("debt", receipt.debt, Amounts::ZERO)
}
