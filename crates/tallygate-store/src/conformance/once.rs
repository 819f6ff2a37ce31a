//! Exactly once, whatever is repeated or raced.
use super::Harness;
use super::rules::{ALICE, BOB, flight, long, rule, tokens, tokens_by_user};
use super::trial::Trial;
use super::verdict::{Stop, Verdict, ensure, fail, same};
use crate::store::{BoxFuture, Reserve, SettleError, Settlement};
use std::sync::{Arc, Mutex, PoisonError};
use tallygate_core::{
    Admission, Amounts, Decision, Extended, Metric, Outcome, Receipt, Replay, ReservationId, Shape,
    Told,
};

pub(super) const CASES: &[super::Case] = cases! { "once":
    a_repeated_settle_charges_once,
    the_loser_learns_which_outcome_stands,
    raced_ends_take_effect_once,
    raced_extensions_take_effect_or_learn,
    an_idempotency_key_reserves_once,
    an_idempotency_key_is_the_subjects_own,
    a_raced_idempotency_key_reserves_once,
    a_denied_idempotency_key_is_free,
    callers_in_line_share_an_idempotency_key,
    a_shared_reservation_outlives_its_first_caller,
    a_key_whose_caller_left_is_free,
    a_forged_id_is_unknown,
};

/// In a peer a second commit charged a second time.
async fn a_repeated_settle_charges_once(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(60))).await?;
    let first = t.settle(held.id, tokens(40)).await?;
    same("whether it is a repeat", first.told, Told::First)?;
    for repeat in [40, 40, 0, 90] {
        let receipt = t.settle(held.id, tokens(repeat)).await?;
        same("the receipt of a repeat", receipt, first)?;
        same("that it is one", receipt.told, Told::Again)?;
        t.used(ALICE, "quota", 40).await?;
    }
    let held = t.admit(t.ask(ALICE, tokens(60))).await?;
    let first = t.cancel(held.id).await?;
    same("the receipt of a repeat", t.cancel(held.id).await?, first)?;
    t.used(ALICE, "quota", 40).await
}

async fn the_loser_learns_which_outcome_stands(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let store = t.store();
    let settled = t.admit(t.ask(ALICE, tokens(30))).await?.id;
    let receipt = t.settle(settled, tokens(20)).await?;
    same(
        "a late cancel",
        standing(store.cancel(settled).await)?,
        receipt,
    )?;
    let extended = store.extend(settled, tokens(5), None).await;
    same("a late extension", standing(extended)?, receipt)?;
    let cancelled = t.admit(t.ask(ALICE, tokens(30))).await?.id;
    let receipt = t.cancel(cancelled).await?;
    let late = store.settle(cancelled, Settlement::Exact(tokens(30))).await;
    same("a late settle", standing(late)?, receipt)?;
    t.used(ALICE, "quota", 20).await
}

/// The receipt that stands against an operation.
pub(super) fn standing<T: std::fmt::Debug>(
    answer: Result<T, SettleError>,
) -> Result<Receipt, Stop> {
    match answer {
        Err(SettleError::Standing(receipt)) => Ok(*receipt),
        other => Err(fail(format!("a standing outcome expected: {other:?}"))),
    }
}

async fn raced_ends_take_effect_once(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 1, Shape::Concurrency);
    let limits = [(Metric::TOKENS, 1000, long()), slots];
    let t = Trial::open(harness, [rule("both", &["user"], &limits)]).await?;
    let mut charged = 0;
    for _ in 0..25 {
        let id = t.admit(t.ask(ALICE, flight(30))).await?.id;
        let seen = Seen::default();
        t.together((0..6).map(|racer| end(&t, (id, racer), &seen)).collect())
            .await?;
        let receipts = seen.take();
        same("answers", receipts.len(), 6)?;
        let alike = receipts.iter().all(|receipt| *receipt == receipts[0]);
        ensure(alike, || format!("different outcomes: {receipts:?}"))?;
        charged += receipts[0].charged.get(Metric::TOKENS);
        t.used(ALICE, "both", charged).await?;
    }
    Ok(())
}

