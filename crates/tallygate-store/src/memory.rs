//! The memory store: one ledger behind one lock, and one thread that keeps its appointments.
//!
//! One lock is right here: every call of a deployment touches the same upstream counter, so locks by account
//! would be taken together anyway, and a decision holds it for well under a microsecond.
mod alarm;

use crate::clock::Clock;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::store::{BoxFuture, Reserve, SettleError, Settlement, Store, StoreError, StoreStats};
use alarm::Alarm;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Amounts, Ask, Bounds, Decision, EndError, Entry, ExtendError, Extended, Ledger, Policy,
    Receipt, Replay, ReservationId, Span, Standing, Ticket, Time, Used,
};

/// Counters in this process: nothing to install, nothing outlives it.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
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
}

/// The ledger and the callers in its lines.
#[derive(Debug)]
struct Books {
    ledger: Ledger,
    callers: HashMap<Ticket, Sender<Decision>>,
}

impl MemoryStore {
    /// A store with fresh counters. Its thread ends with it.
    ///
    /// # Panics
    /// When the machine has no source of randomness or can start no thread.
    #[must_use]
    pub fn new(policy: &Policy, options: MemoryOptions) -> Arc<Self> {
        let ledger = Ledger::new(policy, options.bounds, [random(), random()]);
        let books = Books {
            ledger,
            callers: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            books: Mutex::new(books),
            clock: options.clock,
            alarm: Alarm::default(),
        });
        if matches!(shared.clock, Clock::System { .. }) {
            alarm::keep(&shared);
        }
        Arc::new(Self { shared })
    }

    /// Decides at once: [`Store::reserve`] without waiting.
    ///
    /// # Errors
    /// When a bound of the store is reached.
    pub fn try_reserve(&self, ask: &Reserve<'_>) -> Result<Decision, StoreError> {
        let mut books = self.shared.books.lock();
        let now = self.shared.clock.now();
        let decision = books.with_ask(ask, |ledger, ask| ledger.reserve(ask, now))?;
        self.shared.close(books);
        Ok(decision)
    }

    /// Decides at once and charges for good: for calls that nobody settles. Answers the refusal, if it is one.
    ///
    /// # Errors
    /// When a bound of the store is reached.
    pub fn spend(
        &self,
        subject: &[(&str, &str)],
        demand: &Amounts,
    ) -> Result<Option<Decision>, StoreError> {
        let mut books = self.shared.books.lock();
        let now = self.shared.clock.now();
        let keys = books.ledger.resolve(subject);
        let refusal = books.ledger.spend(&keys, demand, now)?;
        self.shared.close(books);
        Ok(refusal)
    }

    /// [`Store::settle`] without a future.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub fn settle_now(&self, id: ReservationId, usage: Settlement) -> Result<Receipt, SettleError> {
        let used = match usage {
            Settlement::Exact(amounts) => Used::Exactly(amounts),
            Settlement::AtLeast(amounts) => Used::AtLeast(amounts),
        };
        let mut books = self.shared.books.lock();
        let now = self.shared.clock.now();
        let receipt = books.ledger.settle(id, used, now);
        self.shared.close(books);
        Ok(receipt?)
    }

    /// [`Store::cancel`] without a future.
    ///
    /// # Errors
    /// When the reservation is unknown or ended otherwise.
    pub fn cancel_now(&self, id: ReservationId) -> Result<Receipt, SettleError> {
        let mut books = self.shared.books.lock();
        let now = self.shared.clock.now();
        let receipt = books.ledger.cancel(id, now);
        self.shared.close(books);
        Ok(receipt?)
    }

    /// [`Store::extend`] without a future.
    ///
    /// # Errors
    /// When the reservation is unknown or has ended, or a bound is reached.
    pub fn extend_now(
        &self,
        id: ReservationId,
        more: &Amounts,
        ttl: Option<Duration>,
    ) -> Result<Extended, SettleError> {
        let mut books = self.shared.books.lock();
        let now = self.shared.clock.now();
        let extended = books.ledger.extend(id, more, ttl.map(Span::from), now);
        self.shared.close(books);
        extended.map_err(SettleError::from)
    }

    /// Lets what is due by the clock take effect.
    pub fn tick(&self) {
        self.shared.tick();
    }

    /// The store's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Drops accounts that are as good as fresh, one table of one rule a call; answers how many.
    pub fn sweep(&self) -> usize {
        let now = self.shared.clock.now();
        self.shared.books.lock().ledger.sweep(now)
    }

    async fn wait(&self, ask: Reserve<'_>) -> Result<Decision, StoreError> {
        let entry = {
            let mut books = self.shared.books.lock();
            let now = self.shared.clock.now();
            let until = now.plus(Span::from(ask.max_wait));
            let entry = books.with_ask(&ask, |ledger, ask| ledger.wait(ask, until, now))?;
            let place = match entry {
                Entry::Decided(decision) => Ok(decision),
                Entry::Waiting(ticket) => {
                    let (sender, receiver) = mailbox();
                    books.callers.insert(ticket, sender);
                    Err(Place {
                        shared: &self.shared,
                        ticket,
                        receiver,
                        done: false,
                    })
                }
            };
            self.shared.close(books);
            place
        };
        match entry {
            Ok(decision) => Ok(decision),
            Err(place) => Ok(place.answer().await),
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.shared.alarm.stop();
    }
}

