//! Nothing leaks: a reservation that nobody settles ends at its deadline.
use super::Harness;
use super::once::standing;
use super::rules::{ALICE, flight, long, rule, tokens, tokens_by_user};
use super::trial::Trial;
use super::verdict::{Stop, Verdict, fail, same};
use crate::store::{Reserve, Settlement};
use std::time::Duration;
use tallygate_core::{Amounts, Extended, Metric, Outcome, Rule, Shape, Time};

pub(super) const CASES: &[super::Case] = cases! { "deadlines":
    expiry_keeps_amounts_and_frees_slots,
    a_settle_after_expiry_learns_of_it,
    an_extension_moves_the_deadline,
    an_extension_is_all_or_nothing,
    an_extension_belongs_to_its_reservation,
};

fn tokens_and_slots() -> [Rule; 2] {
    let slots = [(Metric::CONCURRENCY, 1, Shape::Concurrency)];
    let quota = [(Metric::TOKENS, 100, long())];
    [
        rule("quota", &["user"], &quota),
        rule("slots", &["user"], &slots),
    ]
}

async fn expiry_keeps_amounts_and_frees_slots(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_and_slots()).await?;
    let ask = brief(&t, t.second * 5);
    let held = t.admit(ask).await?;
    let denial = t.deny(t.ask(ALICE, flight(1))).await?;
    same("the wait for the slot", denial.retry_at, held.expires_at)?;
    t.pass_to(held.expires_at).await;
    t.used(ALICE, "slots", 0).await?;
    t.used(ALICE, "quota", 60).await?;
    same("open reservations", t.store().stats().reservations, 0)?;
    t.admit(t.ask(ALICE, flight(40))).await.map(drop)
}

/// A call of 60 tokens whose reservation stands for a while.
fn brief(t: &Trial<'_>, ttl: Duration) -> Reserve<'static> {
    Reserve {
        ttl,
        ..t.ask(ALICE, flight(60))
    }
}

async fn a_settle_after_expiry_learns_of_it(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_and_slots()).await?;
    let held = t.admit(brief(&t, t.second * 5)).await?;
    t.pass_to(held.expires_at).await;
    let late = t
        .store()
        .settle(held.id, Settlement::Exact(tokens(10)))
        .await;
    let receipt = standing(late)?;
    same("the outcome", receipt.outcome, Outcome::Expired)?;
    same("charged", receipt.charged, tokens(60))?;
    standing(t.store().cancel(held.id).await)?;
    let ttl = Some(t.second * 100);
    standing(t.store().extend(held.id, Amounts::ZERO, ttl).await)?;
    t.used(ALICE, "quota", 60).await
}

async fn an_extension_moves_the_deadline(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_and_slots()).await?;
    let held = t.admit(brief(&t, t.second * 5)).await?;
    t.pass(t.second * 2).await;
    let extended = t
        .extend(held.id, Amounts::ZERO, Some(t.second * 20))
        .await?;
    let (later, _) = granted(extended)?;
    t.about("the time left", later.since(t.now()).into(), t.second * 20)?;
    t.pass_to(held.expires_at).await;
    t.pass(t.second).await;
    let denial = t.deny(t.ask(ALICE, flight(1))).await?;
    same("the wait for the slot", denial.retry_at, later)?;
    let extended = t.extend(held.id, Amounts::ZERO, Some(t.second)).await?;
    let (sooner, _) = granted(extended)?;
    t.pass_to(sooner).await;
    t.admit(t.ask(ALICE, flight(1))).await?;
    standing(t.store().cancel(held.id).await).map(drop)
}

fn granted(extended: Extended) -> Result<(Time, Amounts), Stop> {
    match extended {
        Extended::Granted {
            expires_at,
            reserved,
        } => Ok((expires_at, reserved)),
        other => Err(fail(format!("a granted extension expected: {other:?}"))),
    }
}

async fn an_extension_is_all_or_nothing(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_and_slots()).await?;
    let held = t.admit(brief(&t, t.second * 5)).await?;
    let more = t.extend(held.id, tokens(41), Some(t.second * 50)).await?;
    let denied = matches!(&more, Extended::Deny(_));
    same("whether it was denied", denied, true)?;
    let most = t.extend(held.id, tokens(101), None).await?;
    same(
        "whether it can never be",
        matches!(most, Extended::Never(_)),
        true,
    )?;
    t.used(ALICE, "quota", 60).await?;
    let denial = t.deny(t.ask(ALICE, flight(1))).await?;
    same("the deadline", denial.retry_at, held.expires_at)?;
    let (_, reserved) = granted(t.extend(held.id, tokens(40), None).await?)?;
    same("what it holds", reserved, flight(100))?;
    t.used(ALICE, "quota", 100).await
}

async fn an_extension_belongs_to_its_reservation(harness: &dyn Harness) -> Verdict {
    for used in [0, 5, 25, 70] {
        let t = Trial::open(harness, tokens_by_user(100, long())).await?;
        let held = t.admit(t.ask(ALICE, tokens(10))).await?;
        granted(t.extend(held.id, tokens(10), None).await?)?;
        let (_, reserved) = granted(t.extend(held.id, tokens(10), None).await?)?;
        same("what it holds", reserved, tokens(30))?;
        t.used(ALICE, "quota", 30).await?;
        let receipt = t.settle(held.id, tokens(used)).await?;
        same("charged", receipt.charged, tokens(used))?;
        same(
            "returned",
            receipt.returned,
            tokens(30_u64.saturating_sub(used)),
        )?;
        t.used(ALICE, "quota", used).await?;
    }
    Ok(())
}
