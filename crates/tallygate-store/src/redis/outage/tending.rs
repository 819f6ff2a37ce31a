//! The task that delivers what was kept, and finds out when a store that refused is well again.
use super::Outage;
use crate::redis::link::LinkError;
use crate::redis::names;
use crate::redis::record::{Held, Record};
use crate::redis::script::Op;
use crate::redis::spool::{Entry, Place, Task};
use crate::redis::store::Shared;
use crate::store::SettleError;
use futures_util::future::join_all;
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tallygate_core::{Amounts, Outcome, Receipt, Time};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How many entries are on their way at once.
const TOGETHER: usize = 64;

/// The pauses after attempts that came to nothing: doubled from the first to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// How long an entry is tried that the store answers with an error: the longest life of a reservation that callers of the
/// decision API can ask for, after which there is nothing left to settle.
const LIFE: Duration = Duration::from_secs(86_400);

/// How often a withdrawal looks again because the reservation came or changed meanwhile.
const LOOKS: usize = 4;

/// What wakes the task.
pub(super) struct Signals {
    pub(super) bell: Arc<Notify>,
    pub(super) circuits: watch::Receiver<usize>,
    /// Ends with the store.
    pub(super) alive: watch::Receiver<()>,
}

/// Tends a store until it is dropped.
pub(super) async fn tend(shared: Weak<Shared>, mut signals: Signals) {
    let mut pause = PAUSES[0];
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let turn = strong.tend_once().await;
        drop(strong);
        pause = match turn {
            Turn::Idle | Turn::Well => PAUSES[0],
            Turn::Unwell => (pause * 2).min(PAUSES[1]),
        };
        let longest = match turn {
            Turn::Well => continue,
            Turn::Unwell => pause,
            Turn::Idle => LIFE,
        };
        signals.wait(longest).await;
    }
}

/// What one turn of tending came to.
enum Turn {
    /// There is nothing to do.
    Idle,
    /// There may be more to do, and it can be done.
    Well,
    /// There is something to do that cannot be done now.
    Unwell,
}

impl Signals {
    async fn wait(&mut self, longest: Duration) {
        tokio::select! {
            () = self.bell.notified() => {}
            Ok(()) = self.circuits.changed() => {}
            _ = self.alive.changed() => {}
            () = tokio::time::sleep(longest) => {}
        }
    }
}

impl Shared {
    async fn tend_once(&self) -> Turn {
        let is_well = self.outage.trouble.last().is_none();
        if is_well && self.outage.is_open() {
            // Found out without a call: one says what the matter is. On a Cluster another server may answer it.
            let _ = self.probe().await;
        }
        let is_well = self.outage.trouble.last().is_none();
        if is_well && self.outage.spool.is_empty() {
            return Turn::Idle;
        }
        // On a Cluster another server may be well.
        if self.outage.is_open() && !self.is_apart() {
            return Turn::Unwell;
        }
        if !is_well && self.probe().await.is_err() {
            return Turn::Unwell;
        }
        match self.deliver_all().await {
            0 if self.outage.spool.is_empty() => Turn::Idle,
            0 => Turn::Unwell,
            _ => Turn::Well,
        }
    }

    /// Asks for a write that leaves nothing behind.
    async fn probe(&self) -> Result<(), LinkError> {
        let id = names::new_id(names::home(names::new_id(0)));
        let nothing = Arc::new(nothing_held());
        let tag = names::home(id);
        let mut op = self.desk().withdraw(id, &nothing, (tag, Vec::new()));
        if let Op::Finish(finish) = &mut op {
            finish.keep = 1;
        }
        self.pump.ask(tag, op).await.map(drop)
    }

