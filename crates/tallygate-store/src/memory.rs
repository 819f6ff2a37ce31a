//! The memory store: one ledger behind one lock, and one thread that keeps its appointments.
//!
//! One lock is right here: every call of a deployment touches the same upstream counter, so locks by account
//! would be taken together anyway, and a decision holds it for well under a microsecond.
mod alarm;
mod journal;
mod lasting;
#[cfg(all(test, not(tallygate_loom)))]
mod tests;

use crate::clock::Clock;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::store::{
    BoxFuture, OutageStats, Reserve, SettleError, SettledBy, Settlement, Store, StoreError,
    StoreHealth, StoreStats,
};
use alarm::Alarm;
use journal::Log;
pub use journal::{Durability, OpenError, RELAXED_AT_ONCE, RELAXED_BOUND};
use lasting::End;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tallygate_core::{
    Amounts, Ask, Bounds, Decision, EndError, Entry, ExtendError, Extended, FullError, Ledger,
    Patience, Policy, Receipt, Replay, ReservationId, Span, Standing, Ticket, Time, Used,
};

/// Counters in this process: nothing to install. Without a folder nothing outlives it; with one
/// ([`MemoryStore::open`]) they do.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// How many reservations of an earlier process nobody could end.
    orphans: usize,
}

/// How a memory store is made.
#[derive(Debug, Clone)]
pub struct MemoryOptions {
    /// How much it may keep.
    pub bounds: Bounds,
    /// Its clock; with a manual one, [`MemoryStore::tick`] must be called when it was moved.
    pub clock: Clock,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            bounds: Bounds::default(),
            clock: Clock::system(),
        }
    }
}

#[derive(Debug)]
struct Shared {
    books: Mutex<Books>,
    clock: Clock,
    alarm: Alarm,
    /// Whether there is a log: who waits for it looks here first.
    is_lasting: bool,
}

/// The ledger and the callers in its lines.
#[derive(Debug)]
struct Books {
    ledger: Ledger,
    callers: HashMap<Ticket, Caller>,
    /// Where changes are written to; none if nothing outlives the process.
    log: Option<Log>,
}

/// A caller in line.
#[derive(Debug)]
struct Caller {
    sender: Sender<Answer>,
    settled_by: SettledBy,
}

/// What a caller in line is told.
type Answer = Result<Decision, FullError>;

impl MemoryStore {
    /// A store with fresh counters. Its thread ends with it.
    ///
    /// # Panics
    /// When the machine has no source of randomness or can start no thread.
    #[must_use]
    pub fn new(policy: &Policy, options: MemoryOptions) -> Arc<Self> {
        Self::start(policy, options).0
    }

    /// The store and its thread.
    fn start(policy: &Policy, options: MemoryOptions) -> (Arc<Self>, Option<JoinHandle<()>>) {
        let ledger = Ledger::new(policy, options.bounds, [random(), random()]);
        let (store, thread) = Self::over(ledger, options.clock, None);
        (Arc::new(store), thread)
    }

    /// A store of this ledger.
    fn over(ledger: Ledger, clock: Clock, log: Option<Log>) -> (Self, Option<JoinHandle<()>>) {
        let is_lasting = log.is_some();
        let books = Books {
            ledger,
            callers: HashMap::new(),
            log,
        };
        let shared = Arc::new(Shared {
            books: Mutex::new(books),
            clock,
            alarm: Alarm::default(),
            is_lasting,
        });
        let real = matches!(shared.clock, Clock::System { .. });
        let thread = real.then(|| alarm::keep(&shared));
        (Self { shared, orphans: 0 }, thread)
    }

    /// Decides at once: [`Store::reserve`] without waiting, neither in line nor for the disk.
    ///
    /// # Errors
    /// When a bound of the store is reached.
    pub fn try_reserve(&self, ask: &Reserve<'_>) -> Result<Decision, StoreError> {
        self.shared.operate(|books, now| books.reserve(ask, now))
    }

    /// Decides at once and charges for good: for calls that nobody settles. Answers the refusal, if it is one. Does not wait for
    /// the disk.
    ///
    /// # Errors
    /// When a bound of the store is reached.
    pub fn spend(
        &self,
        subject: &[(&str, &str)],
        demand: &Amounts,
    ) -> Result<Option<Decision>, StoreError> {
        let refusal = self.shared.operate(|books, now| {
            let keys = books.ledger.resolve(subject);
            books.ledger.spend(&keys, demand, now)
        });
        Ok(refusal?)
    }

