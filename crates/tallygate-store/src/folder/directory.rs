//! A folder on a disk.
use super::ground::{self, Ground, check_writable, is_open_to_all};
use super::{Append, Files, FolderError};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Files in a folder of this machine.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// What it stands on as long as it is owned; none if it is not.
    ground: Option<Arc<Ground>>,
}

/// How long a process that is just ending is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the name of a file ends with while it is written, before it is put in its place.
const UNFINISHED: &str = ".new";

impl Directory {
    /// Makes the folder if it is missing, and locks it by the file `lock`.
    pub(super) fn own(path: &Path, lock: &str) -> Result<Self, FolderError> {
        let failed = |error| FolderError::Disk {
            folder: path.to_owned(),
            error,
        };
        made_to_last(path).map_err(failed)?;
        if is_open_to_all(path).map_err(failed)? {
            return Err(FolderError::Open {
                folder: path.to_owned(),
            });
        }
        let locked = locked(path, lock)?;
        let ground = Ground::of(path, (lock, locked)).map_err(failed)?;
        let directory = Self {
            path: path.to_owned(),
            ground: Some(Arc::new(ground)),
        };
        directory.tidy().map_err(failed)?;
        Ok(directory)
    }

    /// The folder as it is, if it could be locked and written to now; `None` if it would be a new one. Changes nothing.
    pub(super) fn could_own(path: &Path, lock: &str) -> Result<Option<Self>, FolderError> {
        let failed = |error| FolderError::Disk {
            folder: path.to_owned(),
            error,
        };
        let directory = match Self::to_read(path) {
            Err(FolderError::Disk { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return check_writable(around(path)).map(|()| None).map_err(failed);
            }
            found => found?,
        };
        if is_open_to_all(path).map_err(failed)? {
            return Err(FolderError::Open {
                folder: path.to_owned(),
            });
        }
        directory.check_free(lock)?;
        directory.check_places().map_err(failed)?;
        let names = directory.names().map_err(failed)?;
        // What a killed process was writing is removed by whoever owns it next.
        let is_left = |name: &String| name == lock || name.ends_with(UNFINISHED);
        let is_new = names.iter().all(is_left);
        Ok((!is_new).then_some(directory))
    }

    /// Whether nobody has locked it. Those who look at once do not see each other, and who is to own it waits for them.
    fn check_free(&self, lock: &str) -> Result<(), FolderError> {
        let failed = |error| FolderError::Disk {
            folder: self.path.clone(),
            error,
        };
        let place = self.path.join(lock);
        ground::refuse_link(&place).map_err(failed)?;
        let file = match File::open(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        match patiently(|| file.try_lock_shared()) {
            Ok(()) => check_writable(&place).map_err(failed),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse {
                folder: self.path.clone(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Whether files can be made in it and in the folders in it.
    fn check_places(&self) -> io::Result<()> {
        check_writable(&self.path)?;
        for (_, entry) in entries(&self.path)? {
            if entry.file_type()?.is_dir() {
                check_writable(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The folder as it is.
    pub(super) fn to_read(path: &Path) -> Result<Self, FolderError> {
        match fs::read_dir(path) {
            Ok(_) => Ok(Self {
                path: path.to_owned(),
                ground: None,
            }),
            Err(error) => Err(FolderError::Disk {
                folder: path.to_owned(),
                error,
            }),
        }
    }

    /// Removes what a process that was killed while it wrote has left behind. A disk that takes no writes may keep it.
    fn tidy(&self) -> io::Result<()> {
        for name in self.names()? {
            if name.ends_with(UNFINISHED) {
                let _ = fs::remove_file(self.path.join(name));
            }
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for (name, entry) in entries(&self.path)? {
            match entry.file_type()?.is_dir() {
                true => {
                    let inside = entries(&entry.path())?;
                    let files = inside.iter().map(|(file, _)| format!("{name}/{file}"));
                    names.extend(files);
                }
                false => names.push(name),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where a file is that may be written, and what that rests on.
    fn place(&self, name: &str) -> io::Result<(PathBuf, &Arc<Ground>)> {
        let ground = self.ground.as_ref();
        let ground = ground.ok_or(io::ErrorKind::ReadOnlyFilesystem)?;
        ground.enter(name)?;
        Ok((self.path.join(name), ground))
    }
}

/// What is in a folder, apart from what is not ours to see: names that are not text, and of a file system's own.
fn entries(path: &Path) -> io::Result<Vec<(String, fs::DirEntry)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_name().into_string() {
            Ok(name) if name != "lost+found" => found.push((name, entry)),
            _ => {}
        }
    }
    Ok(found)
}

impl Files for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.names()?;
        names.retain(|name| !name.ends_with(UNFINISHED));
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn open_append(&self, name: &str) -> io::Result<Box<dyn Append>> {
        let (place, ground) = self.place(name)?;
        let is_new = !place.exists();
        let file = appended(&place)?;
        if is_new {
            sync_folder_of(&place)?;
        }
        let (ground, name) = (Arc::clone(ground), name.to_owned());
        Ok(Box::new(Tail { file, ground, name }))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (place, _) = self.place(name)?;
        let unfinished = self.path.join(format!("{name}{UNFINISHED}"));
        let mut file = anew(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &place)?;
        sync_folder_of(&place)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (place, _) = self.place(name)?;
        fs::remove_file(&place)?;
        sync_folder_of(&place)
    }
}

/// A file that is written at its end.
#[derive(Debug)]
struct Tail {
    file: File,
    ground: Arc<Ground>,
    name: String,
}

impl Append for Tail {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ground.enter(&self.name)?;
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

/// Makes a folder, and returns when its name outlives the machine, and those of the folders around it that were missing.
fn made_to_last(path: &Path) -> io::Result<()> {
    let around = path.ancestors();
    let missing: Vec<&Path> = around.take_while(|one| !one.exists()).collect();
    ground::folder().recursive(true).create(path)?;
    missing.into_iter().try_for_each(sync_folder_of)
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn appended(path: &Path) -> io::Result<File> {
    ground::refuse_link(path)?;
    private(OpenOptions::new().append(true).create(true)).open(path)
}

/// A file that is made, in the place of one that a killed process left. What stands in its place is never written to: it
/// could be a link to a file elsewhere.
pub(crate) fn anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => private(OpenOptions::new().write(true).create_new(true)).open(path),
    }
}

/// Returns when the names in the folder of `place` outlive the machine.
fn sync_folder_of(place: &Path) -> io::Result<()> {
    match place.parent() {
        Some(here) if here.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn locked(path: &Path, name: &str) -> Result<File, FolderError> {
    let folder = || path.to_owned();
    let failed = |error| FolderError::Disk {
        folder: folder(),
        error,
    };
    let file = appended(&path.join(name)).map_err(failed)?;
    match lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse { folder: folder() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The folder that exists around one that is to be made.
fn around(path: &Path) -> &Path {
    let mut around = path.ancestors().skip(1);
    around.find(|one| one.exists()).unwrap_or(Path::new("."))
}

/// Locks a file for this process. One that is just ending and still has it is waited for a moment.
pub(crate) fn lock(file: &File) -> Result<(), TryLockError> {
    patiently(|| file.try_lock())
}

fn patiently(try_lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(PATIENCE / 50); // tidy: sleeps because a lock that another process holds tells nobody when it goes
            }
            done => return done,
        }
    }
}
