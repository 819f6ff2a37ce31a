//! The data folder: what outlives the process, and the seam through which it is read and written.
//!
//! One process at a time owns a folder; several parts of it share the one [`DataFolder`]. Everything here blocks.
mod directory;
mod faulty;
mod ground;
#[cfg(test)]
mod tests;

pub use faulty::{Faulty, Trouble};

use directory::Directory;
pub(crate) use directory::{anew, lock};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of Tallygate's, open.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    files: Box<dyn Files>,
}

/// What a folder is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To read and write: it is made if it is missing, and no other process may own it meanwhile.
    Own,
    /// To read what is there now, though another process may own it. Nothing is made, and nothing may be written.
    Read,
}

/// The files of a folder. A name is a file's, or that of a sub-folder and a file with a `/` between them.
///
/// # Errors
/// What the disk says; a file that is missing is [`io::ErrorKind::NotFound`].
pub trait Files: Send + Sync + fmt::Debug {
    /// The names of all files, in order.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// All that is in a file.
    ///
    /// # Errors
    /// What the disk says.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Opens a file to write at its end. It is made if it is missing, and its name then outlives the machine.
    ///
    /// # Errors
    /// What the disk says. A folder that was moved away or replaced since it was opened takes no writes, as a disk that fails;
    /// nothing of it is made anew.
    fn open_append(&self, name: &str) -> io::Result<Box<dyn Append>>;

    /// Puts a file in the place of another or of none: all of it or nothing. On return it outlives the machine. Who has
    /// the former one open writes to what nobody will read.
    ///
    /// # Errors
    /// What the disk says.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file. On return that outlives the machine.
    ///
    /// # Errors
    /// What the disk says.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A file that is written at its end, by nobody else.
pub trait Append: Send + fmt::Debug {
    /// Writes at the end. After an error any part of it may be there, and after the machine's death any part of what was
    /// written since the last [`Self::sync`].
    ///
    /// # Errors
    /// What the disk says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written outlives the machine. After an error none of what was written since the last
    /// success may be relied on, though a second call succeed: cut it off and write it again.
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file off at so many bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// How long the file is, in bytes, after errors too.
    ///
    /// # Errors
    /// What the disk says.
    fn length(&self) -> io::Result<u64>;
}

/// Why a folder cannot be used. Each says what can be done about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// Another process owns it.
    #[error(
        "the folder {} is in use by another process: stop it, or name another folder", .folder.display()
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// Every user of the machine may write to it.
    #[error(
        "every user of this machine may write to the folder {}, where keys are kept: run `chmod o-w` on it, or name a folder \
         inside it, which is made for its owner alone",
        .folder.display()
    )]
    Open {
        /// The folder.
        folder: PathBuf,
    },
    /// A later version wrote it.
    #[error(
        "the folder {} has format {found}, and this version reads {FORMAT}: use the version that wrote it, or a later one",
        .folder.display()
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It is somebody else's.
    #[error(
        "the folder {} is not one of Tallygate's ({reason}): name another one, or one that is empty", .folder.display()
    )]
    Strange {
        /// The folder.
        folder: PathBuf,
        /// What was seen.
        reason: String,
    },
    /// It could not be read or written.
    #[error("the folder {} cannot be used: {error}", .folder.display())]
    Disk {
        /// The folder.
        folder: PathBuf,
        /// What the disk said.
        #[source]
        error: io::Error,
    },
}

impl DataFolder {
    /// Opens a folder. Waits up to a second for a process that is just ending.
    ///
    /// # Errors
    /// When it is in use, may be written by everybody, was written by a later version, is not one of Tallygate's, or the disk
    /// fails.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Arc<Self>, FolderError> {
        let directory = match purpose {
            Purpose::Own => Directory::own(path, LOCK)?,
            Purpose::Read => Directory::to_read(path)?,
        };
        Self::over(path, Box::new(directory), purpose)
    }

    /// What opening a folder to own it would come to now: the folder to read, or `None` where it is missing or empty and would be made.
    /// Nothing in it is changed, and nobody kept from it for longer than the look takes.
    ///
    /// # Errors
    /// As [`Self::open`]; also when nothing could be written there.
    pub fn probe(path: &Path) -> Result<Option<Arc<Self>>, FolderError> {
        let directory = Directory::could_own(path, LOCK)?;
        let folder = directory.map(|found| Self::over(path, Box::new(found), Purpose::Read));
        folder.transpose()
    }

    /// A folder of these files: for tests, with [`Faulty`] ones. `path` is but a name for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn over(
        path: &Path,
        files: Box<dyn Files>,
        purpose: Purpose,
    ) -> Result<Arc<Self>, FolderError> {
        let folder = Self {
            path: path.to_owned(),
            files,
        };
        folder.check_format(purpose)?;
        Ok(Arc::new(folder))
    }

    /// Its files.
    #[must_use]
    pub fn files(&self) -> &dyn Files {
        &*self.files
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what wrote the folder; a new one is given its mark.
    fn check_format(&self, purpose: Purpose) -> Result<(), FolderError> {
        match self.files.read(MARK) {
            Ok(mark) => self.check_mark(&mark),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.mark(purpose),
            Err(error) => Err(self.disk(error)),
        }
    }

    fn check_mark(&self, mark: &[u8]) -> Result<(), FolderError> {
        let found = std::str::from_utf8(mark).ok();
        let found = found.and_then(|mark| mark.trim_end().strip_prefix(NAME));
        match found.and_then(|format| format.parse().ok()) {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(FolderError::Newer {
                folder: self.path.clone(),
                found,
            }),
            _ => Err(self.strange(format!("its file {MARK} does not begin with \"{NAME}\""))),
        }
    }

    fn mark(&self, purpose: Purpose) -> Result<(), FolderError> {
        let names = self.files.list().map_err(|error| self.disk(error))?;
        let mut others = names.iter().filter(|name| *name != LOCK);
        if let Some(other) = others.next() {
            return Err(self.strange(format!("it has a file {other}, and none named {MARK}")));
        }
        if purpose == Purpose::Read {
            return Err(self.strange("it is empty".to_owned()));
        }
        let mark = format!("{NAME}{FORMAT}\n");
        let marked = self.files.replace(MARK, mark.as_bytes());
        marked.map_err(|error| self.disk(error))
    }

    fn strange(&self, reason: String) -> FolderError {
        FolderError::Strange {
            folder: self.path.clone(),
            reason,
        }
    }

    fn disk(&self, error: io::Error) -> FolderError {
        FolderError::Disk {
            folder: self.path.clone(),
            error,
        }
    }
}

/// The file that says what wrote a folder: this name and a number.
const MARK: &str = "FORMAT";
const NAME: &str = "tallygate ";

/// The format that is written and read.
const FORMAT: u64 = 1;

/// The file that the process that owns a folder has locked.
const LOCK: &str = "lock";