    /// [`Store::settle`] without a future; it does not wait for the disk.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub fn settle_now(&self, id: ReservationId, usage: Settlement) -> Result<Receipt, SettleError> {
        let used = Used::from(usage);
        let settle = |books: &mut Books, now| books.ledger.settle(id, used, now);
        Ok(self.shared.operate(settle)?)
    }

    /// [`Store::cancel`] without a future; it does not wait for the disk.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub fn cancel_now(&self, id: ReservationId) -> Result<Receipt, SettleError> {
        let cancel = |books: &mut Books, now| books.ledger.cancel(id, now);
        Ok(self.shared.operate(cancel)?)
    }

    /// [`Store::extend`] without a future; it does not wait for the disk.
    ///
    /// # Errors
    /// When the reservation is unknown or has ended, or a bound is reached.
    pub fn extend_now(
        &self,
        id: ReservationId,
        more: &Amounts,
        ttl: Option<Duration>,
    ) -> Result<Extended, SettleError> {
        let ttl = ttl.map(Span::from);
        let extend = |books: &mut Books, now| books.ledger.extend(id, more, ttl, now);
        Ok(self.shared.operate(extend)?)
    }

    /// [`Store::peek`] without a future.
    #[must_use]
    pub fn peek_now(&self, subject: &[(&str, &str)]) -> Vec<Standing> {
        self.shared.operate(|books, now| {
            let keys = books.ledger.resolve(subject);
            books.ledger.peek(&keys, now)
        })
    }

    /// Lets what is due by the clock take effect, a step of the wall clock included.
    pub fn tick(&self) {
        self.shared.follow_wall();
        self.shared.tick();
        self.shared.look_after_disk();
    }

    /// How many reservations an earlier process had open that nobody but itself could have ended ([`SettledBy::ThisNode`]), as the
    /// calls that it served when it was killed: they were ended as their deadlines would have done.
    #[must_use]
    pub fn orphans(&self) -> usize {
        self.orphans
    }

    /// The store's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Drops accounts that are as good as fresh, one table of one rule a call; answers how many.
    pub fn sweep(&self) -> usize {
        self.shared.operate(|books, now| books.ledger.sweep(now))
    }

    async fn wait(&self, ask: Reserve<'_>) -> Result<Decision, StoreError> {
        let entry = self.shared.operate(|books, now| {
            books.check_disk(ask.subject, now)?;
            let patience = Patience {
                until: now.plus(Span::from(ask.max_wait)),
                waits_for: ask.waits_for,
            };
            let entry = books.with_ask(&ask, |ledger, ask| ledger.wait(ask, patience, now))?;
            Ok::<_, StoreError>(match entry {
                Entry::Decided(decision) => {
                    books.tie(&decision, ask.settled_by);
                    Ok(decision)
                }
                Entry::Waiting(ticket) => Err(self.place(books, ticket, ask.settled_by)),
            })
        });
        match entry? {
            Ok(decision) => Ok(decision),
            Err(place) => Ok(place.answer().await?),
        }
    }

    fn place(&self, books: &mut Books, ticket: Ticket, settled_by: SettledBy) -> Place<'_> {
        let (sender, receiver) = mailbox();
        let caller = Caller { sender, settled_by };
        books.callers.insert(ticket, caller);
        Place {
            shared: &self.shared,
            ticket,
            receiver,
            done: false,
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.shared.alarm.stop();
        if let Some(log) = &mut self.shared.books.lock().log {
            log.close();
        }
    }
}

impl Store for MemoryStore {
    fn reserve<'a>(&'a self, ask: Reserve<'a>) -> BoxFuture<'a, Result<Decision, StoreError>> {
        match (self.shared.is_lasting, ask.max_wait.is_zero()) {
            (true, _) => Box::pin(self.reserve_to_last(ask)),
            (false, true) => Box::pin(async move { self.try_reserve(&ask) }),
            (false, false) => Box::pin(self.wait(ask)),
        }
    }

    fn settle<'a>(
        &'a self,
        id: ReservationId,
        usage: Settlement,
    ) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        match self.shared.is_lasting {
            true => Box::pin(self.end_to_last(End::Settled(usage.into()), id)),
            false => Box::pin(async move { self.settle_now(id, usage) }),
        }
    }

    fn cancel<'a>(&'a self, id: ReservationId) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        match self.shared.is_lasting {
            true => Box::pin(self.end_to_last(End::Cancelled, id)),
            false => Box::pin(async move { self.cancel_now(id) }),
        }
    }

    fn extend<'a>(
        &'a self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Extended, SettleError>> {
        match self.shared.is_lasting {
            true => Box::pin(self.extend_to_last(id, more, ttl)),
            false => Box::pin(async move { self.extend_now(id, &more, ttl) }),
        }
    }

    fn peek<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Vec<Standing>, StoreError>> {
        Box::pin(async move { Ok(self.peek_now(subject)) })
    }

    fn replace_policy(&self, policy: Arc<Policy>) -> Result<(), StoreError> {
        self.shared
            .operate(|books, now| books.ledger.replace_policy(&policy, now));
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        let books = self.shared.books.lock();
        StoreStats {
            counters: books.ledger.counters(),
            reservations: books.ledger.holding(),
            waiters: books.ledger.waiting(),
        }
    }

    fn health(&self) -> StoreHealth {
        let books = self.shared.books.lock();
        books.log.as_ref().map_or(StoreHealth::Up, Log::health)
    }

    fn outage(&self) -> OutageStats {
        let books = self.shared.books.lock();
        books.log.as_ref().map(Log::stats).unwrap_or_default()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.flush())
    }

    fn now(&self) -> Time {
        self.shared.clock.now()
    }
}

