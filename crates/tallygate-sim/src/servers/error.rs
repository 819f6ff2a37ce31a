//! Why a server is not there or does not answer.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Engine;

/// Why a call to a real server failed. Its `Debug` is its sentence, as `unwrap` in a test prints that.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The engine's program is not on this machine.
    #[error(
        "failed to find {engine}: no `{}` was installed; install it with `cargo xtask ci --only servers`, or name it in {}",
        engine.program_name(),
        engine.variable()
    )]
    Missing {
        /// What was looked for.
        engine: Engine,
    },
    /// Files, processes or sockets of this machine failed.
    #[error("failed to {what}: {source}")]
    Machine {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The server ended before it answered.
    #[error("{engine} ended as soon as it was started; its last words: {words}")]
    Ended {
        /// What was started.
        engine: Engine,
        /// The end of its log.
        words: String,
    },
    /// The server is not running: it was stopped or killed, and not restarted.
    #[error("the server on port {port} is stopped")]
    Stopped {
        /// Where it listened.
        port: u16,
    },
    /// A command failed, or its connection.
    #[error("`{command}` on port {port} failed: {source}")]
    Command {
        /// Its first words.
        command: String,
        /// Where it was sent.
        port: u16,
        /// What the server or the connection said.
        source: redis::RedisError,
    },
    /// An answer is not what the protocol or the engine's version leads one to expect.
    #[error("`{command}` gave an answer without {wanted}")]
    Answer {
        /// What was asked.
        command: &'static str,
        /// What is not in it.
        wanted: String,
    },
    /// Something did not come true in time.
    #[error("waited {waited:?} for {what}{last}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// What was seen last, after a semicolon; may be empty.
        last: String,
    },
}

impl ServerError {
    pub(super) fn machine(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Machine { what, source }
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
