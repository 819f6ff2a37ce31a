//! A memory store whose counters outlive it: opened on a folder, and answered once that is written.
use super::journal::{Clerk, Durability, Log, OpenError, Saved, Saving, Site, recover, refusal};
use super::{Books, MemoryOptions, MemoryStore, Shared, random};
use crate::folder::DataFolder;
use crate::store::{Reserve, SettleError, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Amounts, Decision, Extended, Ledger, Mode, Policy, Receipt, ReservationId, Span, StoreDown,
    Time, Used,
};

/// How often a folder that changes meanwhile is looked at again.
const LOOKS: usize = 3;

/// How a reservation ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Settled(Used),
    Cancelled,
}

impl MemoryStore {
    /// A store whose counters are those of a folder, or fresh if it has none; what they become is written there. Blocks while
    /// it reads. Deadlines that have passed meanwhile take effect, the policy takes the place of the one that is saved, and what
    /// only the process before could have ended is ended ([`Self::orphans`]).
    ///
    /// A folder is one store's at a time: another one is opened on it when this one is dropped, and then with another
    /// [`DataFolder`].
    ///
    /// # Errors
    /// When the counters are damaged or of a later version, or the disk fails.
    ///
    /// # Panics
    /// When the machine has no source of randomness or can start no thread.
    pub fn open(
        policy: &Policy,
        options: MemoryOptions,
        folder: Arc<DataFolder>,
        durability: Durability,
    ) -> Result<Arc<Self>, OpenError> {
        let site = Site::new(folder, options.bounds);
        Self::open_at(&site, policy, options, durability)
    }

    /// [`Self::open`] on what is made of its folder.
    pub(super) fn open_at(
        site: &Site,
        policy: &Policy,
        options: MemoryOptions,
        durability: Durability,
    ) -> Result<Arc<Self>, OpenError> {
        let found = recover(site)?;
        let end = found.as_ref().map(|found| found.end);
        let mut ledger = match found {
            Some(found) => found.ledger,
            None => Ledger::new(policy, options.bounds, [random(), random()]),
        };
        let clerk = Clerk::new(site, &ledger, end).map_err(|error| site.failed(error))?;
        let clock = options.clock.resumed(ledger.now());
        ledger.keep_journal();
        // An id that was told and lost must not be given to another caller.
        ledger.name_anew([random(), random()]);
        // First, so that calendar windows do not see the time of one clock with the lead of another.
        ledger.set_wall_offset(clock.wall_lead());
        ledger.replace_policy(policy, clock.now());
        let orphans = ledger.end_tied(clock.now());
        let (mut store, _) = Self::over(ledger, clock, Some(Log::new(site, durability)));
        store.orphans = orphans;
        store.shared.operate(|_, _| ());
        let started = clerk.start(&store.shared);
        started.map_err(|error| site.failed(error))?;
        Ok(Arc::new(store))
    }

    /// The counters of a folder as they are there now, to look at: nothing of this store is written back. The folder may be
    /// another process's meanwhile. Blocks while it reads.
    ///
    /// # Errors
    /// As [`Self::open`].
    ///
    /// # Panics
    /// As [`Self::open`].
    pub fn look(
        policy: &Policy,
        options: MemoryOptions,
        folder: Arc<DataFolder>,
    ) -> Result<Arc<Self>, OpenError> {
        let site = Site::new(folder, options.bounds);
        let mut found = recover(&site);
        for _ in 0..LOOKS {
            // Who owns the folder may have made a file needless while it was looked for.
            if found.is_err() {
                found = recover(&site);
            }
        }
        let Some(found) = found? else {
            return Ok(Self::new(policy, options));
        };
        let mut ledger = found.ledger;
        let clock = options.clock.resumed(ledger.now());
        ledger.set_wall_offset(clock.wall_lead());
        ledger.replace_policy(policy, clock.now());
        Ok(Arc::new(Self::over(ledger, clock, None).0))
    }

    /// [`crate::Store::reserve`], answered once it is written.
    pub(super) async fn reserve_to_last(&self, ask: Reserve<'_>) -> Result<Decision, StoreError> {
        let (decision, saving) = match ask.max_wait.is_zero() {
            true => self.shared.operate(|books, now| {
                let decision = books.reserve(&ask, now)?;
                let saving = books.saving_of(&decision, now);
                Ok::<_, StoreError>((decision, saving))
            })?,
            false => {
                let decision = self.wait(ask).await?;
                let saving = self
                    .shared
                    .operate(|books, now| books.saving_of(&decision, now));
                (decision, saving)
            }
        };
        let unsaved = Unsaved {
            shared: &self.shared,
            decision: Some(decision),
        };
        if saving.done().await.is_err() {
            let check = |books: &mut Books, now| books.check_disk(ask.subject, now);
            self.shared.operate(check)?;
        }
        Ok(unsaved.keep())
    }

