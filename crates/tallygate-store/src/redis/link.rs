//! The way to the servers: connections, deadlines, circuits, redirections.
mod backoff;
mod circuits;
mod cluster;
mod dialer;
mod news;
mod open;
mod probe;
mod quiet;
mod said;
mod script;
mod seat;
mod sentinels;
mod server;
mod slot;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::circuits::Circuits;
use self::cluster::Cluster;
use self::dialer::Dialer;
use self::news::News;
pub(crate) use self::news::Notice;
use self::script::{Manner, Script};
use self::server::{Server, Trouble};
use self::wire::Order;
use super::found::RedisFindings;
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
    findings: RedisFindings,
    dialer: Arc<Dialer>,
    /// Dropped with the last link: subscriptions end.
    alive: watch::Sender<()>,
}

#[derive(Clone)]
enum Servers {
    One(Arc<Server>),
    Cluster(Arc<Cluster>),
}

impl Servers {
    fn all(&self) -> Vec<Arc<Server>> {
        match self {
            Self::One(server) => vec![server.clone()],
            Self::Cluster(cluster) => cluster.owners(),
        }
    }

    /// Asks some of them whether they answer. Circuits make of it what they do of calls.
    async fn ping(&self, some: &[Arc<Server>], patience: Duration) -> Result<(), Trouble> {
        let by = Instant::now() + patience;
        let ping = Order::Plain(redis::cmd("PING"));
        let answers = join_all(some.iter().map(|server| server.ask(&ping, by))).await;
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>();
        if let (Err(_), Self::Cluster(cluster)) = (&answers, self) {
            // Another may have taken its slots.
            cluster.refresh();
        }
        answers.map(drop)
    }
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
    /// A counter cannot be read, and nothing was done.
    #[error(
        "the key {key} of the store holds no counter, or one that a later version wrote: delete it, and its limits begin afresh"
    )]
    Unreadable {
        /// Its key, what cannot be printed escaped.
        key: String,
    },
}

impl Link {
    /// Connects, examines the servers, and makes connections for calls.
    ///
    /// # Errors
    /// When a server is not what the URL says, or cannot do what is needed of it.
    pub(crate) async fn open(options: &RedisOptions, script: &str) -> Result<Self, RedisOpenError> {
        open::open(options, script).await
    }

    /// What was seen at the start.
    pub(crate) fn findings(&self) -> &RedisFindings {
        &self.0.findings
    }

    /// Which calls may go out as one with a call of `tag`.
    pub(crate) fn route(&self, tag: u32) -> Route {
        match &self.0.servers {
            Servers::One(_) => Route::One,
            Servers::Cluster(_) => Route::Slot(slot::of_tag(tag)),
        }
    }

    /// Whether the servers are a Cluster: keys of different tags may then be on different servers.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.servers, Servers::Cluster(_))
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
        let script = &self.0.script;
        let answer = match &self.0.servers {
            Servers::One(server) => script.run(server, call, (Manner::Plain, by)).await,
            Servers::Cluster(cluster) => cluster.call(script, call, by).await,
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
        let servers = &self.0.servers;
        Ok(servers.ping(&servers.all(), self.0.timeout).await?)
    }

    /// Listens to `channels` until the receiver or the last link is dropped.
    ///
    /// A server that is lost, or is no longer the primary, is replaced and subscribed to anew; what was sent
    /// meanwhile is lost, and the receiver told so by [`Notice::Interrupted`] and [`Notice::Resumed`]. A receiver
    /// that leaves 1024 notices waiting loses what comes then, and is told so likewise.
    pub(crate) fn subscribe(&self, channels: Vec<String>) -> mpsc::Receiver<Notice> {
        let (to, from) = mpsc::channel(news::WAITING);
        let news = News {
            channels,
            servers: self.0.servers.clone(),
            dialer: self.0.dialer.clone(),
            patience: self.0.timeout,
        };
        tokio::spawn(news.listen(to, self.0.alive.subscribe()));
        from
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
            Trouble::Said(said, node) => Self::Refused {
                reason: format!("{node}: {said}"),
            },
        }
    }
}
