//! The registry in a data folder.
//!
//! `registry.json` is all records and the latest entry of the audit log; each change replaces it whole. The entry is then written to
//! the end of `audit.jsonl`. So a change and its entry are one: what a death in between left out of the log stands in the other file,
//! and is written at the next start.
use super::audit::{AUDIT_KEPT, AuditEntry, AuditPage, Author};
use super::change::Change;
use super::records::Records;
use super::{ChangeError, Lasting, Registry, RegistryError};
use crate::BoxFuture;
use crate::folder::{Append, DataFolder};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::future::ready;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

const RECORDS: &str = "registry.json";
const LOG: &str = "audit.jsonl";
const FORMAT: u32 = 2;

/// The format before it, which had no checksum.
const UNSEALED: u32 = 1;

/// Keys, overrides and the audit log in a data folder.
#[derive(Debug)]
pub struct FolderRegistry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: Arc<DataFolder>,
    records: watch::Sender<Arc<Records>>,
    log: Mutex<Log>,
}

/// What is in `registry.json`: what is kept, as a text, and the checksum of that text.
#[derive(Debug, Serialize, Deserialize)]
struct Sealed<'a> {
    format: u32,
    crc32: String,
    #[serde(borrow)]
    kept: &'a RawValue,
}

/// What is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved<R> {
    records: R,
    last: Option<AuditEntry>,
}

/// The audit log, the oldest first.
#[derive(Debug)]
struct Log {
    entries: VecDeque<AuditEntry>,
    file: Box<dyn Append>,
    /// How many lines the file has.
    lines: usize,
    /// How many of the entries, the last ones, are not in the file yet.
    unwritten: usize,
}

impl FolderRegistry {
    /// The registry of a folder, which nobody else writes to. Blocks.
    ///
    /// # Errors
    /// When it cannot be read, or is not what this version writes.
    pub fn open(folder: Arc<DataFolder>) -> Result<Arc<Self>, RegistryError> {
        let saved = saved(&folder)?;
        let log = Log::open(&folder, saved.last).map_err(down)?;
        Ok(Arc::new(Self(Arc::new(Inner {
            records: watch::Sender::new(Arc::new(saved.records)),
            log: Mutex::new(log),
            folder,
        }))))
    }
}

impl FolderRegistry {
    /// The records of a folder that another process may own, as they are now. Blocks.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn peek(folder: &DataFolder) -> Result<Records, RegistryError> {
        Ok(saved(folder)?.records)
    }
}

