//! What could not be delivered: ends of reservations, kept until the store is back.
//!
//! The queue is bounded, and has one entry for a reservation and place: the first that came stands. With a folder it is
//! written to a journal there as well, and read back at the next start. An entry may be delivered more than once; the
//! reservation's record sees to it that it takes effect once.
mod clerk;
mod disk;
mod entry;
mod journal;
#[cfg(test)]
mod tests;

use self::clerk::{Clerk, Order, Orders};
pub(crate) use self::disk::FolderError;
use self::disk::{Disk, Folder};
pub(crate) use self::entry::{Entry, Place, Task};
use self::journal::Frame;
use super::metrics::MetricNames;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How many entries are kept unless it is said otherwise.
pub(crate) const MOST: usize = 100_000;

/// The part of the queue that withdrawals may fill: without them no more is lost than time.
const WITHDRAWALS: usize = 10;

/// The queue.
pub(crate) struct Spool {
    state: Arc<Mutex<State>>,
    /// How many entries there are, so that who looks for one need not look when there is none.
    count: AtomicUsize,
    most: usize,
    journal: Option<Orders>,
    /// Rung when there is something to deliver.
    bell: Arc<Notify>,
}

/// What is in the queue.
#[derive(Default)]
struct State {
    by_place: HashMap<Place, Slot>,
    order: BTreeMap<u64, Place>,
    last: u64,
    withdrawals: usize,
    lost: u64,
    /// What the metrics are called on disk.
    metrics: MetricNames,
}

struct Slot {
    number: u64,
    entry: Entry,
    since: Instant,
}

/// An entry was taken in, or stood there already.
pub(crate) struct Kept {
    pub(crate) entry: Entry,
    /// Answers once it is on disk; nothing when it is not going there, and an error when it cannot.
    saved: Option<oneshot::Receiver<()>>,
}

impl Spool {
    /// A queue that ends with the process.
    pub(crate) fn in_memory(most: usize, bell: Arc<Notify>) -> Self {
        Self {
            state: Arc::default(),
            count: AtomicUsize::new(0),
            most,
            journal: None,
            bell,
        }
    }

    /// The queue of a folder, with what was left there. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process uses it.
    pub(crate) fn open(
        folder: &Path,
        metrics: MetricNames,
        (most, bell): (usize, Arc<Notify>),
    ) -> Result<Self, FolderError> {
        let (disk, found) = Folder::open(folder)?;
        let found = journal::read(&found, &metrics).ok_or_else(|| FolderError::strange(folder))?;
        Ok(Self::over(Box::new(disk), (found, metrics), (most, bell)))
    }

    fn over(
        disk: Box<dyn Disk>,
        (found, metrics): (journal::Found, MetricNames),
        (most, bell): (usize, Arc<Notify>),
    ) -> Self {
        let mut state = State {
            lost: found.lost,
            metrics,
            ..State::default()
        };
        for entry in found.entries {
            state.push(entry, most);
        }
        let count = state.by_place.len();
        let state = Arc::new(Mutex::new(state));
        if count > 0 {
            bell.notify_one();
        }
        Self {
            journal: Some(Clerk::start(disk, state.clone(), found.length)),
            state,
            count: AtomicUsize::new(count),
            most,
            bell,
        }
    }

    /// What the metrics are called from now on: as before, and some more.
    pub(crate) fn name_metrics(&self, metrics: MetricNames) {
        self.state.lock().metrics = metrics;
    }

    /// Takes an entry in, unless one stands there for the same reservation; the oldest goes when there is no room.
    pub(crate) fn keep(&self, entry: Entry) -> Kept {
        let mut state = self.state.lock();
        if let Some(slot) = state.by_place.get(&entry.place()) {
            return Kept {
                entry: slot.entry,
                saved: None,
            };
        }
        if let Some(dropped) = state.push(entry, self.most) {
            self.write(&Frame::Done(dropped), &state.metrics);
        }
        self.count.store(state.by_place.len(), Ordering::Release);
        let saved = self.write(&Frame::Kept(entry), &state.metrics);
        drop(state);
        self.bell.notify_one();
        Kept { entry, saved }
    }