    /// Delivers what there is, the oldest first; answers how many entries went. Where one fails, so would those behind it
    /// on the same way.
    async fn deliver_all(&self) -> usize {
        let (mut went, mut after) = (0, 0);
        let mut failing = HashSet::new();
        while failing.is_empty() || self.is_apart() {
            let batch = self.outage.spool.oldest(after, TOGETHER);
            let Some((last, ..)) = batch.last() else {
                break;
            };
            after = *last;
            let route = |entry: &Entry| self.pump.carrier().route(entry.place().1);
            let hopeful = batch
                .iter()
                .filter(|(_, entry, _)| !failing.contains(&route(entry)));
            let sent = hopeful.map(|(_, entry, since)| async move {
                (route(entry), self.deliver_or_lose(*entry, *since).await)
            });
            let sent: Vec<_> = sent.collect();
            for (route, delivered) in join_all(sent).await {
                match delivered {
                    true => went += 1,
                    false => drop(failing.insert(route)),
                }
            }
        }
        went
    }

    /// Answers whether the store gave an answer.
    async fn deliver_or_lose(&self, entry: Entry, since: Instant) -> bool {
        let Err(SettleError::Store(_)) = self.deliver(entry).await else {
            return true;
        };
        if since.elapsed() > LIFE && !self.outage.is_open() {
            self.outage.spool.lose(&entry.place());
        }
        false
    }

    /// Delivers one entry, which then goes unless the store gave no answer.
    pub(super) async fn deliver(&self, entry: Entry) -> Result<Receipt, SettleError> {
        let ended = match entry.task {
            Task::End(outcome, used) => self.end(entry.place().0, (outcome, used)).await,
            Task::Withdraw => self.withdraw_part(entry.place()).await,
        };
        match &ended {
            Err(SettleError::Store(_)) => {}
            _ if !self.outage.spool.done(&entry.place()) => {}
            ended if entry.task != Task::Withdraw => self.outage.told(ended),
            _ => {}
        }
        ended
    }

    /// Gives back what a part of a reservation holds, now or when it comes.
    async fn withdraw_part(&self, place: Place) -> Result<Receipt, SettleError> {
        for _ in 0..LOOKS {
            let held = match self.part(place).await? {
                Some(Record::Open(held)) => held,
                Some(Record::Ended(receipt)) => return Ok(receipt),
                None => nothing_held(),
            };
            let held = Arc::new(held);
            let accounts = self.accounts_at(&held, place);
            let op = self.desk().withdraw(place.0, &held, (place.1, accounts));
            let answer = self.pump.ask(place.1, op).await?;
            if answer.kind() != Some(b'V') {
                self.made_room(&held.accounts);
                break;
            }
        }
        Err(SettleError::Unknown)
    }

    async fn part(&self, (id, tag): Place) -> Result<Option<Record>, LinkError> {
        let desk = self.desk();
        let record = names::record(&desk.node.prefix, tag, id);
        let answer = self.pump.ask(tag, Op::Look(record)).await?;
        Ok(desk.looked(&answer.all, answer.at))
    }

    /// Those of its accounts that are kept with the part at `tag`.
    fn accounts_at(&self, held: &Held, (_, tag): Place) -> Vec<Arc<names::Account>> {
        let accounts = held.accounts.iter();
        let here = accounts.filter(|account| !self.is_apart() || account.tag == tag);
        here.cloned().collect()
    }
}

/// A reservation of no parts, as none is.
fn nothing_held() -> Held {
    Held {
        accounts: Vec::new(),
        parts: Vec::new(),
        deadline: Time::MAX,
        name: None,
    }
}

impl Outage {
    /// Notes what came of an end that was kept.
    fn told(&self, ended: &Result<Receipt, SettleError>) {
        let mut late = self.late.lock();
        let Ok(receipt) = ended else {
            late.overtaken += 1;
            return;
        };
        match receipt.outcome {
            Outcome::Settled => late.settled += 1,
            _ => late.cancelled += 1,
        }
        let add = |sum: &mut Amounts, more: &Amounts| *sum = sum.zip(more, u64::saturating_add);
        add(&mut late.charged, &receipt.charged);
        add(&mut late.returned, &receipt.returned);
        add(&mut late.debt, &receipt.debt);
    }
}