/// What racers saw.
#[derive(Clone)]
struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Seen<T> {
    fn note(&self, seen: impl IntoIterator<Item = T>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(seen);
    }

    fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One of several that end a reservation: the even ones settle, each another amount, the odd ones cancel.
fn end(
    t: &Trial<'_>,
    (id, racer): (ReservationId, u64),
    seen: &Seen<Receipt>,
) -> BoxFuture<'static, ()> {
    let (store, seen) = (t.store().clone(), seen.clone());
    Box::pin(async move {
        let ended = match racer % 2 {
            0 => {
                store
                    .settle(id, Settlement::Exact(tokens(10 + racer)))
                    .await
            }
            _ => store.cancel(id).await,
        };
        match ended {
            Ok(receipt) => seen.note([receipt]),
            Err(SettleError::Standing(receipt)) => seen.note([*receipt]),
            Err(_) => {}
        }
    })
}

async fn raced_extensions_take_effect_or_learn(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(1000, long())).await?;
    let mut charged = 0;
    for _ in 0..20 {
        let id = t.admit(t.ask(ALICE, tokens(10))).await?.id;
        let granted = Seen::default();
        let kept = Seen::default();
        let mut racers: Vec<BoxFuture<'static, ()>> =
            (0..4).map(|_| extend(&t, id, &granted)).collect();
        racers.insert(2, keep(&t, id, &kept));
        t.together(racers).await?;
        let held = 10 + granted.take().len() as u64;
        let kept: u64 = kept.take().iter().sum();
        ensure(kept <= held && kept >= 10, || {
            format!("{kept} kept of {held} held")
        })?;
        charged += kept;
        t.used(ALICE, "quota", charged).await?;
    }
    Ok(())
}

fn extend(t: &Trial<'_>, id: ReservationId, granted: &Seen<()>) -> BoxFuture<'static, ()> {
    let (store, granted) = (t.store().clone(), granted.clone());
    Box::pin(async move {
        if let Ok(Extended::Granted { .. }) = store.extend(id, tokens(1), None).await {
            granted.note([()]);
        }
    })
}

/// Ends a reservation with all that it holds by then.
fn keep(t: &Trial<'_>, id: ReservationId, kept: &Seen<u64>) -> BoxFuture<'static, ()> {
    let (store, kept) = (t.store().clone(), kept.clone());
    Box::pin(async move {
        let settled = store.settle(id, Settlement::AtLeast(Amounts::ZERO)).await;
        kept.note(settled.map(|receipt| receipt.charged.get(Metric::TOKENS)));
    })
}

fn keyed<'a>(ask: Reserve<'a>, key: &'a str) -> Reserve<'a> {
    Reserve {
        idempotency_key: Some(key),
        ..ask
    }
}

async fn an_idempotency_key_reserves_once(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let ask = keyed(t.ask(ALICE, tokens(60)), "job-17");
    let first = t.admit(ask).await?;
    same("the first", first.replay, Replay::Fresh)?;
    for patience in [std::time::Duration::ZERO, t.second] {
        let again = t
            .admit(Reserve {
                max_wait: patience,
                ..ask
            })
            .await?;
        same("the reservation", again.id, first.id)?;
        same("the repeat", again.replay, Replay::Open)?;
        same("what it holds", again.reserved, tokens(60))?;
        t.used(ALICE, "quota", 60).await?;
    }
    t.settle(first.id, tokens(20)).await?;
    let late = t.admit(ask).await?;
    same("the reservation", late.id, first.id)?;
    same(
        "a repeat after the end",
        late.replay,
        Replay::Ended(Outcome::Settled),
    )?;
    t.admit(keyed(t.ask(ALICE, tokens(60)), "job-18")).await?;
    t.used(ALICE, "quota", 80).await
}

async fn an_idempotency_key_is_the_subjects_own(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let alice = t.admit(keyed(t.ask(ALICE, tokens(60)), "job")).await?;
    let bob = t.admit(keyed(t.ask(BOB, tokens(50)), "job")).await?;
    same("another's reservation", bob.replay, Replay::Fresh)?;
    ensure(alice.id != bob.id, || {
        "two subjects share a reservation".to_owned()
    })?;
    t.used(ALICE, "quota", 60).await?;
    t.used(BOB, "quota", 50).await
}

async fn a_raced_idempotency_key_reserves_once(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(1000, long())).await?;
    for (turn, key) in ["a", "b", "c", "d", "e", "f", "g", "h"]
        .into_iter()
        .enumerate()
    {
        let seen = Seen::default();
        let ask = keyed(t.ask(ALICE, tokens(20)), key);
        t.together((0..6).map(|_| race(&t, ask, &seen)).collect())
            .await?;
        let admissions = seen.take();
        same("admissions", admissions.len(), 6)?;
        let alike = admissions
            .iter()
            .all(|admission| admission.id == admissions[0].id);
        ensure(alike, || format!("several reservations: {admissions:?}"))?;
        let fresh = admissions
            .iter()
            .filter(|admission| admission.replay == Replay::Fresh);
        same("fresh reservations", fresh.count(), 1)?;
        t.used(ALICE, "quota", 20 * (turn as u64 + 1)).await?;
    }
    Ok(())
}

fn race(t: &Trial<'_>, ask: Reserve<'static>, seen: &Seen<Admission>) -> BoxFuture<'static, ()> {
    let (store, seen) = (t.store().clone(), seen.clone());
    Box::pin(async move {
        if let Ok(Decision::Admit(admission)) = store.reserve(ask).await {
            seen.note([admission]);
        }
    })
}