impl Store for MemoryStore {
    fn reserve<'a>(&'a self, ask: Reserve<'a>) -> BoxFuture<'a, Result<Decision, StoreError>> {
        if ask.max_wait.is_zero() {
            let decision = self.try_reserve(&ask);
            return Box::pin(std::future::ready(decision));
        }
        Box::pin(self.wait(ask))
    }

    fn settle<'a>(
        &'a self,
        id: ReservationId,
        usage: Settlement,
    ) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        Box::pin(std::future::ready(self.settle_now(id, usage)))
    }

    fn cancel<'a>(&'a self, id: ReservationId) -> BoxFuture<'a, Result<Receipt, SettleError>> {
        Box::pin(std::future::ready(self.cancel_now(id)))
    }

    fn extend<'a>(
        &'a self,
        id: ReservationId,
        more: Amounts,
        ttl: Option<Duration>,
    ) -> BoxFuture<'a, Result<Extended, SettleError>> {
        Box::pin(std::future::ready(self.extend_now(id, &more, ttl)))
    }

    fn peek<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Vec<Standing>, StoreError>> {
        let mut books = self.shared.books.lock();
        let now = self.shared.clock.now();
        let keys = books.ledger.resolve(subject);
        let standings = books.ledger.peek(&keys, now);
        self.shared.close(books);
        Box::pin(std::future::ready(Ok(standings)))
    }

    fn replace_policy(&self, policy: Arc<Policy>) -> Result<(), StoreError> {
        let mut books = self.shared.books.lock();
        let now = self.shared.clock.now();
        books.ledger.replace_policy(&policy, now);
        self.shared.close(books);
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        let books = self.shared.books.lock();
        StoreStats {
            counters: books.ledger.counters(),
            reservations: books.ledger.open(),
            waiters: books.ledger.waiting(),
        }
    }

    fn now(&self) -> Time {
        self.shared.clock.now()
    }
}

impl Shared {
    /// Ends an operation: answers the callers whose turn has come, and moves the alarm.
    fn close(&self, mut books: MutexGuard<'_, Books>) {
        let answers = books.take_answers();
        if let Some(next) = books.ledger.next_event() {
            self.alarm.set(next);
        }
        drop(books);
        for (sender, decision) in answers {
            if let Some(refused) = sender.send(decision) {
                self.give_back(&refused);
            }
        }
    }

    fn tick(&self) {
        let mut books = self.books.lock();
        books.ledger.advance(self.clock.now());
        self.close(books);
    }

    /// Cancels what was admitted for a caller that has left.
    fn give_back(&self, decision: &Decision) {
        if let Decision::Admit(admission) = decision
            && admission.replay == Replay::Fresh
        {
            let mut books = self.books.lock();
            let now = self.clock.now();
            // It can have expired by now, which is as good.
            let _ = books.ledger.cancel(admission.id, now);
            self.close(books);
        }
    }
}

impl Books {
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

    fn take_answers(&mut self) -> Vec<(Sender<Decision>, Decision)> {
        let answers = self.ledger.take_answers().into_iter();
        answers
            .filter_map(|(ticket, decision)| Some((self.callers.remove(&ticket)?, decision)))
            .collect()
    }
}

/// A caller's place in line; dropped before its answer it is given up, and what came meanwhile is given back.
struct Place<'a> {
    shared: &'a Shared,
    ticket: Ticket,
    receiver: Receiver<Decision>,
    done: bool,
}

impl Place<'_> {
    async fn answer(mut self) -> Decision {
        let decision = (&mut self.receiver).await;
        self.done = true;
        decision
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        match self.receiver.leave() {
            Some(decision) => self.shared.give_back(&decision),
            None => {
                let mut books = self.shared.books.lock();
                books.callers.remove(&self.ticket);
                let now = self.shared.clock.now();
                books.ledger.leave(self.ticket, now);
                self.shared.close(books);
            }
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
