//! Taking over a changed configuration file while serving: whole, or not at all.
//!
//! The file is looked at once a second (its length and time of change, then its text), and at once on SIGHUP. Looking is a
//! `stat`; no notification of the operating system is as portable over editors, symbolic links and mounted volumes.
//! A changed file is left alone until it has looked the same twice: one that is being written may be a configuration
//! already, of fewer limits.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::fs;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::{Config, ConfigErrors, Problem, Severity};
use crate::observe::Observer;
use crate::registrar::{Intent, Reread};
use crate::server::{ReloadError, ServerHandle};

/// How often the file is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest configuration file, in bytes.
pub const MAX_FILE: u64 = 8 << 20;

/// Where `${VAR}` is looked up.
pub type Environment = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Why a configuration file gave no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("failed to read {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is larger than [`MAX_FILE`].
    #[error("{path} has {length} bytes, more than the {MAX_FILE} that a configuration may have")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        length: u64,
    },
    /// The file has mistakes.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

/// Reads and checks the configuration file at `path`.
///
/// # Errors
/// [`LoadError`].
pub async fn load(path: &Path, env: &Environment) -> Result<Config, LoadError> {
    let text = read(path).await?;
    Ok(Config::parse(&text, &path.display().to_string(), env)?)
}

async fn read(path: &Path) -> Result<String, LoadError> {
    let failed = |error| LoadError::Io {
        path: path.to_owned(),
        error,
    };
    let length = fs::metadata(path).await.map_err(failed)?.len();
    if length > MAX_FILE {
        return Err(LoadError::TooLarge {
            path: path.to_owned(),
            length,
        });
    }
    fs::read_to_string(path).await.map_err(failed)
}

/// What a file looked like when it was last read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    length: u64,
    changed: Option<SystemTime>,
}

/// Watches one file for one server.
pub struct Watcher {
    path: PathBuf,
    env: Arc<Environment>,
    server: ServerHandle,
    last: Option<Look>,
    /// What it looked like a tick ago.
    before: Option<Look>,
    /// The text last taken over or refused, so that a touched file is not reported again.
    text: Option<String>,
    /// Why it was refused last.
    why: Vec<String>,
    /// What became of keys when it was taken over last.
    left: Vec<String>,
}

/// What a look at the file led to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Looked {
    /// Nothing new.
    Same,
    /// Another configuration is in force.
    Taken,
    /// The old one stays, and why was logged.
    Kept,
}

impl Watcher {
    /// A watcher of the file that `server`'s configuration was read from, as it is now.
    pub async fn new(path: PathBuf, env: Arc<Environment>, server: ServerHandle) -> Self {
        let last = look(&path).await.ok();
        let text = read(&path).await.ok();
        Self {
            path,
            env,
            server,
            before: last.clone(),
            last,
            text,
            why: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Looks at the file again and again, until dropped.
    ///
    /// # Cancel safety
    /// A dropped watcher leaves the configuration that is in force.
    pub async fn run(mut self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hangup = Hangup::new();
        let mut asked = self.server.registrar().asking().hear();
        loop {
            tokio::select! {
                _ = ticks.tick() => { self.tick().await; }
                () = hangup.recv() => { self.read_anew().await; }
                Some((intent, answer)) = asked.recv() => {
                    let reread = match intent {
                        Intent::Reload => self.answer().await,
                        Intent::Try => self.try_out().await,
                    };
                    // Who asked may be gone.
                    let _ = answer.send(reread);
                }
            }
        }
    }

    async fn answer(&mut self) -> Reread {
        match self.read_anew().await {
            Looked::Kept => Reread::Kept(std::mem::take(&mut self.why)),
            _ => Reread::Taken(std::mem::take(&mut self.left)),
        }
    }

    /// What taking the file over as it is would come to.
    async fn try_out(&self) -> Reread {
        let config = match load(&self.path, &*self.env).await {
            Ok(config) => config,
            Err(LoadError::Config(errors)) => return Reread::Kept(reasons(&errors)),
            Err(error) => return Reread::Kept(vec![error.to_string()]),
        };
        match self.server.registrar().trial(&config) {
            Ok(mut trial) => {
                let warnings = config.warnings().problems().iter().map(placed);
                trial.warnings.splice(..0, warnings);
                Reread::Possible(trial)
            }
            Err(error) => Reread::Kept(vec![error.to_string()]),
        }
    }

    /// Takes the file over as it is. Whoever asks means it, also for one that was refused as it is.
    async fn read_anew(&mut self) -> Looked {
        self.text = None;
        self.reread().await
    }

    /// Takes the file over if it changed, and not since the tick before.
    ///
    /// # Cancel safety
    /// As [`Self::run`].
    pub async fn tick(&mut self) -> Looked {
        let now = look(&self.path).await.ok();
        let quiet = now == self.before;
        self.before = now;
        match quiet {
            true => self.look().await,
            false => Looked::Same,
        }
    }

    /// Looks at the file once and takes it over if it changed.
    pub async fn look(&mut self) -> Looked {
        let now = look(&self.path).await.ok();
        // A file that is gone may be in the middle of being replaced; what is in force stays until there is another.
        if now.is_none() || now == self.last {
            return Looked::Same;
        }
        self.last = now;
        self.reread().await
    }

    /// Takes the file over whether it looks changed or not.
    pub async fn reread(&mut self) -> Looked {
        let text = match read(&self.path).await {
            Ok(text) if Some(&text) == self.text.as_ref() => return Looked::Same,
            Ok(text) => text,
            Err(error) => {
                let why = vec![error.to_string()];
                return self.keep(why, |observer| observer.reload_failed(&error));
            }
        };
        let parsed = Config::parse(&text, &self.path.display().to_string(), &*self.env);
        self.text = Some(text);
        let config = match parsed {
            Ok(config) => config,
            Err(errors) => {
                let why = reasons(&errors);
                return self.keep(why, |observer| observer.reload_refused(&errors));
            }
        };
        match self.server.take_over(config) {
            Ok(left) => {
                self.left = left;
                Looked::Taken
            }
            Err(error) => self.keep(vec![error.to_string()], |observer| match &error {
                ReloadError::Unreloadable(fixed) => observer.reload_needs_restart(fixed),
                error => observer.reload_failed(error),
            }),
        }
    }

    fn keep(&mut self, why: Vec<String>, tell: impl FnOnce(&Observer)) -> Looked {
        self.why = why;
        tell(self.server.observer());
        Looked::Kept
    }
}

/// Why a file is refused, each with its place and mend. What is merely worth knowing is no reason.
fn reasons(errors: &ConfigErrors) -> Vec<String> {
    let problems = errors.problems().iter();
    let errors = problems.filter(|problem| problem.severity() == Severity::Error);
    errors.map(placed).collect()
}

fn placed(problem: &Problem) -> String {
    let (line, column) = (problem.line(), problem.column());
    let mend = problem.mending().map(|mend| format!(" ({mend})"));
    let mend = mend.unwrap_or_default();
    format!("line {line}, column {column}: {problem}{mend}")
}

async fn look(path: &Path) -> io::Result<Look> {
    let metadata = fs::metadata(path).await?;
    Ok(Look {
        length: metadata.len(),
        changed: metadata.modified().ok(),
    })
}

/// SIGHUP, where there is such a thing.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    fn new() -> Self {
        #[cfg(unix)]
        {
            let kind = tokio::signal::unix::SignalKind::hangup();
            Self {
                signal: tokio::signal::unix::signal(kind).ok(),
            }
        }
        #[cfg(not(unix))]
        {
            Self {}
        }
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