impl Shared {
    /// Runs an operation on the books and ends it, whatever came of it.
    fn operate<T>(&self, work: impl FnOnce(&mut Books, Time) -> T) -> T {
        let mut books = self.books.lock();
        let now = self.clock.now();
        let out = work(&mut books, now);
        self.close(books, now);
        out
    }

    /// Ends an operation: answers the callers whose turn has come, and moves the alarm.
    fn close(&self, mut books: MutexGuard<'_, Books>, now: Time) {
        let answers = books.take_answers();
        books.record(now);
        if let Some(next) = books.ledger.next_event() {
            self.alarm.set(next);
        }
        drop(books);
        for (sender, answer) in answers {
            if let Some(Ok(refused)) = sender.send(answer) {
                self.give_back(&refused);
            }
        }
    }

    fn tick(&self) {
        self.operate(|books, now| books.ledger.advance(now));
    }

    /// Lets calendar windows follow a wall clock that was stepped, by whole milliseconds.
    fn follow_wall(&self) {
        let lead = self.clock.wall_lead();
        self.operate(|books, now| {
            books.ledger.advance(now);
            books.ledger.set_wall_offset(lead);
        });
    }

    /// Takes back what was admitted for a caller that has left.
    fn give_back(&self, decision: &Decision) {
        if let Decision::Admit(admission) = decision {
            self.operate(|books, now| books.ledger.withdraw(admission.id, now));
        }
    }
}

impl Books {
    /// Decides at once.
    fn reserve(&mut self, ask: &Reserve<'_>, now: Time) -> Result<Decision, StoreError> {
        self.check_disk(ask.subject, now)?;
        let decision = self.with_ask(ask, |ledger, ask| ledger.reserve(ask, now))?;
        self.tie(&decision, ask.settled_by);
        Ok(decision)
    }

    /// Sees to it that what only this process can end does not outlive it.
    fn tie(&mut self, decision: &Decision, settled_by: SettledBy) {
        if let Decision::Admit(admission) = decision
            && admission.replay == Replay::Fresh
            && settled_by == SettledBy::ThisNode
            && self.log.is_some()
        {
            self.ledger.tie_to_process(admission.id);
        }
    }

    /// Resolves an ask and hands it to the ledger.
    fn with_ask<T>(&mut self, ask: &Reserve<'_>, f: impl FnOnce(&mut Ledger, &Ask<'_>) -> T) -> T {
        let keys = self.ledger.resolve(ask.subject);
        let name = ask
            .idempotency_key
            .map(|key| self.ledger.idempotency(key, ask.subject));
        let ask = Ask {
            keys: &keys,
            demand: &ask.demand,
            ttl: ask.ttl.into(),
            idempotency: name,
        };
        f(&mut self.ledger, &ask)
    }

    fn take_answers(&mut self) -> Vec<(Sender<Answer>, Answer)> {
        let mut told = Vec::new();
        for (ticket, answer) in self.ledger.take_answers() {
            let Some(caller) = self.callers.remove(&ticket) else {
                continue;
            };
            if let Ok(decision) = &answer {
                self.tie(decision, caller.settled_by);
            }
            told.push((caller.sender, answer));
        }
        told
    }
}

/// A caller's place in line; dropped before its answer it is given up, and what came meanwhile is given back.
struct Place<'a> {
    shared: &'a Shared,
    ticket: Ticket,
    receiver: Receiver<Answer>,
    done: bool,
}

impl Place<'_> {
    async fn answer(mut self) -> Answer {
        let answer = (&mut self.receiver).await;
        self.done = true;
        answer
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        match self.receiver.leave() {
            Some(Ok(decision)) => self.shared.give_back(&decision),
            Some(Err(_)) => {}
            None => self.shared.operate(|books, now| {
                books.callers.remove(&self.ticket);
                books.ledger.leave(self.ticket, now);
            }),
        }
    }
}

impl From<Settlement> for Used {
    fn from(usage: Settlement) -> Self {
        match usage {
            Settlement::Exact(amounts) => Self::Exactly(amounts),
            Settlement::Stated(stated) => Self::Stated(stated),
            Settlement::AtLeast(amounts) => Self::AtLeast(amounts),
        }
    }
}

impl From<EndError> for SettleError {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Ended(receipt) => Self::Standing(receipt),
            _ => Self::Unknown,
        }
    }
}

impl From<ExtendError> for SettleError {
    fn from(error: ExtendError) -> Self {
        match error {
            ExtendError::Ended(end) => end.into(),
            ExtendError::Full(full) => Self::Store(StoreError::Full(full)),
            _ => Self::TooOften,
        }
    }
}

fn random() -> u64 {
    getrandom::u64().expect("invariant: the machine has a source of randomness")
}