    /// [`crate::Store::settle`] and [`crate::Store::cancel`], answered once it is written, or with that it is kept if it cannot be.
    pub(super) async fn end_to_last(
        &self,
        end: End,
        id: ReservationId,
    ) -> Result<Receipt, SettleError> {
        let (ended, is_news, saving) = self.shared.operate(|books, now| {
            books.ledger.advance(now);
            let open = books.ledger.open();
            let ended = match end {
                End::Settled(used) => books.ledger.settle(id, used, now),
                End::Cancelled => books.ledger.cancel(id, now),
            };
            (ended, books.ledger.open() < open, books.saving(now))
        });
        let receipt = match (ended, saving.done().await) {
            (ended, Ok(())) => return Ok(ended?),
            (Err(error), Err(_)) => return Err(error.into()),
            (Ok(receipt), Err(_)) => receipt,
        };
        if is_news {
            self.shared.operate(|books, _| books.kept(&receipt));
        }
        Err(SettleError::Kept {
            outcome: receipt.outcome,
        })
    }

    /// [`crate::Store::extend`], answered once it is written.
    pub(super) async fn extend_to_last(
        &self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> Result<Extended, SettleError> {
        let ttl = ttl.map(Span::from);
        let (extended, saving) = self.shared.operate(|books, now| {
            books.check_all()?;
            let extended = books.ledger.extend(id, &more, ttl, now)?;
            Ok::<_, SettleError>((extended, books.saving(now)))
        })?;
        if saving.done().await.is_err() {
            // It stands in memory: too much is held rather than too little.
            self.shared.operate(|books, _| books.check_all())?;
        }
        Ok(extended)
    }

    /// Returns when all that was done so far is written, or cannot be.
    pub(super) async fn flush(&self) {
        let flushing = |books: &mut Books, _| {
            let log = books.log.as_mut();
            log.map_or(Saving::Done, Log::flushing)
        };
        // The log says why it cannot.
        let _: Saved = self.shared.operate(flushing).done().await;
    }
}

impl Shared {
    /// Tells who waits for a disk that has not ended a write for long.
    pub(super) fn look_after_disk(&self) {
        if !self.is_lasting {
            return;
        }
        let late = |books: &mut Books| books.log.as_mut().and_then(Log::lose_patience);
        let news = late(&mut self.books.lock());
        if let Some(news) = news {
            news.tell();
        }
    }
}

impl Books {
    /// Sees to it that what the ledger recorded will be written.
    pub(super) fn record(&mut self, now: Time) {
        if let Some(log) = &mut self.log {
            log.note(&mut self.ledger, now);
        }
    }

    /// Waits for all that was done so far, by whomever: also a repeat is told of what lasts only.
    fn saving(&mut self, now: Time) -> Saving {
        let log = self.log.as_mut();
        log.map_or(Saving::Done, |log| log.saving(now))
    }

    /// A refusal changes nothing that would have to last.
    fn saving_of(&mut self, decision: &Decision, now: Time) -> Saving {
        match decision {
            Decision::Admit(_) => self.saving(now),
            _ => Saving::Done,
        }
    }

    /// Refuses a subject while nothing can be written, if a limit of his is closed then.
    pub(super) fn check_disk(
        &mut self,
        subject: &[(&str, &str)],
        now: Time,
    ) -> Result<(), StoreError> {
        let Some(reason) = self.log.as_ref().and_then(|log| log.down().cloned()) else {
            return Ok(());
        };
        let keys = self.ledger.resolve(subject);
        let standings = self.ledger.peek(&keys, now);
        let limits = standings.iter().map(|standing| &standing.limit);
        let is_closed = limits
            .filter(|limit| limit.mode == Mode::Enforce)
            .any(|limit| limit.store_down == StoreDown::Closed);
        match is_closed {
            true => Err(refusal(&reason)),
            false => Ok(()),
        }
    }

    /// Refuses while nothing can be written: whose limits a reservation counts on is not known here.
    fn check_all(&self) -> Result<(), StoreError> {
        match self.log.as_ref().and_then(Log::down) {
            Some(reason) => Err(refusal(reason)),
            None => Ok(()),
        }
    }

    fn kept(&mut self, receipt: &Receipt) {
        if let Some(log) = &mut self.log {
            log.kept(receipt);
        }
    }
}

/// What was decided and is not known to last; given back if its caller leaves before.
struct Unsaved<'a> {
    shared: &'a Shared,
    decision: Option<Decision>,
}

impl Unsaved<'_> {
    fn keep(mut self) -> Decision {
        let decision = self.decision.take();
        decision.expect("invariant: a decision is taken once, here")
    }
}

impl Drop for Unsaved<'_> {
    fn drop(&mut self) {
        if let Some(decision) = &self.decision {
            self.shared.give_back(decision);
        }
    }
}
