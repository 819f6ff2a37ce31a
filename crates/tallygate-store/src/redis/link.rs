//! The way to the servers: connections, deadlines, circuits, redirections.
mod backoff;
mod circuits;
mod dialer;
mod said;
mod script;
mod seat;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use self::circuits::Circuits;
use self::dialer::Dialer;
use self::said::Said;
use self::script::Script;
use self::seat::Seat;
use self::server::{Server, Tools, Trouble};
use self::wire::Order;
use super::opening::RedisOpenError;
use super::options::RedisOptions;

/// The way to the servers of one URL, for the calls of one script. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    script: Script,
    servers: Servers,
    circuits: Circuits,
    timeout: Duration,
}

enum Servers {
    One(Arc<Server>),
}

/// One call of the script.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// What decides where the call goes: all keys carry its 8 lower-case hex digits as their hash tag.
    pub(crate) tag: u32,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) args: Vec<Vec<u8>>,
}

/// What calls have to have in common to go out as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// All of them.
    One,
    /// Those of a slot of a Cluster.
    Slot(u16),
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// It was not sent, or it is unknown whether it took effect: the same call may be sent again.
    #[error("{reason}")]
    Down {
        /// The server, and what was seen.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The server answered with an error: out of memory, not permitted, an error in the script.
    #[error("{reason}")]
    Refused {
        /// The server, and what it said.
        reason: String,
    },
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be used.
    pub(crate) async fn open(options: &RedisOptions, script: &str) -> Result<Self, RedisOpenError> {
        let dialer = Dialer::new(options).map_err(|ca| RedisOpenError::Authorities {
            path: ca.path,
            reason: ca.reason,
        })?;
        let circuits = Circuits::new();
        let tools = Tools {
            dialer: Arc::new(dialer),
            circuits: circuits.clone(),
            timeout: options.timeout,
            connections: options.connections,
        };
        let unreachable = |reason: String| RedisOpenError::Unreachable {
            host: options.shown(),
            reason,
        };
        let node = options.nodes.first().cloned();
        let node = node.ok_or_else(|| unreachable("no server is named".to_owned()))?;
        let link = Self(Arc::new(Inner {
            script: Script::new(script),
            servers: Servers::One(Server::new(Seat::Alone(node), tools)),
            circuits,
            timeout: options.timeout,
        }));
        let answer = link.ping().await;
        answer.map_err(|error| unreachable(error.to_string()))?;
        Ok(link)
    }

    /// Which calls may go out as one with a call of `tag`.
    pub(crate) fn route(&self, _tag: u32) -> Route {
        match &self.0.servers {
            Servers::One(_) => Route::One,
        }
    }

    /// Whether the servers are a Cluster: keys of different tags may then be on different servers.
    pub(crate) fn is_cluster(&self) -> bool {
        match &self.0.servers {
            Servers::One(_) => false,
        }
    }

    /// Runs the script, and answers within the command deadline.
    ///
    /// # Errors
    /// When a server is out of reach or refuses the call.
    ///
    /// # Cancel safety
    /// A call that is given up may take effect all the same.
    pub(crate) async fn call(&self, call: &Call) -> Result<Vec<Value>, LinkError> {
        let by = Instant::now() + self.0.timeout;
        let answer = match &self.0.servers {
            Servers::One(server) => self.0.script.run(server, call, by).await,
        };
        match answer {
            Ok(Value::Array(values)) => Ok(values),
            Ok(value) => Ok(vec![value]),
            Err(trouble) => Err(trouble.into()),
        }
    }

    /// Whether the servers answer.
    ///
    /// # Errors
    /// When one does not.
    pub(crate) async fn ping(&self) -> Result<(), LinkError> {
        let by = Instant::now() + self.0.timeout;
        match &self.0.servers {
            Servers::One(server) => {
                let ping = Order::Plain(redis::cmd("PING"));
                server.ask(&ping, by).await?;
                Ok(())
            }
        }
    }

    /// How many servers are out of reach just now: their circuits are open, and calls to them fail at once.
    pub(crate) fn open_circuits(&self) -> watch::Receiver<usize> {
        self.0.circuits.watch()
    }
}

impl From<Trouble> for LinkError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Down(down) => down,
            Trouble::Said(Said::TryAgain, node) => Self::Down {
                reason: format!("{node}: {}", Said::TryAgain),
                retry_after: Duration::from_millis(10),
            },
            Trouble::Said(said, node) => Self::Refused {
                reason: format!("{node}: {said}"),
            },
        }
    }
}
