//! The clerk: the thread that writes the journal, all that came meanwhile at a time.
use super::archive::{Archive, Full};
use super::format::{self, HEADER, Spot};
use super::recovery::End;
use super::{Batch, Log, Site};
use crate::folder::Append;
use crate::memory::{Books, Shared};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tallygate_core::Ledger;

/// The shortest time from one write of a relaxed store to the next: a disk that syncs within what is left of the time for which
/// answers come at once makes nobody wait.
const GROUP: Duration = Duration::from_millis(50);

/// What the thread works with.
#[derive(Debug)]
pub(in crate::memory) struct Clerk {
    site: Site,
    archive: Archive,
    /// The number of the segment that will be begun next.
    next: u64,
    /// How many bytes of the one before it count.
    prior: u64,
    /// The one that is written; none after an error.
    segment: Option<Segment>,
    /// When a write began last.
    last: Option<Instant>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: Box<dyn Append>,
    /// How long it is; all of it is synced between two batches.
    length: u64,
}

impl Clerk {
    /// Puts a ledger into a folder: what an earlier process left is made safe, or a first state written, and a segment begun.
    ///
    /// # Errors
    /// When the disk fails.
    pub(in crate::memory) fn new(
        site: &Site,
        ledger: &Ledger,
        found: Option<End>,
    ) -> io::Result<Self> {
        let end = match found {
            Some(end) => settled(site, end)?,
            None => first(site, ledger)?,
        };
        let mut clerk = Self {
            site: site.clone(),
            archive: Archive::start(site.clone(), end)?,
            next: end.next,
            prior: end.prior,
            segment: None,
            last: None,
        };
        clerk.begin()?;
        Ok(clerk)
    }

    /// Works on a thread of its own until the log is closed.
    ///
    /// # Errors
    /// When the machine can start no thread.
    pub(in crate::memory) fn start(mut self, shared: &Arc<Shared>) -> io::Result<()> {
        let shared = shared.clone();
        let work = move || {
            shared.with_log(|log| log.clerk = Some(thread::current()));
            while self.turn(&shared) {}
        };
        let thread = thread::Builder::new().name("tallygate-journal".to_owned());
        thread.spawn(work).map(drop)
    }

    /// Writes what there is once there is something; whether there will be more.
    fn turn(&mut self, shared: &Shared) -> bool {
        let batch = self.fetch(shared);
        let is_last = batch.is_last;
        match self.write(&batch, shared) {
            Ok(()) => shared.with_log(Log::succeed).tell(),
            Err(error) => {
                shared.with_log(|log| log.fail(batch, &error)).tell();
                self.rest(shared);
            }
        }
        !is_last
    }

    /// Waits for a batch.
    fn fetch(&mut self, shared: &Shared) -> Batch {
        loop {
            match shared.with_books(|books| self.next(books)) {
                Ok(batch) => return batch,
                Err(Some(wait)) => thread::park_timeout(wait),
                Err(None) => thread::park(),
            }
        }
    }

    /// A batch, or how long to wait for it unless called.
    fn next(&self, books: &mut Books) -> Result<Batch, Option<Duration>> {
        let (ledger, log) = books.with_log();
        if !log.is_called && log.down.is_none() {
            return Err(None);
        }
        let left = self.last.map(|last| GROUP.saturating_sub(last.elapsed()));
        match left.filter(|left| !left.is_zero() && !log.is_urgent()) {
            Some(left) => Err(Some(left)),
            None => Ok(log.batch(ledger)),
        }
    }

    /// Lets a disk that failed be for a while, unless the store is closed meanwhile.
    fn rest(&self, shared: &Shared) {
        let until = Instant::now() + self.site.retry;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || shared.with_log(|log| log.is_closed) {
                return;
            }
            thread::park_timeout(left);
        }
    }

    fn write(&mut self, batch: &Batch, shared: &Shared) -> io::Result<()> {
        if batch.is_overfull {
            return self.write_all(shared);
        }
        if self.segment.is_none() {
            self.begin()?;
        }
        if !batch.records.is_empty() {
            self.append(&batch.records)?;
        }
        Ok(())
    }

    /// Writes a frame and syncs it. After an error what stands behind what was synced is not to be trusted any more: the
    /// next segment will say so.
    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let Some(segment) = &mut self.segment else {
            return Ok(());
        };
        self.last = Some(Instant::now());
        let appended = segment.append(records);
        let is_full = segment.length >= self.site.segment;
        if appended.is_err() || is_full {
            self.leave();
        }
        appended
    }

    /// Begins the next segment.
    fn begin(&mut self) -> io::Result<()> {
        let header = format::header(self.next, self.prior);
        let name = format::segment_name(self.next);
        let files = self.site.folder.files();
        files.replace(&name, &header)?;
        self.segment = Some(Segment {
            number: self.next,
            file: files.open_append(&name)?,
            length: HEADER,
        });
        Ok(())
    }

    /// Leaves the segment that is written. One of which nothing was synced will be written over.
    fn leave(&mut self) {
        let Some(segment) = self.segment.take().filter(|one| one.length > HEADER) else {
            return;
        };
        self.next = segment.number + 1;
        self.prior = segment.length;
        self.archive.take(Full {
            next: self.next,
            length: self.prior,
        });
    }

    /// Writes the whole ledger, since records of it were dropped. Decisions stand still while it is copied.
    fn write_all(&mut self, shared: &Shared) -> io::Result<()> {
        self.leave();
        // A segment of the same number may have been begun and hold what is in the ledger already.
        let number = self.next + 1;
        let mut bytes = Vec::new();
        shared.with_books(|books| {
            let (ledger, log) = books.with_log();
            log.drop_records(ledger);
            log.is_overfull = false;
            ledger.save(&mut bytes);
        });
        let length = self.site.write_state(number, &bytes)?;
        (self.next, self.prior) = (number, 0);
        self.archive.replace(number, length);
        self.begin()
    }
}

/// What was read is on disk only if the process before was killed after syncing it; what follows will rest on it.
fn settled(site: &Site, end: End) -> io::Result<End> {
    if end.next > end.state {
        let name = format::segment_name(end.next - 1);
        site.folder.files().open_append(&name)?.sync()?;
    }
    Ok(end)
}

/// The first state of a folder.
fn first(site: &Site, ledger: &Ledger) -> io::Result<End> {
    let mut bytes = Vec::new();
    ledger.save(&mut bytes);
    Ok(End {
        next: 1,
        prior: 0,
        state: 1,
        state_length: site.write_state(1, &bytes)?,
        since: 0,
    })
}

impl Segment {
    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let spot = Spot {
            segment: self.number,
            at: self.length,
        };
        let frame = format::frame(spot, self.length, records);
        self.file.write(&frame)?;
        self.file.sync()?;
        self.length += frame.len() as u64;
        Ok(())
    }
}

impl Shared {
    /// Works with the books as they are: no time passes for the ledger.
    fn with_books<T>(&self, work: impl FnOnce(&mut Books) -> T) -> T {
        work(&mut self.books.lock())
    }

    fn with_log<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        self.with_books(|books| work(books.with_log().1))
    }
}

impl Books {
    fn with_log(&mut self) -> (&mut Ledger, &mut Log) {
        let log = self.log.as_mut();
        let log = log.expect("invariant: a clerk is started for books that have a log only");
        (&mut self.ledger, log)
    }
}