    /// Takes in what is to be withdrawn, if there is room for more of that kind.
    pub(crate) fn keep_withdrawal(&self, place: Place) {
        let mut state = self.state.lock();
        if state.withdrawals >= self.most / WITHDRAWALS || state.by_place.contains_key(&place) {
            return;
        }
        let entry = Entry::new(place, Task::Withdraw);
        if let Some(dropped) = state.push(entry, self.most) {
            self.write(&Frame::Done(dropped), &state.metrics);
        }
        self.count.store(state.by_place.len(), Ordering::Release);
        drop(state);
        self.bell.notify_one();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// What is kept of a reservation.
    pub(crate) fn find(&self, place: &Place) -> Option<Entry> {
        if self.is_empty() {
            return None;
        }
        let state = self.state.lock();
        state.by_place.get(place).map(|slot| slot.entry)
    }

    /// The oldest entries after number `after`, each with its number and age.
    pub(crate) fn oldest(&self, after: u64, most: usize) -> Vec<(u64, Entry, Instant)> {
        let state = self.state.lock();
        let later = state.order.range(after + 1..).take(most);
        later
            .filter_map(|(number, place)| {
                let slot = state.by_place.get(place)?;
                Some((*number, slot.entry, slot.since))
            })
            .collect()
    }

    /// An entry was delivered; answers whether it was still there.
    pub(crate) fn done(&self, place: &Place) -> bool {
        let mut state = self.state.lock();
        let Some(entry) = state.remove(place) else {
            return false;
        };
        self.count.store(state.by_place.len(), Ordering::Release);
        if entry.task != Task::Withdraw {
            self.write(&Frame::Done(*place), &state.metrics);
        }
        true
    }

    /// Gives an entry up.
    pub(crate) fn lose(&self, place: &Place) {
        if self.done(place) {
            self.state.lock().lost += 1;
        }
    }

    /// How many were dropped, unread or given up since it was opened.
    pub(crate) fn lost(&self) -> u64 {
        self.state.lock().lost
    }

    /// Why entries are not on disk just now, though they should be.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.journal.as_ref().and_then(Orders::trouble)
    }

    /// Tells the clerk, while the queue is locked: the journal has things in the order in which they came about.
    fn write(&self, frame: &Frame, metrics: &MetricNames) -> Option<oneshot::Receiver<()>> {
        let journal = self.journal.as_ref()?;
        let (told, saved) = oneshot::channel();
        let is_awaited = matches!(frame, Frame::Kept(_));
        journal.send(Order {
            bytes: frame.write(metrics),
            told: is_awaited.then_some(told),
        });
        is_awaited.then_some(saved)
    }
}

impl Kept {
    /// Waits until the entry is as safe as it gets.
    pub(crate) async fn saved(self) {
        if let Some(saved) = self.saved {
            // An error is the clerk's to tell: the entry is kept in memory then.
            let _ = saved.await;
        }
    }
}

impl State {
    /// Puts an entry last; answers what had to go for it.
    fn push(&mut self, entry: Entry, most: usize) -> Option<Place> {
        let dropped = (self.by_place.len() >= most.max(1)).then(|| self.drop_oldest());
        self.last += 1;
        self.order.insert(self.last, entry.place());
        self.withdrawals += usize::from(entry.task == Task::Withdraw);
        self.by_place.insert(
            entry.place(),
            Slot {
                number: self.last,
                entry,
                since: Instant::now(),
            },
        );
        dropped.flatten()
    }

    fn drop_oldest(&mut self) -> Option<Place> {
        let place = *self.order.first_key_value()?.1;
        let entry = self.remove(&place)?;
        if entry.task == Task::Withdraw {
            return None;
        }
        self.lost += 1;
        Some(place)
    }

    fn remove(&mut self, place: &Place) -> Option<Entry> {
        let slot = self.by_place.remove(place)?;
        self.order.remove(&slot.number);
        self.withdrawals -= usize::from(slot.entry.task == Task::Withdraw);
        Some(slot.entry)
    }

    /// All that belongs on disk, in its order.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.order.values();
        let entries = entries.filter_map(|place| self.by_place.get(place));
        entries
            .map(|slot| &slot.entry)
            .filter(|entry| entry.task != Task::Withdraw)
    }
}
