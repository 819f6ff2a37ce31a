//! Several processes on the same counters, and what a crash leaves.
use super::Harness;
use super::rules::{ALICE, flight, long, rule, tokens, tokens_by_user};
use super::trial::Trial;
use super::verdict::{Verdict, same};
use crate::store::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tallygate_core::{Decision, Metric, Shape, Told};

pub(super) const CASES: &[super::Case] = cases! { "handles":
    handles_share_counters,
    a_reservation_is_settled_through_another_handle,
    never_over_through_several_handles,
    another_handle_wakes_a_waiter,
    a_restart_loses_nothing_settled,
};

async fn handles_share_counters(harness: &dyn Harness) -> Verdict {
    let one = Trial::open(harness, tokens_by_user(100, long())).await?;
    let two = one.second_handle().await?;
    one.spend(ALICE, tokens(60)).await?;
    two.used(ALICE, "quota", 60).await?;
    two.deny(two.ask(ALICE, tokens(41))).await?;
    two.spend(ALICE, tokens(40)).await?;
    one.deny(one.ask(ALICE, tokens(1))).await.map(drop)
}

async fn a_reservation_is_settled_through_another_handle(harness: &dyn Harness) -> Verdict {
    let one = Trial::open(harness, tokens_by_user(100, long())).await?;
    let two = one.second_handle().await?;
    let held = one.admit(one.ask(ALICE, tokens(60))).await?;
    let receipt = two.settle(held.id, tokens(25)).await?;
    same("whether it is a repeat", receipt.told, Told::First)?;
    for t in [&one, &two, &one] {
        let again = t.settle(held.id, tokens(25)).await?;
        same("the receipt of a repeat", again, receipt)?;
        same("that it is one", again.told, Told::Again)?;
    }
    one.used(ALICE, "quota", 25).await
}

async fn never_over_through_several_handles(harness: &dyn Harness) -> Verdict {
    let one = Trial::open(harness, tokens_by_user(500, long())).await?;
    let two = one.second_handle().await?;
    let admitted = Arc::new(AtomicU64::new(0));
    let take = |t: &Trial<'_>| -> BoxFuture<'static, ()> {
        let (store, ask) = (t.store().clone(), t.ask(ALICE, tokens(1)));
        let admitted = admitted.clone();
        Box::pin(async move {
            for _ in 0..200 {
                if let Ok(Decision::Admit(_)) = store.reserve(ask).await {
                    admitted.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
    };
    one.together(vec![take(&one), take(&two), take(&one), take(&two)])
        .await?;
    same("admitted", admitted.load(Ordering::SeqCst), 500)
}

async fn another_handle_wakes_a_waiter(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 1, Shape::Concurrency);
    let one = Trial::open(harness, [rule("slot", &[], &[slots])]).await?;
    let two = one.second_handle().await?;
    let held = one.admit(one.ask(ALICE, flight(1))).await?;
    let waiting = one.queue(one.patient(ALICE, flight(1)), 1).await?;
    two.settle(held.id, flight(1)).await?;
    waiting.admitted().await.map(drop)
}

async fn a_restart_loses_nothing_settled(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    t.spend(ALICE, tokens(30)).await?;
    let held = t.admit(t.ask(ALICE, tokens(40))).await?;
    let t = t.restart().await?;
    t.used(ALICE, "quota", 70).await?;
    let receipt = t.settle(held.id, tokens(10)).await?;
    same("whether it is a repeat", receipt.told, Told::First)?;
    let t = t.restart().await?;
    let again = t.settle(held.id, tokens(10)).await?;
    same("that it is one", again.told, Told::Again)?;
    t.used(ALICE, "quota", 40).await
}
