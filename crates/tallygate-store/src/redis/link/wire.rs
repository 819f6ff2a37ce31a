//! One connection that many calls share.
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, Value};
use tokio::task::JoinHandle;

use super::said::{Said, told};

/// A connection; its clones share it, and it closes with the last one.
#[derive(Clone)]
pub(super) struct Wire {
    connection: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// Ends the task that reads and writes, also while it waits for answers that no longer come.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is sent.
pub(super) enum Order {
    /// A command.
    Plain(Cmd),
    /// A command for a slot that is being moved to this server.
    Asking(Pipeline),
}

impl Order {
    pub(super) fn asking(command: Cmd) -> Self {
        let mut both = redis::pipe();
        both.cmd("ASKING").add_command(command);
        Self::Asking(both)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection is gone.
    Broken(String),
    /// What answers speaks another protocol.
    Foreign,
    /// The server answered with an error.
    Said(Said),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(reason) => out.write_str(reason),
            Self::Foreign => out.write_str("what answers is no Redis"),
            Self::Said(said) => said.fmt(out),
        }
    }
}

impl Wire {
    pub(super) fn new(
        connection: MultiplexedConnection,
        driver: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self {
            connection,
            _driver: Arc::new(Driver(tokio::spawn(driver))),
        }
    }

    /// # Cancel safety
    /// What was sent may take effect all the same.
    pub(super) async fn ask(&self, order: &Order) -> Result<Value, Fault> {
        let mut connection = self.connection.clone();
        let answer = match order {
            Order::Plain(command) => connection.send_packed_command(command).await,
            // The answer to ASKING is skipped: should it be an error, so is the command's.
            Order::Asking(both) => connection
                .send_packed_commands(both, 1, 1)
                .await
                .map(|mut answers| answers.pop().unwrap_or(Value::Nil)),
        };
        match answer {
            Ok(Value::ServerError(error)) => Err(Fault::Said(Said::read(&error))),
            Ok(value) => Ok(value),
            Err(error) if error.kind() == ErrorKind::Parse => Err(Fault::Foreign),
            Err(error) => Err(Fault::Broken(told(&error))),
        }
    }
}
