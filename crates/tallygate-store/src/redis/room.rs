//! The waiting room: the callers of this process that wait, by the counter they wait for.
//!
//! A line's first caller is entered in the store with its arrival, and those of all processes are served there in
//! that order; the others wait here. Each line has a keeper, a task that asks for the first caller: at the exact instant its
//! counter has room, when the store or a settlement of this process says that something has changed, and every [`BEAT`], so
//! that its place is kept and a message that was lost costs no more than that.
//!
//! A caller stands in the line of the counter that will have room last. One that needs two contended counters could move
//! between their lines for ever, each giving its room away while it stands in the other's. Once it has moved [`MOVES`] times
//! it therefore keeps its place while it stands in the next line too, if that makes the others wait no longer than a
//! [`PATIENCE`]th of what it has waited itself.
mod keeper;

use super::names::Account;
use super::script::Stand;
use super::sheet::micros;
use super::store::Errand;
use crate::mailbox::Sender;
use crate::store::StoreError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tallygate_core::{Decision, FullError, Time, WaitsFor};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a place in the store's line is made good.
pub(crate) const BEAT: Duration = Duration::from_millis(250);

/// How long a place is kept without.
pub(crate) const STAY: Duration = Duration::from_millis(700);

/// An account's key and the number of one of its limits.
pub(crate) type Place = (Vec<u8>, usize);

/// What a caller in line is told.
type Answer = Result<Decision, StoreError>;

/// The lines of this process.
#[derive(Default)]
pub(crate) struct Room {
    lines: Mutex<Lines>,
    /// Callers that are known to stand in line.
    standing: AtomicUsize,
    /// Attempts under way for callers that have left.
    unsure: AtomicUsize,
    /// The most callers that may wait at once; zero: as many as come.
    most: AtomicUsize,
}

#[derive(Default)]
struct Lines {
    by_place: BTreeMap<Place, Line>,
    /// Everybody, by arrival.
    waiters: BTreeMap<u64, Waiter>,
    last_order: u64,
    /// For whom the store is being asked. Never twice at once: what one answer admits the other would take back.
    asking: BTreeMap<u64, Asking>,
}

#[derive(Default)]
struct Line {
    /// What each wants of the counter, by arrival.
    amounts: BTreeMap<u64, u64>,
    bell: Arc<Notify>,
    /// Whether the place is entered in the store.
    entered: bool,
}

/// A question under way.
#[derive(Debug, Clone, Copy, Default)]
struct Asking {
    /// Whether the caller has left since.
    left: bool,
    /// Whether another line's keeper wants to ask too.
    wanted: bool,
}

/// A caller in line.
struct Waiter {
    errand: Arc<Errand>,
    since: Instant,
    /// When its patience ends, whatever the server's clock is set to meanwhile.
    until: Instant,
    counted: bool,
    reply: Sender<Answer>,
    /// Whose lines it stands in: one, or two once it has moved too often.
    stands: Vec<Place>,
    moves: u32,
}

/// How often a caller moves to another line before it may keep its place.
const MOVES: u32 = 3;

/// What a kept place may cost the others, as a part of what its caller has waited.
const PATIENCE: u32 = 8;

/// How long a caller waits: by the server's clock, and by this machine's.
#[derive(Debug, Clone, Copy)]
struct Until {
    shown: Time,
    since: Instant,
    at: Instant,
}

/// The longest wait: longer than any process lives.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);

/// Who a keeper asks for next.
struct Next {
    order: u64,
    /// When its patience ends.
    until: Instant,
    errand: Arc<Errand>,
    stand: Stand,
}

/// What a keeper finds to do.
enum Question {
    Ask(Next),
    /// The first of the line is being asked for as the first of another.
    Busy,
}

/// What becomes of the blocked first of a line.
enum Ways {
    /// It stays, and stands in this line too if there is one.
    Stay(Option<Place>),
    /// It moves there.
    Move,
}

impl Until {
    fn after(now: Time, wait: Duration) -> Self {
        let since = Instant::now();
        Self {
            shown: now.plus(wait.into()),
            since,
            at: since + wait.min(LONGEST),
        }
    }
}

impl Room {
    /// Room for so many callers.
    pub(crate) fn bound(&self, most: usize) {
        self.most.store(most, Ordering::SeqCst);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.standing.load(Ordering::SeqCst)
    }

    pub(crate) fn unsure(&self) -> usize {
        self.unsure.load(Ordering::SeqCst)
    }

    /// Has the lines of these accounts asked again.
    pub(crate) fn ring(&self, accounts: &[Arc<Account>]) {
        let lines = self.lines.lock();
        if lines.by_place.is_empty() {
            return;
        }
        for account in accounts {
            for limit in 0..account.rule.rule.limits().len() {
                if let Some(line) = lines.by_place.get(&(account.key.clone(), limit)) {
                    line.bell.notify_one();
                }
            }
        }
    }

