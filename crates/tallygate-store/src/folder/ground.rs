//! What an open folder stands on: the very folder and lock that were opened.
//!
//! Files are found by their path. Where an administrator moves the folder away and puts another in its place, as for a backup that is
//! brought back, the path leads there: what is written then would destroy the other one, whose lock this process does not have.
use super::directory::sync_folder;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// A folder that is owned.
#[derive(Debug)]
pub(super) struct Ground {
    path: PathBuf,
    here: Identity,
    lock: PathBuf,
    /// Locked as long as the folder is owned.
    locked: File,
    /// The process that locked it.
    owner: u32,
    /// The folders in it that were written to.
    inside: Mutex<BTreeMap<String, Identity>>,
}

impl Drop for Ground {
    /// A process forked meanwhile has the file open too: closed here alone, it would stay locked for as long as that one lives.
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            // It is closed next in any case.
            let _ = self.locked.unlock();
        }
    }
}

impl Ground {
    /// A folder that was just locked by the file of this name in it.
    pub(super) fn of(path: &Path, (lock, locked): (&str, File)) -> io::Result<Self> {
        let ground = Self {
            path: path.to_owned(),
            here: Identity::of(&fs::metadata(path)?),
            lock: path.join(lock),
            locked,
            owner: std::process::id(),
            inside: Mutex::default(),
        };
        ground.check()?;
        Ok(ground)
    }

    /// Whether the path still leads where it did when the folder was opened, all of which this process has locked.
    ///
    /// # Errors
    /// When it does not.
    fn check(&self) -> io::Result<()> {
        is_still(&self.path, fs::metadata(&self.path), self.here)?;
        let locked = Identity::of(&self.locked.metadata()?);
        is_still(&self.lock, fs::symlink_metadata(&self.lock), locked)
    }

    /// Sees to it that a file of this name can be written: that the folder is the one that was opened, and the folder in it that the
    /// file is in the one that was there before, or a new one if none was.
    ///
    /// # Errors
    /// When one of them is gone, or another one is there; what the disk says.
    pub(super) fn enter(&self, name: &str) -> io::Result<()> {
        self.check()?;
        match name.split_once('/') {
            Some((inside, _)) => self.enter_inside(inside),
            None => Ok(()),
        }
    }

    fn enter_inside(&self, name: &str) -> io::Result<()> {
        let mut inside = self.inside.lock();
        let place = self.path.join(name);
        if let Some(known) = inside.get(name) {
            return is_still(&place, fs::metadata(&place), *known);
        }
        match folder().create(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
            Ok(()) => sync_folder(&self.path)?,
        }
        let found = Identity::of(&fs::metadata(&place)?);
        inside.insert(name.to_owned(), found);
        Ok(())
    }
}

/// How a folder is made that its owner alone may look into: it has the hashes of keys, and who called how often.
pub(super) fn folder() -> DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no modes to set"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Refuses a name that leads elsewhere: what is ours is here.
pub(super) fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            let path = path.display();
            let said = format!("{path} is a link: put what it leads to in its place");
            Err(io::Error::other(said))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether every user of the machine may write to a folder.
pub(super) fn is_open_to_all(path: &Path) -> io::Result<bool> {
    let found = fs::metadata(path)?;
    #[cfg(unix)]
    let is_open = std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o002 != 0;
    #[cfg(not(unix))]
    let is_open = {
        let _ = found;
        false
    };
    Ok(is_open)
}

/// Whether this process may write to a file, or make files in a folder. Nothing is written to see it.
#[cfg(unix)]
pub(super) fn check_writable(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    let is_folder = fs::metadata(path)?.is_dir();
    let wanted = match is_folder {
        true => Access::WRITE_OK | Access::EXEC_OK,
        false => Access::WRITE_OK,
    };
    access(path, wanted).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(
            error.kind(),
            format!("{} cannot be written to: {error}", path.display()),
        )
    })
}

#[cfg(not(unix))]
pub(super) fn check_writable(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.permissions().readonly() {
        true => Err(io::ErrorKind::PermissionDenied.into()),
        false => Ok(()),
    }
}

fn is_still(path: &Path, found: io::Result<Metadata>, known: Identity) -> io::Result<()> {
    let path = path.display();
    match found {
        Ok(found) if Identity::of(&found) == known => Ok(()),
        Ok(_) => Err(io::Error::other(format!(
            "{path} was replaced by another one while it was in use: put it back, or start again"
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::Error::other(format!(
            "{path} was moved away while it was in use: put it back, or start again"
        ))),
        Err(error) => Err(error),
    }
}

/// What tells a file or folder from any other of the machine, whatever its name.
#[cfg(unix)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

#[cfg(unix)]
impl Identity {
    fn of(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(found.dev(), found.ino())
    }
}

/// Where files have no numbers, folders that are in use cannot be moved.
#[cfg(not(unix))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity;

#[cfg(not(unix))]
impl Identity {
    fn of(_: &Metadata) -> Self {
        Self
    }
}