async fn a_denied_idempotency_key_is_free(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(60))).await?;
    let ask = keyed(t.ask(ALICE, tokens(60)), "job");
    t.deny(ask).await?;
    t.never(keyed(t.ask(ALICE, tokens(101)), "job")).await?;
    t.cancel(held.id).await?;
    same("after a denial", t.admit(ask).await?.replay, Replay::Fresh)
}

async fn callers_in_line_share_an_idempotency_key(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    let ask = keyed(t.patient(ALICE, tokens(60)), "job");
    let first = t.queue(ask, 1).await?;
    let _between = t.queue(t.patient(ALICE, tokens(80)), 2).await?;
    let second = t.queue(ask, 3).await?;
    t.cancel(held.id).await?;
    let (first, second) = (first.admitted().await?, second.admitted().await?);
    same("the reservation", second.id, first.id)?;
    same("the second's", second.replay, Replay::Open)?;
    t.used(ALICE, "quota", 60).await
}

/// What the first caller left behind is the second one's, who was told of it.
async fn a_shared_reservation_outlives_its_first_caller(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    let ask = keyed(t.patient(ALICE, tokens(60)), "job");
    let first = t.queue(ask, 1).await?;
    let second = t.queue(ask, 2).await?;
    t.cancel(held.id).await?;
    let told = second.admitted().await?;
    drop(first);
    t.used(ALICE, "quota", 60).await?;
    t.settle(told.id, tokens(40)).await?;
    t.used(ALICE, "quota", 40).await
}

/// A caller that left before it was told has no reservation, and its retry is decided anew.
async fn a_key_whose_caller_left_is_free(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(100))).await?;
    let ask = keyed(t.patient(ALICE, tokens(60)), "job");
    let waiting = t.queue(ask, 1).await?;
    t.cancel(held.id).await?;
    drop(waiting);
    let store = t.store().clone();
    t.soon_holds("what nobody was told of is still held", move || {
        store.stats().reservations == 0
    })
    .await?;
    let again = t.admit(ask).await?;
    same("the retry", again.replay, Replay::Fresh)?;
    t.settle(again.id, tokens(60)).await?;
    t.used(ALICE, "quota", 60).await
}

async fn a_forged_id_is_unknown(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    let held = t.admit(t.ask(ALICE, tokens(60))).await?;
    let bits = held.id.bits();
    let flipped = (0..128).map(|bit| bits ^ (1 << bit));
    for forged in flipped.chain([0, 1, u128::MAX, !bits]) {
        let id = ReservationId::from_bits(forged);
        let store = t.store();
        unknown(store.settle(id, Settlement::Exact(tokens(1))).await)?;
        unknown(store.cancel(id).await)?;
        unknown(store.extend(id, tokens(1), None).await)?;
    }
    t.used(ALICE, "quota", 60).await?;
    t.settle(held.id, tokens(10)).await?;
    t.used(ALICE, "quota", 10).await
}

fn unknown<T: std::fmt::Debug>(answer: Result<T, SettleError>) -> Verdict {
    match answer {
        Err(SettleError::Unknown) => Ok(()),
        other => Err(fail(format!("a forged id was known: {other:?}"))),
    }
}
