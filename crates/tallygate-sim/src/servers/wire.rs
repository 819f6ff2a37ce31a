//! A connection to a server for the frame of a test, opened when first used.

use std::time::Duration;

use parking_lot::Mutex;

use super::ServerError;

/// How long a connection is waited for, and an answer. A paused server is an error after it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Login of the frame where the configuration under test may keep the default user out.
pub(super) const KEEPER: &str = "keeper";

pub(super) struct Wire {
    port: u16,
    url: String,
    connection: Mutex<Option<redis::Connection>>,
}

impl Wire {
    /// To a server whose configuration has the [`KEEPER`].
    pub(super) fn of_keeper(port: u16) -> Self {
        Self::new(port, format!("redis://{KEEPER}:{KEEPER}@127.0.0.1:{port}"))
    }

    /// To a server that lets anyone in.
    pub(super) fn of_default_user(port: u16) -> Self {
        Self::new(port, format!("redis://127.0.0.1:{port}"))
    }

    fn new(port: u16, url: String) -> Self {
        Self {
            port,
            url,
            connection: Mutex::new(None),
        }
    }

    pub(super) fn ask<T: redis::FromRedisValue>(
        &self,
        words: &[impl AsRef<[u8]>],
    ) -> Result<T, ServerError> {
        let mut connection = self.connection.lock();
        let was_kept = connection.is_some();
        let mut answer = self.send(&mut connection, words);
        if was_kept
            && answer
                .as_ref()
                .is_err_and(|error| error.is_connection_dropped())
        {
            // A server that changes its part in a failover sends its clients away.
            *connection = None;
            answer = self.send(&mut connection, words);
        }
        if answer.as_ref().is_err_and(|error| !is_answer(error)) {
            // What is left on it may be the answer to what failed.
            *connection = None;
        }
        let read = answer.and_then(|value| Ok(redis::from_redis_value(value)?));
        read.map_err(|source| self.failed(words, source))
    }

    pub(super) fn connect(&self) -> Result<redis::Connection, ServerError> {
        self.open()
            .map_err(|source| self.failed(&["HELLO"], source))
    }

    /// Forgets the connection: the server it led to is gone.
    pub(super) fn close(&self) {
        *self.connection.lock() = None;
    }

    fn send(
        &self,
        connection: &mut Option<redis::Connection>,
        words: &[impl AsRef<[u8]>],
    ) -> redis::RedisResult<redis::Value> {
        let connection = match connection {
            Some(open) => open,
            none => none.insert(self.open()?),
        };
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word.as_ref());
        }
        command.query(connection)
    }

    fn open(&self) -> redis::RedisResult<redis::Connection> {
        let client = redis::Client::open(self.url.as_str())?;
        let connection = client.get_connection_with_timeout(TIMEOUT)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(connection)
    }

    fn failed(&self, words: &[impl AsRef<[u8]>], source: redis::RedisError) -> ServerError {
        let first = words.iter().take(2);
        let shown: Vec<_> = first
            .map(|word| String::from_utf8_lossy(word.as_ref()).into_owned())
            .collect();
        ServerError::Command {
            command: shown.join(" "),
            port: self.port,
            source,
        }
    }
}

/// Whether the server said so, and the connection is well.
fn is_answer(error: &redis::RedisError) -> bool {
    error.code().is_some()
}
