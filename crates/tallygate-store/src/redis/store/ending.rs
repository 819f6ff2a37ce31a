//! The ends of reservations: settled, cancelled, taken back.
use super::super::desk::Done;
use super::super::groups::{Group, groups};
use super::super::link::LinkError;
use super::super::names::{self, Account, Tag};
use super::super::pump::Orphan;
use super::super::record::{Ending, Held, Record};
use super::super::script::{self, Op};
use super::{CHANGES, Shared, Strange};
use crate::store::SettleError;
use std::sync::{Arc, Weak};
use tallygate_core::{EndError, Outcome, Receipt, ReservationId, Time};
use tokio::sync::mpsc;

impl Shared {
    pub(super) async fn end(
        &self,
        id: ReservationId,
        ending: (Outcome, Ending),
    ) -> Result<Receipt, SettleError> {
        let mut held = match self.held(id).await? {
            Ok(held) => held,
            Err(EndError::Ended(receipt)) if receipt.outcome == ending.0 => return Ok(*receipt),
            Err(error) => return Err(error.into()),
        };
        for _ in 0..CHANGES {
            let home = self.end_home(id, &held, ending).await?;
            match home {
                Done::Ended(receipt) => {
                    self.holds.forget(id);
                    let receipt = self.end_rest(id, &held, (ending, receipt)).await;
                    self.made_room(&held.accounts);
                    return receipt;
                }
                Done::Changed(changed) => held = changed,
                Done::Failed(error) => {
                    self.holds.forget(id);
                    return Err(error.into());
                }
                Done::Extended(_) | Done::Again => {}
            }
        }
        Err(LinkError::from(Strange).into())
    }

    async fn end_home(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        ending: (Outcome, Ending),
    ) -> Result<Done, LinkError> {
        let parts = self.parts_of(id, held);
        let home = names::home(id);
        let accounts = parts.into_iter().filter(|part| part.tag == home);
        let accounts = accounts.flat_map(|part| part.accounts).collect();
        let desk = self.desk();
        let op = Op::Finish(desk.finish(id, held, (home, accounts), ending));
        let answer = self.pump.ask(home, op).await?;
        let done = desk.finished(ending.0, &answer.all, answer.at);
        done.ok_or_else(|| Strange.into())
    }

    /// Ends the parts of a reservation that are kept elsewhere than its record, which has been ended.
    async fn end_rest(
        &self,
        id: ReservationId,
        held: &Arc<Held>,
        (ending, mut receipt): ((Outcome, Ending), Receipt),
    ) -> Result<Receipt, SettleError> {
        let desk = self.desk();
        let home = names::home(id);
        let parts = self.parts_of(id, held).into_iter();
        for part in parts.filter(|part| part.tag != home) {
            let op = Op::Finish(desk.finish(id, held, (part.tag, part.accounts), ending));
            let answer = self.pump.ask(part.tag, op).await?;
            if let Some(Done::Ended(part)) = desk.finished(ending.0, &answer.all, answer.at) {
                receipt.debt = receipt.debt.zip(&part.debt, u64::max);
            }
        }
        Ok(receipt)
    }

    pub(super) async fn held(
        &self,
        id: ReservationId,
    ) -> Result<Result<Arc<Held>, EndError>, LinkError> {
        if let Some(held) = self.holds.get(id) {
            return Ok(Ok(held));
        }
        let desk = self.desk();
        let answer = self.pump.ask(names::home(id), desk.look(id)).await?;
        Ok(match desk.looked(&answer.all, answer.at) {
            Some(Record::Open(held)) => Ok(Arc::new(held)),
            Some(Record::Ended(receipt)) => Err(EndError::Ended(Box::new(receipt))),
            None => Err(EndError::Unknown),
        })
    }

    /// Where the parts of a reservation are, its record first.
    pub(super) fn parts_of(&self, id: ReservationId, held: &Held) -> Vec<Group> {
        let home = names::home(id);
        let mut parts = groups(&held.accounts, self.is_apart());
        if !self.is_apart() || parts.is_empty() {
            return vec![Group {
                tag: home,
                accounts: held.accounts.clone(),
            }];
        }
        parts.sort_by_key(|group| group.tag != home);
        parts
    }

    /// Cancels what was admitted for a caller that was never told.
    pub(crate) async fn withdraw(&self, id: ReservationId, held: &Arc<Held>) {
        let desk = self.desk();
        for group in self.parts_of(id, held) {
            let op = desk.withdraw(id, held, (group.tag, group.accounts));
            // What cannot be given back now ends at its deadline.
            let _ = self.pump.ask(group.tag, op).await;
        }
        self.holds.forget(id);
        self.made_room(&held.accounts);
    }

    /// Something was given back on these accounts.
    pub(super) fn made_room(&self, accounts: &[Arc<Account>]) {
        accounts
            .iter()
            .for_each(|account| self.denials.forget(&account.key));
        self.room.ring(accounts);
    }

    async fn take_back(&self, tag: Tag, ask: &script::Reserve, held: &Arc<Held>) {
        let random = ask.record.last_chunk::<12>().copied().unwrap_or_default();
        let id = names::id_of(tag, random);
        let mut op = self.desk().withdraw(id, held, (tag, ask.accounts.clone()));
        if let Op::Finish(finish) = &mut op {
            finish.name.clone_from(&ask.name);
        }
        // What cannot be given back now ends at its deadline.
        let _ = self.pump.ask(tag, op).await;
    }
}

/// Takes back what was admitted for callers that have left.
pub(super) async fn take_back(shared: Weak<Shared>, mut orphans: mpsc::UnboundedReceiver<Orphan>) {
    while let Some(orphan) = orphans.recv().await {
        let (Some(shared), Op::Reserve(ask)) = (shared.upgrade(), &*orphan.op) else {
            continue;
        };
        let said = orphan.answer.all.operations.get(orphan.answer.at);
        if said.and_then(|said| said.first()) != Some(&b'A') {
            continue;
        }
        let held = Arc::new(Held {
            accounts: ask.accounts.clone(),
            parts: vec![ask.demand],
            deadline: Time::MAX,
            name: None,
        });
        shared.take_back(orphan.tag, ask, &held).await;
    }
}
