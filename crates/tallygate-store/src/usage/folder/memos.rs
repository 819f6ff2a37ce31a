//! What the ledger needs to know of open reservations, in one file that is appended to.
//!
//! A frame is the length of its payload (4 bytes), a CRC-32 of that (4) and the payload: the reservation's id (16), its deadline
//! in nanoseconds since the Unix epoch (8), and its memo, which is empty where the reservation has ended. Whole numbers are
//! little-endian. What is no whole frame ends the file. It is synced from time to time, so that a killed process loses nothing and
//! a loss of power may lose the newest. The ends that it loses are in the logs ([`super::segment`]).

use std::collections::HashMap;
use std::io::{self, ErrorKind};

use parking_lot::Mutex;
use tallygate_core::{ReservationId, Time};

use crate::folder::{Append, Files};
use crate::usage::Memo;

const NAME: &str = "usage/open.memos";

/// Bytes at which the file is written anew, if most of it is needless.
const LARGE: u64 = 1 << 20;

/// The most memos that are kept.
const MOST: usize = 200_000;

/// The memos of a folder. All of it blocks.
#[derive(Debug)]
pub(super) struct Memos(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    open: HashMap<ReservationId, Memo>,
    file: Option<Box<dyn Append>>,
    /// How long the file is without what a write that failed may have left.
    length: u64,
}

impl Memos {
    /// What an earlier process left.
    pub(super) fn open(files: &dyn Files) -> io::Result<Self> {
        let bytes = match files.read(NAME) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let mut kept = Kept::default();
        let mut rest = &bytes[..];
        while let Some((memo, behind)) = read(rest) {
            kept.note(memo);
            rest = behind;
        }
        kept.length = (bytes.len() - rest.len()) as u64;
        Ok(Self(Mutex::new(kept)))
    }

    /// All that are known, in the order of their deadlines.
    pub(super) fn all(&self) -> Vec<Memo> {
        let mut all: Vec<Memo> = self.0.lock().open.values().cloned().collect();
        all.sort_by_key(|memo| (memo.expires_at, memo.id));
        all
    }

    pub(super) fn find(&self, id: ReservationId) -> Option<Vec<u8>> {
        let kept = self.0.lock();
        kept.open.get(&id).map(|memo| memo.bytes.clone())
    }

    /// Keeps those of reservations that have none.
    pub(super) fn keep(&self, mut memos: Vec<Memo>, files: &dyn Files) -> io::Result<()> {
        let mut kept = self.0.lock();
        memos.retain(|memo| !kept.open.contains_key(&memo.id));
        if kept.open.len() + memos.len() > MOST {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        kept.write(memos, files)
    }

    /// Which of these reservations have one.
    pub(super) fn of<'a>(
        &self,
        ids: impl Iterator<Item = &'a ReservationId>,
    ) -> Vec<ReservationId> {
        let kept = self.0.lock();
        ids.filter(|id| kept.open.contains_key(id))
            .copied()
            .collect()
    }

    /// Puts one in the place of another, if there is one.
    pub(super) fn renew(&self, memo: Memo, files: &dyn Files) -> io::Result<()> {
        let mut kept = self.0.lock();
        match kept.open.contains_key(&memo.id) {
            true => kept.write(vec![memo], files),
            false => Ok(()),
        }
    }

    /// Takes one out; where the disk takes nothing it is there again after a restart.
    pub(super) fn take(&self, id: ReservationId, files: &dyn Files) -> Option<Vec<u8>> {
        let mut kept = self.0.lock();
        let memo = kept.open.get(&id)?.bytes.clone();
        kept.end(vec![id], files);
        Some(memo)
    }

    /// Takes out some that there are.
    pub(super) fn drop_some(&self, ids: Vec<ReservationId>, files: &dyn Files) {
        self.0.lock().end(ids, files);
    }

    /// Forgets those whose deadlines were before `time`, writes the others anew if the file is large for them, and syncs.
    pub(super) fn tend(&self, time: Time, files: &dyn Files) -> io::Result<()> {
        let mut kept = self.0.lock();
        let old = kept.open.values().filter(|memo| memo.expires_at < time);
        let old = old.map(|memo| memo.id).collect();
        kept.end(old, files);
        let frames: Vec<u8> = kept.open.values().flat_map(frame).collect();
        if kept.length >= LARGE && kept.length / 2 >= frames.len() as u64 {
            kept.file = None;
            files.replace(NAME, &frames)?;
            kept.length = frames.len() as u64;
        }
        match kept.length {
            0 => Ok(()),
            // What an earlier process wrote too.
            _ => kept.file(files)?.sync(),
        }
    }
}

impl Kept {
    fn note(&mut self, memo: Memo) {
        match memo.bytes.is_empty() {
            true => self.open.remove(&memo.id),
            false => self.open.insert(memo.id, memo),
        };
    }

    fn file(&mut self, files: &dyn Files) -> io::Result<&mut Box<dyn Append>> {
        Ok(match &mut self.file {
            Some(file) => file,
            none => none.insert(files.open_append(NAME)?),
        })
    }

    fn end(&mut self, ids: Vec<ReservationId>, files: &dyn Files) {
        let ended = |id: ReservationId| Memo {
            id,
            expires_at: Time::from_nanos(0),
            bytes: Vec::new(),
        };
        let ended: Vec<Memo> = ids.into_iter().map(ended).collect();
        if self.write(ended.clone(), files).is_err() {
            ended.into_iter().for_each(|memo| self.note(memo));
        }
    }

    /// Appends them all, or none and an error. What an earlier failure left is cut off first.
    fn write(&mut self, memos: Vec<Memo>, files: &dyn Files) -> io::Result<()> {
        if memos.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = memos.iter().flat_map(frame).collect();
        let length = self.length;
        let file = self.file(files)?;
        if file.length()? != length {
            file.truncate(length)?;
        }
        file.write(&bytes)?;
        self.length += bytes.len() as u64;
        memos.into_iter().for_each(|memo| self.note(memo));
        Ok(())
    }
}

fn frame(memo: &Memo) -> Vec<u8> {
    let payload = [
        &memo.id.bits().to_le_bytes()[..],
        &memo.expires_at.as_nanos().to_le_bytes(),
        &memo.bytes,
    ]
    .concat();
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let head = [
        length.to_le_bytes(),
        crc32fast::hash(&payload).to_le_bytes(),
    ];
    [head.concat(), payload].concat()
}

/// The first frame, and what is behind it.
fn read(bytes: &[u8]) -> Option<(Memo, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (payload, behind) = rest.split_at_checked(length)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (id, rest) = payload.split_first_chunk()?;
    let (deadline, memo) = rest.split_first_chunk()?;
    let memo = Memo {
        id: ReservationId::from_bits(u128::from_le_bytes(*id)),
        expires_at: Time::from_nanos(u64::from_le_bytes(*deadline)),
        bytes: memo.to_vec(),
    };
    Some((memo, behind))
}
