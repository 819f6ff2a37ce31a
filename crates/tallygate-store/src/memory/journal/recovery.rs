//! Reading the counters of a folder: the last state, and the segments since.
use super::format::{self, HEADER, Spot};
use super::{OpenError, Site};
use crate::folder::DataFolder;
use std::collections::BTreeMap;
use std::io;
use tallygate_core::{Bounds, JournalError, Ledger};

/// What was found, and where to go on.
pub(in crate::memory) struct Found {
    pub(in crate::memory) ledger: Ledger,
    pub(in crate::memory) end: End,
}

/// The end of a journal: what the next segment has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::memory) struct End {
    /// The number of the next segment.
    pub(super) next: u64,
    /// How many bytes of the one before it count.
    pub(super) prior: u64,
    /// The number of the last state.
    pub(super) state: u64,
    /// How many bytes that has.
    pub(super) state_length: u64,
    /// How many bytes the segments since then have.
    pub(super) since: u64,
}

/// Reads a folder; nothing if there are no counters in it. Changes nothing there.
///
/// # Errors
/// When it is damaged before something that was synced, or the disk fails.
pub(in crate::memory) fn recover(site: &Site) -> Result<Option<Found>, OpenError> {
    let reader = Reader {
        folder: &site.folder,
    };
    let names = site.folder.files().list();
    let names = names.map_err(|error| reader.disk("", error))?;
    let states = names.iter().filter_map(|name| format::state_number(name));
    let mut segments = names.iter().filter_map(|name| format::segment_number(name));
    let Some(state) = states.max() else {
        return match segments.next() {
            None => Ok(None),
            Some(number) => Err(reader.missing(&format::state_name(number))),
        };
    };
    let segments: Vec<u64> = segments.filter(|number| *number >= state).collect();
    reader.whole(state, &segments, site.bounds).map(Some)
}

/// The ledger of the last state and of all segments since.
///
/// # Errors
/// As [`recover`].
pub(super) fn condense(site: &Site, end: End) -> Result<Ledger, OpenError> {
    let reader = Reader {
        folder: &site.folder,
    };
    let (mut ledger, _) = reader.state(end.state, site.bounds)?;
    let mut prior = end.prior;
    let mut counts = BTreeMap::new();
    for number in (end.state..end.next).rev() {
        counts.insert(number, prior);
        prior = reader.header(number, &reader.segment(number)?)?;
    }
    for (number, length) in counts {
        reader.closed(&mut ledger, number, length)?;
    }
    Ok(ledger)
}

struct Reader<'a> {
    folder: &'a DataFolder,
}

impl Reader<'_> {
    fn whole(&self, state: u64, segments: &[u64], bounds: Bounds) -> Result<Found, OpenError> {
        let (mut ledger, state_length) = self.state(state, bounds)?;
        let mut end = End {
            next: state,
            prior: 0,
            state,
            state_length,
            since: 0,
        };
        for (number, following) in segments
            .iter()
            .zip(segments.iter().skip(1).map(Some).chain([None]))
        {
            if *number != end.next {
                return Err(self.missing(&format::segment_name(end.next)));
            }
            end.prior = match following {
                Some(next) => {
                    let length = self.header(*next, &self.segment(*next)?)?;
                    self.closed(&mut ledger, *number, length)?;
                    length
                }
                None => self.open(&mut ledger, *number)?,
            };
            end.next += 1;
            end.since += end.prior;
        }
        Ok(Found { ledger, end })
    }

    fn state(&self, number: u64, bounds: Bounds) -> Result<(Ledger, u64), OpenError> {
        let name = format::state_name(number);
        let file = self.read(&name)?;
        let bytes = format::read_state(number, &file);
        let bytes = bytes.ok_or_else(|| self.damaged(&name, 0, "its checksum is another"))?;
        let ledger = Ledger::load(bytes, bounds);
        let ledger = ledger.map_err(|error| self.unread(&name, 0, error))?;
        Ok((ledger, file.len() as u64))
    }

    /// Does all again that a segment says up to `length`, which must be whole.
    fn closed(&self, ledger: &mut Ledger, number: u64, length: u64) -> Result<(), OpenError> {
        let file = self.segment(number)?;
        self.header(number, &file)?;
        let at = self.redo(ledger, number, (&file, length))?;
        match at == length {
            true => Ok(()),
            false => {
                let name = format::segment_name(number);
                Err(self.damaged(&name, at, "what was synced cannot be read"))
            }
        }
    }

    /// Does all again that the last segment says; answers how much of it counts. A torn end was never synced.
    fn open(&self, ledger: &mut Ledger, number: u64) -> Result<u64, OpenError> {
        let file = self.segment(number)?;
        self.header(number, &file)?;
        let at = self.redo(ledger, number, (&file, u64::MAX))?;
        let spot = Spot {
            segment: number,
            at,
        };
        if format::is_synced_behind(spot, &file) {
            let name = format::segment_name(number);
            return Err(self.damaged(&name, at, "it stands before what was synced"));
        }
        Ok(at)
    }

    /// Does the frames again up to `end`; answers where the first one stands that is not whole.
    fn redo(
        &self,
        ledger: &mut Ledger,
        segment: u64,
        (file, end): (&[u8], u64),
    ) -> Result<u64, OpenError> {
        let mut spot = Spot {
            segment,
            at: HEADER,
        };
        while spot.at < end
            && let Some(frame) = format::read_frame(spot, file)
        {
            let redone = ledger.redo(frame.records);
            redone.map_err(|error| self.unread(&format::segment_name(segment), spot.at, error))?;
            spot.at = frame.next;
        }
        Ok(spot.at)
    }

    fn segment(&self, number: u64) -> Result<Vec<u8>, OpenError> {
        self.read(&format::segment_name(number))
    }

    fn header(&self, number: u64, file: &[u8]) -> Result<u64, OpenError> {
        let prior = format::read_header(number, file);
        prior.ok_or_else(|| {
            let name = format::segment_name(number);
            self.damaged(&name, 0, "its header cannot be read")
        })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, OpenError> {
        let read = self.folder.files().read(name);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.missing(name),
            _ => self.disk(name, error),
        })
    }

    fn missing(&self, name: &str) -> OpenError {
        self.damaged(name, 0, "it is missing")
    }

    fn damaged(&self, name: &str, at: u64, what: &str) -> OpenError {
        OpenError::Damaged {
            file: self.folder.path().join(name),
            at,
            what: what.to_owned(),
        }
    }

    /// The checksum was right, so it was written like that.
    fn unread(&self, name: &str, at: u64, reason: JournalError) -> OpenError {
        match reason {
            JournalError::Version(_) => OpenError::Newer {
                file: self.folder.path().join(name),
                reason,
            },
            reason => self.damaged(name, at, &reason.to_string()),
        }
    }

    fn disk(&self, name: &str, error: io::Error) -> OpenError {
        OpenError::Disk {
            file: self.folder.path().join(name),
            error,
        }
    }
}
