//! The clerk: a thread that writes the journal, many lines at a time.
use super::State;
use super::disk::Disk;
use super::journal::{self, HEADER};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The shortest time between two flushes of the disk: what comes in between shares the next.
const GROUP: Duration = Duration::from_millis(50);

/// How often a disk that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The size past which a journal that is mostly dead is written anew.
const LARGE: u64 = 1 << 20;

/// Lines to be written.
pub(super) struct Order {
    pub(super) bytes: Vec<u8>,
    /// Told when they are on disk; dropped when they cannot be.
    pub(super) told: Option<oneshot::Sender<()>>,
}

/// The way to a clerk. It ends with this, once all is written.
pub(super) struct Orders {
    sender: Sender<Order>,
    trouble: Arc<Mutex<Option<String>>>,
}

/// What the clerk works with.
pub(super) struct Clerk {
    disk: Box<dyn Disk>,
    state: Arc<Mutex<State>>,
    /// How much of the journal is good; none while it must be written anew.
    length: Option<u64>,
    /// When that failed last.
    failed: Option<Instant>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Orders {
    pub(super) fn send(&self, order: Order) {
        // Refused only when the clerk's thread is gone; the entry is in memory all the same.
        let _ = self.sender.send(order);
    }

    /// Why nothing can be written just now.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

impl Clerk {
    /// Starts on a journal of which `length` is good; none: it is written anew first.
    pub(super) fn start(
        disk: Box<dyn Disk>,
        state: Arc<Mutex<State>>,
        length: Option<u64>,
    ) -> Orders {
        let (sender, orders) = mpsc::channel();
        let trouble = Arc::new(Mutex::new(None));
        let mut clerk = Self {
            disk,
            state,
            length,
            failed: None,
            trouble: trouble.clone(),
        };
        if length.is_none() {
            clerk.renew();
        }
        let started = std::thread::Builder::new()
            .name("tallygate-journal".to_owned())
            .spawn(move || clerk.run(&orders));
        if let Err(error) = started {
            *trouble.lock() = Some(error.to_string());
        }
        Orders { sender, trouble }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        let mut due = Instant::now();
        loop {
            let first = match self.length {
                Some(_) => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                None => orders.recv_timeout(RETRY),
            };
            let mut batch = match first {
                Ok(order) => vec![order],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            gather(orders, due, &mut batch);
            self.commit(batch);
            due = Instant::now() + GROUP;
        }
    }

    /// Writes what was ordered, and tells those who wait for it.
    fn commit(&mut self, batch: Vec<Order>) {
        match self.length {
            Some(length) => {
                if let Err(error) = self.write(&batch, length) {
                    self.fail(&error, Some(length));
                    self.renew();
                }
            }
            // All that stands in the queue is written then, and so is this.
            None => self.renew(),
        }
        if self.length.is_some() {
            let waiting = batch.into_iter().filter_map(|order| order.told);
            // Whoever has left is not told.
            for told in waiting {
                let _ = told.send(());
            }
        }
    }

    fn write(&mut self, batch: &[Order], length: u64) -> io::Result<()> {
        let bytes = batch.iter().map(|order| order.bytes.as_slice());
        let bytes: Vec<u8> = bytes.collect::<Vec<_>>().concat();
        self.disk.append(&bytes)?;
        if batch.iter().any(|order| order.told.is_some()) {
            self.disk.sync()?;
        }
        let length = length + bytes.len() as u64;
        self.length = Some(length);
        self.compact(length)
    }

    /// Throws out what was delivered, when that is all or most of it.
    fn compact(&mut self, length: u64) -> io::Result<()> {
        let state = self.state.lock();
        let empty = HEADER.len() as u64;
        if state.by_place.is_empty() && length > empty {
            drop(state);
            // What came since is ordered after this.
            self.disk.truncate(empty)?;
            self.length = Some(empty);
            return Ok(());
        }
        if length < LARGE {
            return Ok(());
        }
        let whole = journal::whole(state.entries(), &state.metrics);
        drop(state);
        if whole.len() as u64 * 4 < length {
            self.disk.replace(&whole)?;
            self.length = Some(whole.len() as u64);
        }
        Ok(())
    }

    /// Writes the whole queue anew, unless that failed just now.
    fn renew(&mut self) {
        if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
            return;
        }
        let state = self.state.lock();
        let whole = journal::whole(state.entries(), &state.metrics);
        drop(state);
        match self.disk.replace(&whole) {
            Ok(()) => {
                self.length = Some(whole.len() as u64);
                *self.trouble.lock() = None;
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                self.fail(&error, None);
            }
        }
    }

    fn fail(&mut self, error: &io::Error, good: Option<u64>) {
        if let Some(length) = good {
            // A line that was half written must not stand in the way of those that are read back.
            let _ = self.disk.truncate(length);
        }
        self.length = None;
        *self.trouble.lock() = Some(error.to_string());
    }
}

/// Takes what else is ordered until `due`.
fn gather(orders: &Receiver<Order>, due: Instant, batch: &mut Vec<Order>) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let next = match left.is_zero() {
            true => orders.try_recv().ok(),
            false => orders.recv_timeout(left).ok(),
        };
        match next {
            Some(order) => batch.push(order),
            None => return,
        }
    }
}
