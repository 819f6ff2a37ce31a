//! The ends of reservations: settled, cancelled, taken back.
use super::super::desk::Done;
use super::super::groups::{Group, groups};
use super::super::link::LinkError;
use super::super::names::{self, Account, Tag};
use super::super::pump::{BATCH, Orphan};
use super::super::record::{Ending, Held, Record};
use super::super::script::{self, Op};
use super::{CHANGES, Shared, Strange};
use crate::store::SettleError;
use futures_util::future::join_all;
use std::sync::{Arc, Weak};
use tallygate_core::{EndError, Outcome, Receipt, ReservationId, Time, Told};
use tokio::sync::mpsc;

impl Shared {
    pub(crate) async fn end(
        &self,
        id: ReservationId,
        ending: (Outcome, Ending),
    ) -> Result<Receipt, SettleError> {
        if let Some(ended) = self.end_leased(id, ending) {
            return ended;
        }
        let mut held = match self.held(id).await? {
            Ok(held) => held,
            Err(EndError::Ended(receipt)) if receipt.outcome == ending.0 => {
                return Ok(receipt.again());
            }
            Err(error) => return Err(error.into()),
        };
        let sent_again = self.outage.sent_again();
        for _ in 0..CHANGES {
            let home = self.end_home(id, &held, ending).await?;
            match home {
                Done::Ended(mut receipt) => {
                    if sent_again != self.outage.sent_again() {
                        // It may be this call that ended it, and whose answer was lost.
                        receipt.told = Told::First;
                    }
                    let rest = self.end_rest(id, &held, (ending, receipt)).await;
                    self.made_room(&held.accounts);
                    if rest.is_ok() {
                        self.holds.forget(id);
                    }
                    // With parts left it stays known here: a repeat ends them.
                    return rest;
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
        let home = names::home(id);
        let parts = self.parts_of(id, held).into_iter().next();
        let accounts = parts.map_or(Vec::new(), |part| part.accounts);
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
        (mut ending, mut receipt): ((Outcome, Ending), Receipt),
    ) -> Result<Receipt, SettleError> {
        if held.receipt(ending.0, &ending.1).charged != receipt.charged {
            // A repeat that says otherwise than the first, which stands.
            ending.1 = Ending::Exactly(receipt.charged);
        }
        for part in self.parts_of(id, held).iter().skip(1) {
            if let Some(part) = self.end_part((id, part), held, ending).await? {
                receipt.debt = receipt.debt.zip(&part.debt, u64::max);
            }
        }
        Ok(receipt)
    }

    /// Ends one of those parts; nothing if it is not there or was ended.
    async fn end_part(
        &self,
        (id, part): (ReservationId, &Group),
        held: &Arc<Held>,
        ending: (Outcome, Ending),
    ) -> Result<Option<Receipt>, LinkError> {
        let desk = self.desk();
        let mut held = held.clone();
        for _ in 0..CHANGES {
            let place = (part.tag, part.accounts.clone());
            let op = Op::Finish(desk.finish(id, &held, place, ending));
            let answer = self.pump.ask(part.tag, op).await?;
            match desk.finished(ending.0, &answer.all, answer.at) {
                Some(Done::Ended(receipt)) => return Ok(Some(receipt)),
                // An extension that did not come through everywhere.
                Some(Done::Changed(other)) if other.parts.len() != held.parts.len() => held = other,
                _ => return Ok(None),
            }
        }
        Err(Strange.into())
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
        let tag = names::home(id);
        if !self.is_apart() {
            let accounts = held.accounts.clone();
            return vec![Group { tag, accounts }];
        }
        let mut parts = groups(&held.accounts, true);
        if !parts.iter().any(|group| group.tag == tag) {
            // The rule whose counters were kept with it has gone.
            let accounts = Vec::new();
            parts.insert(0, Group { tag, accounts });
        }
        parts.sort_by_key(|group| group.tag != tag);
        parts
    }

    /// Cancels what was admitted for a caller that was never told.
    pub(crate) async fn withdraw(&self, id: ReservationId, held: &Arc<Held>) {
        let parts = self.parts_of(id, held);
        let left = self.withdraw_parts((id, &parts), held).await;
        self.outage.keep_withdrawals(id, &left);
        self.holds.forget(id);
        self.made_room(&held.accounts);
    }

    /// Gives these parts back in turn, until one says that somebody was told of the reservation: the rest is his then.
    /// Answers where that did not come through; what is not given back later ends at its deadline.
    pub(super) async fn withdraw_parts(
        &self,
        (id, parts): (ReservationId, &[Group]),
        held: &Arc<Held>,
    ) -> Vec<Tag> {
        let (desk, mut left) = (self.desk(), Vec::new());
        for part in parts {
            let op = desk.withdraw(id, held, (part.tag, part.accounts.clone()));
            match self.pump.ask(part.tag, op).await {
                Ok(answer) if answer.kind() == Some(b'O') => break,
                // Of several parts the first knows whose they are.
                Err(_) if held.name.is_some() && parts.len() > 1 => break,
                Err(_) => left.push(part.tag),
                Ok(_) => {}
            }
        }
        left
    }

    /// Something was given back on these accounts.
    pub(crate) fn made_room(&self, accounts: &[Arc<Account>]) {
        accounts
            .iter()
            .for_each(|account| self.denials.forget(&account.key));
        self.room.ring(accounts);
    }

    /// Gives back what may have been admitted for a caller that has left; keeps that if the answer was lost, as no server may be there.
    async fn take_back(&self, orphan: &Orphan, ask: &script::Reserve) {
        let tag = orphan.tag;
        let random = ask.record.last_chunk::<12>().copied().unwrap_or_default();
        let id = names::id_of(tag, random);
        match &orphan.answer {
            None => self.outage.keep_withdrawals(id, &[tag]),
            Some(answer) if answer.kind() == Some(b'A') => self.withdraw_orphan(id, tag, ask).await,
            Some(_) => {}
        }
    }

    async fn withdraw_orphan(&self, id: ReservationId, tag: Tag, ask: &script::Reserve) {
        let held = Arc::new(Held {
            accounts: ask.accounts.clone(),
            parts: vec![ask.demand],
            deadline: Time::MAX,
            name: None,
        });
        let mut op = self.desk().withdraw(id, &held, (tag, ask.accounts.clone()));
        if let Op::Finish(finish) = &mut op {
            finish.name.clone_from(&ask.name);
        }
        match self.pump.ask(tag, op).await {
            Ok(_) => self.made_room(&ask.accounts),
            Err(_) => self.outage.keep_withdrawals(id, &[tag]),
        }
    }
}

/// Takes back what was admitted for callers that have left, many of them in one breath.
pub(super) async fn take_back(shared: Weak<Shared>, mut orphans: mpsc::UnboundedReceiver<Orphan>) {
    let mut some = Vec::new();
    while orphans.recv_many(&mut some, BATCH).await > 0 {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let taken = some.iter().filter_map(|orphan| match &*orphan.op {
            Op::Reserve(ask) => Some(shared.take_back(orphan, ask)),
            _ => None,
        });
        join_all(taken).await;
        some.clear();
    }
}
