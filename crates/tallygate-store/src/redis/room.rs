//! The waiting room: the callers of this process that wait, by the counter they wait for.
//!
//! A line's first caller is entered in the store with its arrival, and those of all processes are served there in
//! that order; the others wait here. Each line has a keeper, a task that asks for the first caller: at the exact instant its
//! counter has room, when the store or a settlement of this process says that something has changed, and every [`BEAT`], so
//! that its place is kept and a message that was lost costs no more than that.
//!
//! The next are asked for in the same breath, in their order: twice as many each time while all of them are admitted
//! ([`Run`]). The script asks for each only if it has become the head of this process, and behind every older head of
//! another one, so that the order is that of asking one by one.
//!
//! A caller stands in the line of the counter that will have room last. One that needs two contended counters could move
//! between their lines for ever, each giving its room away while it stands in the other's. Once it has moved [`MOVES`] times
//! it therefore keeps its place while it stands in the next line too, if that makes the others wait no longer than a
//! [`PATIENCE`]th of what it has waited itself.
mod keeper;
mod patience;
mod rehoming;
mod run;

use super::names::Account;
use super::script::Stand;
use super::sheet::micros;
use super::store::Errand;
use crate::mailbox::Sender;
use crate::store::StoreError;
use parking_lot::Mutex;
use run::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tallygate_core::{Decision, FullError, MAX_AMOUNT, Time, WaitsFor};
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
    /// What all of them want.
    queued: u128,
    /// Everybody, by when their patience ends.
    ends: BTreeSet<(Instant, u64)>,
    bell: Arc<Notify>,
    /// Whether the place is entered in the store.
    entered: bool,
    run: Run,
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
    /// For these, the first of the line and those behind it.
    Ask(Vec<Next>),
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
        line.put((order, waiter.until), amount);
        line.bell.notify_one();
        is_new
    }

    /// Takes a caller out, wherever it stands.
    fn take(&self, order: u64) -> Option<Waiter> {
        self.lines.lock().take(order, &self.standing)
    }

    /// Takes a caller out that leaves by itself; answers what it asked for, unless it is just being asked for.
    fn abandon(&self, order: u64) -> Option<Arc<Errand>> {
        let mut lines = self.lines.lock();
        let waiter = lines.take(order, &self.standing)?;
        let Some(asking) = lines.asking.get_mut(&order) else {
            return Some(waiter.errand);
        };
        asking.left = true;
        self.unsure.fetch_add(1, Ordering::SeqCst);
        None
    }

    /// Takes a caller out of its lines, to put it into another; whether it still waits.
    fn lift(&self, order: u64) -> bool {
        let mut lines = self.lines.lock();
        let waiter = lines.take(order, &self.standing);
        let still_waits = waiter.is_some();
        lines.waiters.extend(waiter.map(|waiter| (order, waiter)));
        still_waits
    }

    /// The first of a line, to be asked for, and those behind it who may be asked for with it; an empty line is closed.
    fn next(&self, place: &Place, turn: Time) -> Option<Question> {
        let mut lines = self.lines.lock();
        let stands = match lines.by_place.get(place)?.stands(place.1, turn) {
            stands if stands.is_empty() => {
                lines.by_place.remove(place);
                return None;
            }
            stands => stands,
        };
        let mut run = Vec::with_capacity(stands.len());
        for (order, stand) in stands {
            let next = lines.next(order, stand)?;
            let goes_alone = !next.errand.is_one_step();
            if (goes_alone && !run.is_empty()) || !lines.begin(order) {
                break;
            }
            run.push(next);
            if goes_alone {
                break;
            }
        }
        Some(match run.is_empty() {
            true => Question::Busy,
            false => Question::Ask(run),
        })
    }

    /// So many of those who were asked for together were admitted.
    fn served(&self, place: &Place, admitted: usize, asked: usize) {
        if let Some(line) = self.lines.lock().by_place.get_mut(place) {
            line.run.went(admitted, asked);
        }
    }

    /// Whether a caller still asks what was asked for it.
    fn still_asks(&self, next: &Next) -> bool {
        let lines = self.lines.lock();
        let waiter = lines.waiters.get(&next.order);
        waiter.is_none_or(|waiter| Arc::ptr_eq(&waiter.errand, &next.errand))
    }

    /// Whether a caller may be asked for: nobody else does.
    fn begin(&self, order: u64) -> bool {
        self.lines.lock().begin(order)
    }

    /// The question for a caller is answered; whether it has left since.
    fn asked(&self, order: u64) -> bool {
        let mut lines = self.lines.lock();
        let Some(asking) = lines.asking.remove(&order) else {
            return false;
        };
        if asking.left {
            self.unsure.fetch_sub(1, Ordering::SeqCst);
        }
        if let (true, Some(waiter)) = (asking.wanted, lines.waiters.get(&order)) {
            let lines = waiter.stands.iter().filter_map(|at| lines.by_place.get(at));
            lines.for_each(|line| line.bell.notify_one());
        }
        asking.left
    }

    /// A line is entered in the store: its callers are known to stand in it.
    fn entered(&self, place: &Place) {
        let mut lines = self.lines.lock();
        let lines = &mut *lines;
        let Some(line) = lines.by_place.get_mut(place) else {
            return;
        };
        if std::mem::replace(&mut line.entered, true) {
            return;
        }
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
        let Some(line) = lines.by_place.get(place) else {
            return Vec::new();
        };
        let over = line.ends.range(..=(Instant::now(), u64::MAX));
        let waiter = |order: &u64| Some((*order, lines.waiters.get(order)?.errand.clone()));
        over.filter_map(|(_, order)| waiter(order)).collect()
    }

    /// How long the patience of the next of a line lasts, if any does end. Whoever is being asked for is answered by that.
    fn patience(&self, place: &Place) -> Option<Duration> {
        let lines = self.lines.lock();
        let mut ends = lines.by_place.get(place)?.ends.iter();
        let next = ends.find(|(_, order)| !lines.asking.contains_key(order))?;
        Some(next.0.saturating_duration_since(Instant::now()))
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

    /// Everybody whose order is among these, by arrival, and where they stand; last where they came last.
    fn among(&self, orders: impl RangeBounds<u64>) -> Vec<(u64, Arc<Errand>, Vec<Place>)> {
        let lines = self.lines.lock();
        let all = lines.waiters.range(orders);
        all.map(|(order, waiter)| (*order, waiter.errand.clone(), waiter.stands.clone()))
            .collect()
    }

    /// Has a caller ask something else from now on; answers whether it still stands nowhere but `home`, where it keeps its place.
    fn renew(&self, order: u64, errand: &Arc<Errand>, home: &Place) -> bool {
        let mut lines = self.lines.lock();
        let lines = &mut *lines;
        let Some(waiter) = lines.waiters.get_mut(&order) else {
            return true;
        };
        waiter.errand = errand.clone();
        let line = lines.by_place.get_mut(home);
        let line = line.filter(|_| waiter.stands == std::slice::from_ref(home));
        line.is_some_and(|line| {
            line.put((order, waiter.until), errand.amount_at(home));
            line.bell.notify_one();
            true
        })
    }

    /// Takes a caller out who is to be asked for outside of all lines.
    fn expel(&self, order: u64) -> Option<Waiter> {
        let mut lines = self.lines.lock();
        let mut waiter = lines.waiters.remove(&order)?;
        lines.unline(order, &mut waiter);
        Some(waiter)
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

impl Line {
    fn put(&mut self, (order, until): (u64, Instant), amount: u64) {
        self.remove((order, until));
        self.amounts.insert(order, amount);
        self.queued += u128::from(amount);
        self.ends.insert((until, order));
    }

    fn remove(&mut self, (order, until): (u64, Instant)) {
        if let Some(amount) = self.amounts.remove(&order) {
            self.queued -= u128::from(amount);
            self.ends.remove(&(until, order));
        }
    }

    /// Those who may be asked for together, the first first, and what the script is to know of their places.
    fn stands(&self, limit: usize, turn: Time) -> Vec<(u64, Stand)> {
        let told = |queued: u128| u64::try_from(queued).map_or(MAX_AMOUNT, |it| it.min(MAX_AMOUNT));
        let mut queued = self.queued;
        let mut after = self.amounts.keys().skip(1).copied();
        let some = self.amounts.iter().take(self.run.length()).enumerate();
        let stands = some.map(|(at, (order, amount))| {
            let stand = Stand {
                account: 0,
                limit,
                queued: told(queued),
                stay: u64::try_from(STAY.as_micros()).unwrap_or(u64::MAX),
                turn: if at == 0 { micros(turn) } else { 0 },
                after: after.next().unwrap_or(0),
                after_queued: told(queued - u128::from(*amount)),
                follows: at > 0,
            };
            queued -= u128::from(*amount);
            (*order, stand)
        });
        stands.collect()
    }
}

impl Lines {
    fn next(&self, order: u64, stand: Stand) -> Option<Next> {
        let waiter = self.waiters.get(&order)?;
        Some(Next {
            order,
            until: waiter.until,
            errand: waiter.errand.clone(),
            stand,
        })
    }

    fn take(&mut self, order: u64, standing: &AtomicUsize) -> Option<Waiter> {
        let mut waiter = self.waiters.remove(&order)?;
        self.unline(order, &mut waiter);
        if std::mem::take(&mut waiter.counted) {
            standing.fetch_sub(1, Ordering::SeqCst);
        }
        Some(waiter)
    }

    /// Takes a caller out of its lines; they are asked again.
    fn unline(&mut self, order: u64, waiter: &mut Waiter) {
        for place in std::mem::take(&mut waiter.stands) {
            if let Some(line) = self.by_place.get_mut(&place) {
                line.remove((order, waiter.until));
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