/// What a folder keeps; nothing if nothing was ever changed there.
fn saved(folder: &DataFolder) -> Result<Saved<Records>, RegistryError> {
    let damaged = |what: String| {
        let place = folder.path().join(RECORDS);
        RegistryError::Damaged(format!("{} {what}", place.display()))
    };
    match folder.files().read(RECORDS) {
        Ok(bytes) => unsealed(&bytes).map_err(|what| damaged(what.to_string())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(down(error)),
        // It is there before the first entry of the log is.
        Err(_) if read_log(folder).map_err(down)?.is_empty() => Ok(Saved::default()),
        Err(_) => Err(damaged(Unsealed::Missing.to_string())),
    }
}

/// Why `registry.json` is not to be relied on: without it whoever has a key would be let in or kept out wrongly.
#[derive(Debug, thiserror::Error)]
enum Unsealed {
    #[error("was written by a later version: use that one, or a later one")]
    Newer,
    #[error("is missing, and {LOG} beside it says that there were keys or overrides: {MEND}")]
    Missing,
    #[error("is damaged ({0}): {MEND}")]
    Unread(#[from] serde_json::Error),
    #[error("is damaged (its checksum is another): {MEND}")]
    Changed,
    #[error("is damaged (its format is {0}): {MEND}")]
    Strange(u32),
    #[error("is damaged (the key `{0}` has no hash that can be read): {MEND}")]
    Hash(String),
}

const MEND: &str =
    "bring the folder back from a copy, or move both files away, and all keys have to be made anew";

/// What a whole `registry.json` keeps.
fn unsealed(bytes: &[u8]) -> Result<Saved<Records>, Unsealed> {
    #[derive(Deserialize)]
    struct Marked {
        format: u32,
    }
    let marked: Marked = serde_json::from_slice(bytes)?;
    let saved: Saved<Records> = match marked.format {
        UNSEALED => serde_json::from_slice(bytes)?,
        FORMAT => {
            let sealed: Sealed<'_> = serde_json::from_slice(bytes)?;
            if checksum(sealed.kept) != sealed.crc32 {
                return Err(Unsealed::Changed);
            }
            serde_json::from_str(sealed.kept.get())?
        }
        later if later > FORMAT => return Err(Unsealed::Newer),
        other => return Err(Unsealed::Strange(other)),
    };
    match saved.records.unreadable() {
        Some(key) => Err(Unsealed::Hash(key.id.clone())),
        None => Ok(saved),
    }
}

/// A `registry.json` that keeps this.
fn sealed(saved: &Saved<&Records>) -> Vec<u8> {
    let kept = serde_json::value::to_raw_value(saved);
    let kept = kept.expect("invariant: keys of these maps are texts");
    to_json(&Sealed {
        format: FORMAT,
        crc32: checksum(&kept),
        kept: &kept,
    })
}

fn checksum(kept: &RawValue) -> String {
    format!("{:08x}", crc32fast::hash(kept.get().as_bytes()))
}

fn down(error: io::Error) -> RegistryError {
    RegistryError::Down(error.to_string())
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: keys of these maps are texts")
}

impl Inner {
    fn change(&self, change: &Change, author: &Author) -> Result<Arc<Records>, ChangeError> {
        let mut log = self.log.lock();
        log.write(&self.folder).map_err(down)?;
        let before = Arc::clone(&self.records.borrow());
        let mut records = Records::clone(&before);
        let entry = records.apply(change, author)?;
        if let Err(error) = self.save(&records, Some(&entry)) {
            // Part of it may have been done: what is not answered is better not there either, if the disk lets us.
            let last = log.entries.back();
            drop(self.save(&before, last));
            return Err(down(error).into());
        }
        log.entries.push_back(entry);
        log.unwritten += 1;
        // The entry is safe already; a disk that is full now is told at the next change.
        drop(log.write(&self.folder));
        let records = Arc::new(records);
        self.records.send_replace(Arc::clone(&records));
        Ok(records)
    }

    fn save(&self, records: &Records, last: Option<&AuditEntry>) -> io::Result<()> {
        let saved = Saved {
            records,
            last: last.cloned(),
        };
        self.folder.files().replace(RECORDS, &sealed(&saved))
    }
}

impl Log {
    /// Reads what is there, cuts off what is torn, and adds `last` if it is missing.
    fn open(folder: &DataFolder, last: Option<AuditEntry>) -> io::Result<Self> {
        let bytes = read_log(folder)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n');
        let mut file = folder.files().open_append(LOG)?;
        if whole < bytes.len() {
            file.truncate(u64::try_from(whole).unwrap_or(u64::MAX))?;
        }
        let lines: Vec<&[u8]> = lines.collect();
        let kept = &lines[lines.len().saturating_sub(AUDIT_KEPT)..];
        // A line that was damaged since is left where it is, and out of the answers.
        let entries = kept
            .iter()
            .filter_map(|line| serde_json::from_slice(line).ok());
        let mut log = Self {
            entries: entries.collect(),
            file,
            lines: lines.len(),
            unwritten: 0,
        };
        let newest = log.entries.back().map_or(0, |entry| entry.seq);
        if let Some(last) = last.filter(|last| last.seq > newest) {
            log.entries.push_back(last);
            log.unwritten = 1;
        }
        log.write(folder)?;
        Ok(log)
    }

    /// Writes what is not in the file yet. After an error the file is as before.
    fn write(&mut self, folder: &DataFolder) -> io::Result<()> {
        if self.unwritten == 0 {
            return Ok(());
        }
        let first = self.entries.len() - self.unwritten;
        let text = text(self.entries.range(first..));
        let length = self.file.length()?;
        let written = self.file.write(&text).and_then(|()| self.file.sync());
        if let Err(error) = written {
            self.file.truncate(length)?;
            return Err(error);
        }
        self.lines += std::mem::take(&mut self.unwritten);
        while self.entries.len() > AUDIT_KEPT {
            self.entries.pop_front();
        }
        self.shorten(folder)
    }

    /// Keeps the file at no more than twice what is kept.
    fn shorten(&mut self, folder: &DataFolder) -> io::Result<()> {
        if self.lines <= 2 * AUDIT_KEPT {
            return Ok(());
        }
        folder.files().replace(LOG, &text(self.entries.iter()))?;
        self.file = folder.files().open_append(LOG)?;
        self.lines = self.entries.len();
        Ok(())
    }
}

/// The bytes of the audit log; none if there is none yet.
fn read_log(folder: &DataFolder) -> io::Result<Vec<u8>> {
    match folder.files().read(LOG) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn text<'a>(entries: impl Iterator<Item = &'a AuditEntry>) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in entries {
        text.extend(to_json(entry));
        text.push(b'\n');
    }
    text
}

impl Registry for FolderRegistry {
    fn load(&self) -> BoxFuture<'_, Result<Arc<Records>, RegistryError>> {
        let records = Arc::clone(&self.0.records.borrow());
        Box::pin(ready(Ok(records)))
    }

    fn change<'a>(
        &'a self,
        change: Change,
        author: &'a Author,
    ) -> BoxFuture<'a, Result<Arc<Records>, ChangeError>> {
        let (inner, author) = (Arc::clone(&self.0), author.clone());
        Box::pin(async move {
            let changed = spawn_blocking(move || inner.change(&change, &author)).await;
            changed.unwrap_or_else(|_| {
                let stopped = RegistryError::Down("the process is stopping".to_owned());
                Err(stopped.into())
            })
        })
    }

    fn audit(&self, page: AuditPage) -> BoxFuture<'_, Result<Vec<AuditEntry>, RegistryError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            // A change holds the log while it waits for the disk.
            let entries = spawn_blocking(move || page.of(inner.log.lock().entries.iter())).await;
            entries.map_err(|_| RegistryError::Down("the process is stopping".to_owned()))
        })
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, ()> {
        let mut records = self.0.records.subscribe();
        Box::pin(async move {
            drop(records.wait_for(|now| now.version() != seen).await);
        })
    }

    fn lasts(&self) -> Lasting {
        Lasting::Beyond
    }
}
