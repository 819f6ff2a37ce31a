//! The archive: the thread that makes a state of the last one and of full segments, so that a start is quick and the folder
//! stays small. It reads files and has a ledger of its own; decisions do not wait for it.
use super::Site;
use super::format;
use super::recovery::{self, End};
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The way to the thread; it ends with this.
#[derive(Debug)]
pub(super) struct Archive(Sender<News>);

/// What the clerk tells.
#[derive(Debug)]
enum News {
    /// Another segment is full.
    Full(Full),
    /// The clerk wrote a state itself, of this number and length.
    Replaced(u64, u64),
}

/// A journal up to its last full segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Full {
    /// The number of the segment after it.
    pub(super) next: u64,
    /// How many bytes of it count.
    pub(super) length: u64,
}

/// How many segments there may be, however short: every start begins one.
const SEGMENTS: u64 = 64;

impl Archive {
    /// Starts on a folder that was just read.
    ///
    /// # Errors
    /// When the machine can start no thread.
    pub(super) fn start(site: Site, end: End) -> io::Result<Self> {
        let (sender, news) = channel();
        let keeper = Keeper { site, end };
        let thread = thread::Builder::new().name("tallygate-archive".to_owned());
        thread.spawn(move || keeper.run(&news))?;
        Ok(Self(sender))
    }

    /// A segment is full.
    pub(super) fn take(&self, full: Full) {
        self.tell(News::Full(full));
    }

    /// A state was written that makes all before it needless.
    pub(super) fn replace(&self, number: u64, length: u64) {
        self.tell(News::Replaced(number, length));
    }

    fn tell(&self, news: News) {
        // Refused only if its thread is gone; the journal is longer than it need be then.
        let _ = self.0.send(news);
    }
}

struct Keeper {
    site: Site,
    end: End,
}

impl Keeper {
    fn run(mut self, news: &Receiver<News>) {
        self.remove_old();
        loop {
            if self.is_long() {
                let made = self.make();
                *self.site.unarchived.lock() = made.err();
            }
            let Ok(first) = news.recv() else { return };
            self.note(&first);
            news.try_iter().for_each(|more| self.note(&more));
        }
    }

    fn note(&mut self, news: &News) {
        match *news {
            News::Full(Full { next, length }) => {
                self.end.next = next;
                self.end.prior = length;
                self.end.since += length;
            }
            News::Replaced(number, length) => self.renew(number, length),
        }
    }

    fn renew(&mut self, number: u64, length: u64) {
        self.end = End {
            next: number,
            prior: 0,
            state: number,
            state_length: length,
            since: 0,
        };
        self.remove_old();
    }

    /// Whether reading the segments takes longer than reading the state.
    fn is_long(&self) -> bool {
        let End { next, state, .. } = self.end;
        self.end.since >= self.site.segment.max(self.end.state_length) || next - state >= SEGMENTS
    }

    fn make(&mut self) -> Result<(), String> {
        let ledger = recovery::condense(&self.site, self.end);
        let ledger = ledger.map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        ledger.save(&mut bytes);
        let number = self.end.next;
        let written = self.site.write_state(number, &bytes);
        let length = written.map_err(|error| error.to_string())?;
        self.renew(number, length);
        Ok(())
    }

    /// Removes what a state has made needless. What cannot be removed now will be at a later time.
    fn remove_old(&self) {
        let files = self.site.folder.files();
        for name in files.list().unwrap_or_default() {
            let number = format::state_number(&name).or_else(|| format::segment_number(&name));
            if number.is_some_and(|number| number < self.end.state) {
                let _ = files.remove(&name);
            }
        }
    }
}
