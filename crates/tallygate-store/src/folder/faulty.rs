//! A disk in memory that can be full, take no writes, and lose its power: for tests of what must last.
use super::{Append, Files};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// A disk; its clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Faulty(Arc<Shared>);

/// What a disk suffers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing can be written (`ENOSPC`), but so many bytes at first.
    Full(usize),
    /// Nothing can be written, made or removed (`EROFS`).
    ReadOnly,
    /// Writes are taken, and fail when they are to be synced (`EIO`).
    Unsynced,
}

#[derive(Debug, Default)]
struct Shared {
    platter: Mutex<Platter>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Platter {
    files: BTreeMap<String, Sectors>,
    trouble: Option<Trouble>,
    is_dead: bool,
    is_held: bool,
    held: usize,
    syncs: usize,
}

/// What a file has, and what it had when it was last synced.
#[derive(Debug, Clone, Default)]
struct Sectors {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Lengths to which it was cut since.
    cuts: Vec<usize>,
    /// A file that was replaced meanwhile is written by who has it open, and read by nobody.
    number: u64,
}

impl Faulty {
    /// A disk with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power: this disk takes and gives nothing any more. Answers the disk that is found when it is back: of
    /// what was not synced any part may be missing, have become zeros, or be there; `seed` says which.
    #[must_use]
    pub fn power_loss(&self, seed: u64) -> Self {
        let mut dice = Dice(seed);
        self.end(|sectors| sectors.after_loss(&mut dice))
    }

    /// Ends the process that writes, as `kill -9` would: all that was written is found, synced or not.
    #[must_use]
    pub fn death(&self) -> Self {
        self.end(|sectors| Sectors {
            number: 0,
            ..sectors.clone()
        })
    }

    fn end(&self, mut left: impl FnMut(&Sectors) -> Sectors) -> Self {
        let mut platter = self.0.platter.lock();
        platter.is_dead = true;
        platter.is_held = false;
        self.0.released.notify_all();
        let files = platter.files.iter();
        let files = files.map(|(name, sectors)| (name.clone(), left(sectors)));
        let found = Self::default();
        found.0.platter.lock().files = files.collect();
        found
    }

    /// The disk begins to suffer from something, or with `None` ceases to.
    pub fn suffer(&self, trouble: Option<Trouble>) {
        self.0.platter.lock().trouble = trouble;
    }

    /// From now on whoever syncs waits until [`Self::release`].
    pub fn hold_syncs(&self) {
        self.0.platter.lock().is_held = true;
    }

    /// Lets go of who waits to sync.
    pub fn release(&self) {
        self.0.platter.lock().is_held = false;
        self.0.released.notify_all();
    }

    /// How many wait to sync.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.platter.lock().held
    }

    /// How often something was synced.
    #[must_use]
    pub fn syncs(&self) -> usize {
        self.0.platter.lock().syncs
    }

    /// Puts these bytes into a file, past all that is checked: damage.
    pub fn damage(&self, name: &str, bytes: &[u8]) {
        let mut platter = self.0.platter.lock();
        let sectors = platter.files.entry(name.to_owned()).or_default();
        sectors.now = bytes.to_vec();
        sectors.synced = bytes.to_vec();
        sectors.cuts.clear();
    }
}

impl Platter {
    fn living(&self) -> io::Result<()> {
        match self.is_dead {
            true => Err(io::Error::other("the power is off")),
            false => Ok(()),
        }
    }

    /// Whether anything may be changed.
    fn writable(&self) -> io::Result<()> {
        self.living()?;
        match self.trouble {
            Some(Trouble::ReadOnly) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            _ => Ok(()),
        }
    }

    /// How many of `length` bytes there is room for.
    fn room(&mut self, length: usize) -> usize {
        match &mut self.trouble {
            Some(Trouble::Full(left)) => {
                let taken = length.min(*left);
                *left -= taken;
                taken
            }
            _ => length,
        }
    }

    fn find(&mut self, name: &str) -> io::Result<&mut Sectors> {
        let found = self.files.get_mut(name);
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.living()?;
        if self.trouble == Some(Trouble::Unsynced) {
            return Err(io::Error::other("input/output error"));
        }
        self.syncs += 1;
        Ok(())
    }
}

