//! Where a server is found, and what it must be to serve.
use std::time::Duration;

use redis::Value;
use tokio::time::timeout;

use super::wire::{Order, Wire};
use crate::redis::options::Node;

/// A place in the topology that one server holds at a time.
pub(super) enum Seat {
    /// The one server of a URL.
    Alone(Node),
}

impl Seat {
    /// The server that holds the seat now.
    pub(super) async fn holder(&self) -> Result<Node, String> {
        match self {
            Self::Alone(node) => Ok(node.clone()),
        }
    }

    /// What the seat is called before anybody has looked who holds it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Alone(node) => node.to_string(),
        }
    }

    /// Whether the server behind `wire` can serve: it answers, has loaded its data, and is no replica.
    pub(super) async fn suits(&self, wire: &Wire, patience: Duration) -> Result<(), String> {
        ask(wire, redis::cmd("PING"), patience).await?;
        match self {
            Self::Alone(_) => is_primary(wire, patience).await,
        }
    }
}

async fn is_primary(wire: &Wire, patience: Duration) -> Result<(), String> {
    let mut command = redis::cmd("INFO");
    command.arg("replication");
    let answer = ask(wire, command, patience).await?;
    let text: String = redis::from_redis_value(answer).unwrap_or_default();
    if text.contains("role:master") {
        return Ok(());
    }
    Err("it is a replica".to_owned())
}

async fn ask(wire: &Wire, command: redis::Cmd, patience: Duration) -> Result<Value, String> {
    match timeout(patience, wire.ask(&Order::Plain(command))).await {
        Ok(answer) => answer.map_err(|fault| fault.to_string()),
        Err(_) => Err(format!("no answer within {patience:?}")),
    }
}
