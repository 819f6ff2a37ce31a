//! The folder that the journal is in.
use super::journal::HEADER;
use crate::folder::{anew, lock};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Where a journal is written to.
pub(super) trait Disk: Send {
    /// Writes at the end. After an error any part of it may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when what was written outlives the machine.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts it off.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Puts another journal in its place: all of it or nothing, and for good.
    fn replace(&mut self, whole: &[u8]) -> io::Result<()>;
}

/// A folder that no other process uses.
pub(super) struct Folder {
    path: PathBuf,
    file: File,
    _lock: File,
}

/// Why a folder cannot be used.
#[derive(Debug)]
pub(crate) struct FolderError {
    pub(crate) folder: PathBuf,
    pub(crate) reason: String,
}

const JOURNAL: &str = "settlements.journal";
const UNFINISHED: &str = "settlements.journal.new";
const LOCK: &str = "settlements.lock";

impl Folder {
    /// Opens a folder, which is made if it is missing; gives what its journal says.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<u8>), FolderError> {
        let failed = |error: io::Error| FolderError {
            folder: path.to_owned(),
            reason: error.to_string(),
        };
        fs::create_dir_all(path).map_err(failed)?;
        let lock = locked(path)?;
        // Left behind by a process that was killed while it wrote a journal anew.
        match fs::remove_file(path.join(UNFINISHED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = opened(&path.join(JOURNAL)).map_err(failed)?;
        let mut found = Vec::new();
        file.read_to_end(&mut found).map_err(failed)?;
        let folder = Self {
            path: path.to_owned(),
            file,
            _lock: lock,
        };
        Ok((folder, found))
    }
}

fn opened(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).open(path)
}

fn locked(path: &Path) -> Result<File, FolderError> {
    let failed = |reason: String| FolderError {
        folder: path.to_owned(),
        reason,
    };
    let file = opened(&path.join(LOCK)).map_err(|error| failed(error.to_string()))?;
    match lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed("another process uses it".to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error.to_string())),
    }
}

impl FolderError {
    /// The folder has a journal that cannot be read.
    pub(super) fn strange(folder: &Path) -> Self {
        let name = String::from_utf8_lossy(HEADER);
        Self {
            folder: folder.to_owned(),
            reason: format!("{JOURNAL} does not begin with {name}: another version wrote it"),
        }
    }
}

impl Disk for Folder {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn replace(&mut self, whole: &[u8]) -> io::Result<()> {
        let unfinished = self.path.join(UNFINISHED);
        let mut file = anew(&unfinished)?;
        file.write_all(whole)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path.join(JOURNAL))?;
        self.file = opened(&self.path.join(JOURNAL))?;
        File::open(&self.path)?.sync_all()
    }
}