impl Shared {
    /// Waits while syncs are held.
    fn pass(&self) {
        let mut platter = self.platter.lock();
        platter.held += 1;
        while platter.is_held {
            self.released.wait(&mut platter);
        }
        platter.held -= 1;
    }
}

impl Files for Faulty {
    fn list(&self) -> io::Result<Vec<String>> {
        let platter = self.0.platter.lock();
        platter.living()?;
        Ok(platter.files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut platter = self.0.platter.lock();
        platter.living()?;
        Ok(platter.find(name)?.now.clone())
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn Append>> {
        let mut platter = self.0.platter.lock();
        platter.writable()?;
        let sectors = platter.files.entry(name.to_owned()).or_default();
        Ok(Box::new(Tail {
            disk: self.0.clone(),
            name: name.to_owned(),
            number: sectors.number,
        }))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.pass();
        let mut platter = self.0.platter.lock();
        platter.writable()?;
        if platter.room(bytes.len()) < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        platter.sync()?;
        let sectors = platter.files.entry(name.to_owned()).or_default();
        *sectors = Sectors {
            now: bytes.to_vec(),
            synced: bytes.to_vec(),
            cuts: Vec::new(),
            number: sectors.number + 1,
        };
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut platter = self.0.platter.lock();
        platter.writable()?;
        match platter.files.remove(name) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[derive(Debug)]
struct Tail {
    disk: Arc<Shared>,
    name: String,
    number: u64,
}

impl Tail {
    /// Does something with the file, or with what nobody will read.
    fn with<T>(&self, platter: &mut Platter, work: impl FnOnce(&mut Sectors) -> T) -> T {
        match platter.files.get_mut(&self.name) {
            Some(sectors) if sectors.number == self.number => work(sectors),
            _ => work(&mut Sectors::default()),
        }
    }
}

impl Append for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.disk.platter.lock();
        platter.writable()?;
        let room = platter.room(bytes.len());
        self.with(&mut platter, |sectors| {
            sectors.now.extend_from_slice(&bytes[..room]);
        });
        match room == bytes.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.pass();
        let mut platter = self.disk.platter.lock();
        platter.sync()?;
        self.with(&mut platter, |sectors| {
            sectors.synced.clone_from(&sectors.now);
            sectors.cuts.clear();
        });
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut platter = self.disk.platter.lock();
        platter.writable()?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.with(&mut platter, |sectors| {
            sectors.now.resize(length, 0);
            sectors.cuts.push(length);
        });
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let mut platter = self.disk.platter.lock();
        platter.living()?;
        Ok(self.with(&mut platter, |sectors| sectors.now.len() as u64))
    }
}

/// How much a disk keeps or loses as one.
const SECTOR: usize = 64;

impl Sectors {
    /// What is found of the file: its length is any that it had, and each sector that was not synced is as it was, as it
    /// should be, or empty.
    fn after_loss(&self, dice: &mut Dice) -> Self {
        let lengths = self.cuts.iter().copied();
        let lengths: Vec<usize> = lengths.chain([self.synced.len(), self.now.len()]).collect();
        // What was synced and never cut stands, whatever else is lost.
        let safe = lengths.iter().copied().min().unwrap_or_default();
        let (low, high) = (safe, lengths.into_iter().max().unwrap_or_default());
        let length = low + dice.below(high - low + 1);
        let mut found = self.synced.clone();
        found.resize(length, 0);
        let mut at = safe;
        while at < length {
            let end = (at / SECTOR * SECTOR + SECTOR).min(length);
            let source: &[u8] = match dice.below(3) {
                0 => &[],
                1 => &self.synced,
                _ => &self.now,
            };
            for (offset, byte) in found[at..end].iter_mut().enumerate() {
                *byte = source.get(at + offset).copied().unwrap_or_default();
            }
            at = end;
        }
        Self {
            now: found.clone(),
            synced: found,
            ..Self::default()
        }
    }
}

/// Numbers from a seed (splitmix64, Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let drawn = (mixed ^ (mixed >> 31)) % (end as u64);
        usize::try_from(drawn).unwrap_or_default()
    }
}