    /// Has a line asked again.
    pub(crate) fn ring_at(&self, place: &Place) {
        if let Some(line) = self.lines.lock().by_place.get(place) {
            line.bell.notify_one();
        }
    }

    /// Has every line asked again.
    pub(crate) fn ring_all(&self) {
        let lines = self.lines.lock();
        lines
            .by_place
            .values()
            .for_each(|line| line.bell.notify_one());
    }

    /// A line of this process that a demand touches: the first that is found.
    fn touched(&self, errand: &Errand) -> Option<Place> {
        let lines = self.lines.lock();
        if lines.by_place.is_empty() {
            return None;
        }
        let mut places = errand.places();
        places.find(|place| lines.by_place.contains_key(place))
    }

    /// Lets a caller in who stands nowhere yet.
    fn admit(&self, order: u64, waiter: Waiter) {
        self.lines.lock().waiters.insert(order, waiter);
    }

    /// Puts a caller in a line; answers whether the line is new and wants a keeper.
    fn enter(&self, place: &Place, order: u64) -> bool {
        let mut lines = self.lines.lock();
        let lines = &mut *lines;
        let Some(waiter) = lines.waiters.get_mut(&order) else {
            return false;
        };
        let is_new = !lines.by_place.contains_key(place);
        let line = lines.by_place.entry(place.clone()).or_default();
        if line.entered && !waiter.counted {
            waiter.counted = true;
            self.standing.fetch_add(1, Ordering::SeqCst);
        }
        waiter.stands.push(place.clone());
        waiter.moves += 1;
        let amount = waiter.errand.amount_at(place);
        line.amounts.insert(order, amount);
        line.bell.notify_one();
        is_new
    }

    /// Takes a caller out, wherever it stands.
    fn take(&self, order: u64, by_itself: bool) -> Option<Waiter> {
        let mut lines = self.lines.lock();
        let mut waiter = lines.waiters.remove(&order)?;
        lines.unline(order, &mut waiter);
        if let Some(asking) = lines.asking.get_mut(&order)
            && by_itself
            && !asking.left
        {
            asking.left = true;
            self.unsure.fetch_add(1, Ordering::SeqCst);
        }
        if waiter.counted {
            self.standing.fetch_sub(1, Ordering::SeqCst);
        }
        Some(waiter)
    }

    /// Takes a caller out of its lines, to put it into another.
    fn lift(&self, order: u64) -> Option<Arc<Errand>> {
        let mut lines = self.lines.lock();
        let mut waiter = lines.waiters.remove(&order)?;
        lines.unline(order, &mut waiter);
        if std::mem::take(&mut waiter.counted) {
            self.standing.fetch_sub(1, Ordering::SeqCst);
        }
        let errand = waiter.errand.clone();
        lines.waiters.insert(order, waiter);
        Some(errand)
    }

    /// The first of a line, to be asked for; an empty line is closed.
    fn next(&self, place: &Place, turn: Time) -> Option<Question> {
        let mut lines = self.lines.lock();
        let line = lines.by_place.get(place)?;
        let Some((order, amount)) = line.amounts.first_key_value() else {
            lines.by_place.remove(place);
            return None;
        };
        let (order, amount) = (*order, *amount);
        let queued = line.amounts.values().sum::<u64>();
        let stand = Stand {
            account: 0,
            limit: place.1,
            queued,
            stay: u64::try_from(STAY.as_micros()).unwrap_or(u64::MAX),
            turn: micros(turn),
            after: line.amounts.keys().nth(1).copied().unwrap_or(0),
            after_queued: queued - amount,
        };
        if !lines.begin(order) {
            return Some(Question::Busy);
        }
        let waiter = lines.waiters.get(&order)?;
        let errand = waiter.errand.clone();
        Some(Question::Ask(Next {
            order,
            until: waiter.until,
            errand,
            stand,
        }))
    }

    /// Whether a caller may be asked for: nobody else does.
    fn begin(&self, order: u64) -> bool {
        self.lines.lock().begin(order)
    }

    /// The question for a caller is answered.
    fn asked(&self, order: u64) {
        let mut lines = self.lines.lock();
        let Some(asking) = lines.asking.remove(&order) else {
            return;
        };
        if asking.left {
            self.unsure.fetch_sub(1, Ordering::SeqCst);
        }
        if let (true, Some(waiter)) = (asking.wanted, lines.waiters.get(&order)) {
            let lines = waiter.stands.iter().filter_map(|at| lines.by_place.get(at));
            lines.for_each(|line| line.bell.notify_one());
        }
    }

