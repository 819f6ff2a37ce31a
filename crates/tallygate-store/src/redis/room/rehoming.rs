//! Who waits while the rules change.
use super::keeper::with_wait;
use super::{Place, Waiter};
use crate::redis::desk::views;
use crate::redis::link::LinkError;
use crate::redis::pump::BATCH;
use crate::redis::sheet::Order;
use crate::redis::store::{Errand, Outcomes, Shared, Turn};
use futures_util::future::join_all;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tallygate_core::remote::{self, Block, Judgement};
use tallygate_core::{Decision, WaitsFor};

impl Shared {
    /// Puts everybody in line anew: the rules have changed.
    pub(crate) fn rehome(self: &Arc<Self>) {
        let shared = self.clone();
        self.pump
            .runtime()
            .spawn(async move { shared.rehome_among(..).await });
    }

    /// Puts one in line anew who has come while the rules changed: those who were there then may have been without it.
    pub(super) fn keep_up(self: &Arc<Self>, order: u64, errand: &Errand) {
        let desk = self.desk();
        if Arc::ptr_eq(&desk, &errand.desk) || desk.rules.extend(&errand.desk.rules) {
            return;
        }
        let shared = self.clone();
        self.pump
            .runtime()
            .spawn(async move { shared.rehome_among(order..=order).await });
    }

    async fn rehome_among(self: &Arc<Self>, orders: impl RangeBounds<u64>) {
        let (mut doubtful, mut free) = (Vec::new(), Vec::new());
        for (order, errand, stands) in self.room.among(orders) {
            let errand = Arc::new(self.renewed(&errand));
            match errand.home(&stands) {
                Some(home) => self.rehome_one(order, &errand, &home),
                None => free.extend(self.room.expel(order).map(|mut waiter| {
                    waiter.errand = errand.clone();
                    (order, waiter)
                })),
            }
            if errand.waits_for == WaitsFor::Rates || errand.is_too_large() {
                doubtful.push((order, errand));
            }
        }
        // Nobody stands before those who touch no limit.
        while !free.is_empty() {
            let some = free.drain(..free.len().min(BATCH));
            join_all(some.map(|(order, waiter)| self.settle_in(order, waiter))).await;
        }
        for some in doubtful.chunks(BATCH) {
            let some = some.iter();
            join_all(some.map(|(order, errand)| self.reconsider(*order, errand))).await;
        }
    }

    /// Has one ask by the new rules, where it stands if it can: nobody comes between who keeps its place.
    fn rehome_one(self: &Arc<Self>, order: u64, errand: &Arc<Errand>, home: &Place) {
        if !self.room.renew(order, errand, home) && self.room.lift(order) {
            self.line_up(home, order, errand);
        }
    }

    /// Answers one whom no wait helps under the new rules, as far as it waits.
    async fn reconsider(&self, order: u64, errand: &Errand) {
        let is_kept = |blocks: &[Block]| errand.is_kept(blocks);
        let seen = self.look_surely_as(errand, Order(order), is_kept).await;
        // While the store is out of reach it goes on waiting.
        let Ok((sheets, now)) = seen else { return };
        let views = views(&errand.ask.accounts, &sheets);
        let decision = match remote::judge(&views, &errand.ask.demand, now) {
            Judgement::Never(never) => Decision::Never(never),
            Judgement::Blocked(blocks) if is_kept(&blocks) => remote::denial(blocks, now),
            _ => return,
        };
        if self.room.begin(order) {
            self.tell(order, Ok(decision), None).await;
            self.room.asked(order);
        }
    }

    async fn settle_in(self: &Arc<Self>, order: u64, waiter: Waiter) {
        let errand = waiter.errand.clone();
        let outcome = self.attempt(&errand, &Turn::out_of_line(order)).await;
        let place = match &outcome {
            Ok(Outcomes::Blocked(blocks, _)) if !errand.is_kept(blocks) => errand.place_of(blocks),
            _ => None,
        };
        match (outcome, place) {
            (_, Some(place)) => {
                self.room.admit(order, waiter);
                self.line_up(&place, order, &errand);
            }
            (outcome, None) => self.dismiss(waiter, outcome).await,
        }
    }

    /// Tells a caller that stands in no line any more; what was admitted for one that has left is given back.
    pub(super) async fn dismiss(&self, waiter: Waiter, outcome: Result<Outcomes, LinkError>) {
        if waiter.counted {
            self.room.standing.fetch_sub(1, Ordering::SeqCst);
        }
        let waited = waiter.since.elapsed();
        match outcome {
            Ok(Outcomes::Admitted(admission, held)) => {
                let id = admission.id;
                let answer = with_wait(Ok(Decision::Admit(admission)), waited);
                if let (Some(_), Some(held)) = (waiter.reply.send(answer), held) {
                    self.withdraw(id, &held).await;
                }
            }
            Ok(Outcomes::Never(never)) => drop(waiter.reply.send(Ok(never))),
            Ok(Outcomes::Blocked(blocks, now)) => {
                drop(waiter.reply.send(Ok(remote::denial(blocks, now))));
            }
            Err(error) => {
                self.outage.give_up(&waiter.errand);
                drop(waiter.reply.send(Err(error.into())));
            }
        }
    }
}

impl Errand {
    /// Where it goes on waiting: where it came last of the limits that it touches, or at the first of them.
    fn home(&self, stands: &[Place]) -> Option<Place> {
        let touches = |stand: &&Place| self.places().any(|place| place == **stand);
        let still = stands.iter().rev().find(touches).cloned();
        still.or_else(|| self.places().next())
    }
}
