//! Callers whose patience has ended.
use super::keeper::Standing;
use super::{Answer, Waiter};
use crate::redis::desk::views;
use crate::redis::pump::BATCH;
use crate::redis::store::{Errand, Outcomes, Shared, Turn};
use futures_util::future::join_all;
use std::sync::Arc;
use tallygate_core::remote::{self, Judgement};
use tallygate_core::{Decision, Time};

/// One that has been taken out of its lines.
struct Gone {
    order: u64,
    waiter: Waiter,
}

impl Shared {
    /// Answers those of a line whose patience has ended, many in one breath; whether there were any.
    pub(super) async fn answer_impatient(self: &Arc<Self>, stand: &Standing) -> bool {
        let mut any = false;
        for some in self.room.impatient(&stand.place()).chunks(BATCH) {
            let free = some.iter().filter(|(order, _)| self.room.begin(*order));
            let asked: Vec<_> = free.cloned().collect();
            self.lose_patience(&asked, stand).await;
            any |= !asked.is_empty();
            for (order, _) in asked {
                self.room.asked(order);
            }
        }
        any
    }

    async fn lose_patience(self: &Arc<Self>, some: &[(u64, Arc<Errand>)], stand: &Standing) {
        let asked = some.iter();
        let asked = asked.map(|(order, errand)| self.ask_for_late(*order, errand));
        let gone: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        if gone.is_empty() {
            return;
        }
        // The others' place is made good first: nobody is behind who has gone.
        if self.serve(&stand.place(), Time::ZERO).await.is_none() {
            self.leave(stand).await;
        }
        join_all(gone.into_iter().map(|gone| self.part_with(gone))).await;
    }

    /// Asks for one whose turn may have come at the same instant; takes it out of its lines if not.
    async fn ask_for_late(self: &Arc<Self>, order: u64, errand: &Errand) -> Option<Gone> {
        match self.attempt(errand, &Turn::out_of_line(order)).await {
            Ok(Outcomes::Admitted(admission, held)) => {
                self.admit_waiter(order, errand, (admission, held)).await;
            }
            Ok(Outcomes::Never(never)) => self.tell(order, Ok(never), None).await,
            Ok(Outcomes::Blocked(..)) => {
                let waiter = self.room.take(order);
                return waiter.map(|waiter| Gone { order, waiter });
            }
            Err(error) => {
                self.outage.give_up(errand);
                self.tell(order, Err(error.into()), None).await;
            }
        }
        None
    }

    /// Asks once more for one that has gone: it may have been kept by others who have, too.
    async fn part_with(self: &Arc<Self>, Gone { order, waiter }: Gone) {
        let turn = Turn::out_of_line(order);
        match self.attempt(&waiter.errand, &turn).await {
            Ok(Outcomes::Blocked(..)) => {
                let denial = self.newcomers_denial(&waiter.errand).await;
                waiter.reply.send(denial);
            }
            outcome => self.dismiss(waiter, outcome).await,
        }
    }

    /// What somebody is told who comes now and finds no room.
    async fn newcomers_denial(&self, errand: &Errand) -> Answer {
        let (sheets, now) = self.look_surely(errand, |_| true).await?;
        let views = views(&errand.ask.accounts, &sheets);
        Ok(match remote::judge(&views, &errand.ask.demand, now) {
            Judgement::Blocked(blocks) => remote::denial(blocks, now),
            Judgement::Never(never) => Decision::Never(never),
            Judgement::Free => remote::denial(Vec::new(), now),
        })
    }
}
