//! Where a server is found, and what it must be to serve.
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::timeout;

use super::sentinels::Sentinels;
use super::wire::{Order, Wire};
use crate::redis::options::Node;

/// A place in the topology that one server holds at a time.
pub(super) enum Seat {
    /// The one server of a URL.
    Alone(Node),
    /// The primary that sentinels name.
    Elected(Sentinels),
    /// A node of a Cluster.
    Member(Node),
}

impl Seat {
    /// Who may hold the seat now, the likeliest first. Never empty.
    pub(super) async fn holders(&self) -> Result<Vec<Node>, String> {
        match self {
            Self::Alone(node) | Self::Member(node) => Ok(vec![node.clone()]),
            Self::Elected(sentinels) => sentinels.named().await.map_err(|silent| {
                let said = silent
                    .iter()
                    .map(|(node, silence)| format!("sentinel {node}: {silence}"));
                said.collect::<Vec<_>>().join("; ")
            }),
        }
    }

    /// What the seat is called while nobody is known to hold it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Alone(node) | Self::Member(node) => node.to_string(),
            Self::Elected(sentinels) => format!("master {}", sentinels.master),
        }
    }

    /// The longest pause between attempts to reach a server. Where another takes over, which is a matter of a second
    /// or two, it is found the sooner the more often one looks.
    pub(super) fn longest_pause(&self) -> Duration {
        match self {
            Self::Alone(_) => Duration::from_secs(1),
            Self::Elected(_) | Self::Member(_) => Duration::from_millis(250),
        }
    }

    /// Whether the server behind `wire` can serve: it answers, has loaded its data, is no replica, and its Cluster is well.
    pub(super) async fn suits(&self, wire: &Wire, patience: Duration) -> Result<(), String> {
        ask(wire, redis::cmd("PING"), patience).await?;
        let (command, section, wanted, otherwise) = match self {
            Self::Alone(_) | Self::Elected(_) => {
                ("INFO", "replication", "role:master", "it is a replica")
            }
            Self::Member(_) => (
                "CLUSTER",
                "INFO",
                "cluster_state:ok",
                "the Cluster is not well",
            ),
        };
        let mut command = redis::cmd(command);
        command.arg(section);
        let answer = ask(wire, command, patience).await?;
        let text: String = redis::from_redis_value(answer).unwrap_or_default();
        if text.contains(wanted) {
            return Ok(());
        }
        Err(otherwise.to_owned())
    }
}

async fn ask(wire: &Wire, command: Cmd, patience: Duration) -> Result<Value, String> {
    match timeout(patience, wire.ask(&Order::Plain(command))).await {
        Ok(answer) => answer.map_err(|fault| fault.to_string()),
        Err(_) => Err(format!("no answer within {patience:?}")),
    }
}