    /// A line is entered in the store: its callers are known to stand in it.
    fn entered(&self, place: &Place) {
        let mut lines = self.lines.lock();
        let lines = &mut *lines;
        let Some(line) = lines.by_place.get_mut(place) else {
            return;
        };
        line.entered = true;
        for order in line.amounts.keys() {
            if let Some(waiter) = lines.waiters.get_mut(order)
                && !std::mem::replace(&mut waiter.counted, true)
            {
                self.standing.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Where the first of a line waits on, which `there` blocks for so long.
    fn ways(&self, order: u64, (here, there): (&Place, &Place), cost: Duration) -> Ways {
        let lines = self.lines.lock();
        let Some(waiter) = lines.waiters.get(&order) else {
            return Ways::Stay(None);
        };
        let may_keep =
            waiter.moves > MOVES && cost.saturating_mul(PATIENCE) <= waiter.since.elapsed();
        if may_keep {
            let is_new = !waiter.stands.contains(there);
            return Ways::Stay(is_new.then(|| there.clone()));
        }
        match there == here && waiter.stands.len() == 1 {
            true => Ways::Stay(None),
            false => Ways::Move,
        }
    }

    /// Those of a line who wait for rates only.
    fn for_rates(&self, place: &Place) -> Vec<(u64, Arc<Errand>)> {
        let lines = self.lines.lock();
        let all = lines.of(place);
        let some = all.filter(|(_, waiter)| waiter.errand.waits_for == WaitsFor::Rates);
        some.map(|(order, waiter)| (order, waiter.errand.clone()))
            .collect()
    }

    /// Those of a line whose patience has ended.
    fn impatient(&self, place: &Place) -> Vec<(u64, Arc<Errand>)> {
        let lines = self.lines.lock();
        let now = Instant::now();
        let over = lines.of(place).filter(|(_, waiter)| waiter.until <= now);
        over.map(|(order, waiter)| (order, waiter.errand.clone()))
            .collect()
    }

    /// How long the patience of the next of a line lasts, if any does end. Whoever is being asked for is answered by that.
    fn patience(&self, place: &Place) -> Option<Duration> {
        let lines = self.lines.lock();
        let idle = |(order, _): &(u64, &Waiter)| !lines.asking.contains_key(order);
        let next = lines.of(place).filter(idle).map(|(_, waiter)| waiter.until);
        let next = next.min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn bell(&self, place: &Place) -> Option<Arc<Notify>> {
        let lines = self.lines.lock();
        lines.by_place.get(place).map(|line| line.bell.clone())
    }

    /// Those who wait under an idempotency key.
    fn namesakes(&self, name: [u8; 16]) -> Vec<(u64, Arc<Errand>)> {
        let lines = self.lines.lock();
        let waiters = lines.waiters.iter();
        let named = waiters.filter(|(_, waiter)| waiter.errand.ask.name == Some(name));
        named
            .map(|(order, waiter)| (*order, waiter.errand.clone()))
            .collect()
    }

    /// Everybody, by arrival; the lines are empty then, and their keepers go.
    fn everybody(&self) -> Vec<(u64, Waiter)> {
        let mut lines = self.lines.lock();
        let mut all = std::mem::take(&mut lines.waiters);
        for (order, waiter) in &mut all {
            lines.unline(*order, waiter);
        }
        all.into_iter().collect()
    }

    /// The order of one who comes now.
    fn arrive(&self, now: Time) -> Result<u64, FullError> {
        let most = self.most.load(Ordering::SeqCst);
        let mut lines = self.lines.lock();
        let waiting = lines.waiters.len();
        if most > 0 && waiting >= most {
            return Err(FullError::Waiters(waiting));
        }
        lines.last_order = micros(now).max(lines.last_order + 1);
        Ok(lines.last_order)
    }
}

impl Lines {
    /// Takes a caller out of its lines; they are asked again.
    fn unline(&mut self, order: u64, waiter: &mut Waiter) {
        for place in std::mem::take(&mut waiter.stands) {
            if let Some(line) = self.by_place.get_mut(&place) {
                line.amounts.remove(&order);
                line.bell.notify_one();
            }
        }
    }

    fn begin(&mut self, order: u64) -> bool {
        if let Some(asking) = self.asking.get_mut(&order) {
            asking.wanted = true;
            return false;
        }
        // Who was admitted or has left since it was looked for is not asked for once more: that would be taken back.
        if !self.waiters.contains_key(&order) {
            return false;
        }
        self.asking.insert(order, Asking::default());
        true
    }

    /// Who stands in a line.
    fn of(&self, place: &Place) -> impl Iterator<Item = (u64, &Waiter)> {
        let line = self.by_place.get(place);
        let orders = line.into_iter().flat_map(|line| line.amounts.keys());
        orders.filter_map(|order| Some((*order, self.waiters.get(order)?)))
    }
}

#[cfg(test)]
mod tests;
