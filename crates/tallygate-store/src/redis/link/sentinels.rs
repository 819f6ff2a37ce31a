//! Who is the primary, by the word of sentinels.
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::{Instant, timeout, timeout_at};

use super::dialer::{DialError, Dialer};
use super::said::Said;
use super::wire::{Fault, Order};
use crate::redis::options::Node;

/// Sentinels that watch over one primary.
pub(super) struct Sentinels {
    pub(super) nodes: Vec<Node>,
    pub(super) master: String,
    pub(super) dialer: Dialer,
    /// The longest one may think.
    pub(super) timeout: Duration,
}

/// What one sentinel gave instead of an address.
#[derive(Debug)]
pub(super) enum Silence {
    Dial(DialError),
    /// It knows nobody by that name.
    Unknown,
    /// It is none.
    NoSentinel,
    Said(String),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(out),
            Self::Unknown => out.write_str("it knows no master of that name"),
            Self::NoSentinel => out.write_str("it is no sentinel"),
            Self::Said(text) => out.write_str(text),
        }
    }
}

impl Sentinels {
    /// Whom the sentinels name, those named by more of them first: while the primary changes they disagree.
    ///
    /// # Errors
    /// What each said when none named anybody.
    pub(super) async fn named(&self) -> Result<Vec<Node>, Vec<(Node, Silence)>> {
        let mut answers: FuturesUnordered<_> =
            self.nodes.iter().map(|node| self.ask(node)).collect();
        let mut votes: Vec<(Node, usize)> = Vec::new();
        let mut silent = Vec::new();
        // Each answers or fails within its own deadlines; once one has answered, the others get a moment only.
        let mut until = Instant::now() + Duration::from_secs(3600);
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            match answer {
                Ok(named) => {
                    vote(&mut votes, named);
                    until = until.min(Instant::now() + MOMENT);
                }
                Err(silence) => silent.push(silence),
            }
        }
        if votes.is_empty() {
            return Err(silent);
        }
        votes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Ok(votes.into_iter().map(|(node, _)| node).collect())
    }

    async fn ask(&self, node: &Node) -> Result<Node, (Node, Silence)> {
        let named = self.ask_one(node).await;
        named.map_err(|silence| (node.clone(), silence))
    }

    async fn ask_one(&self, node: &Node) -> Result<Node, Silence> {
        let wire = self.dialer.wire(node).await.map_err(Silence::Dial)?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let order = Order::Plain(command);
        match timeout(self.timeout, wire.ask(&order)).await {
            Err(_) => Err(Silence::Dial(DialError::Silent(self.timeout))),
            Ok(Ok(answer)) => address(answer),
            Ok(Err(Fault::Broken(reason))) => Err(Silence::Dial(DialError::Broken(reason))),
            Ok(Err(Fault::Foreign)) => Err(Silence::Dial(DialError::Foreign)),
            Ok(Err(Fault::Said(Said::Refused(text)))) if text.contains("unknown command") => {
                Err(Silence::NoSentinel)
            }
            Ok(Err(Fault::Said(said))) => Err(Silence::Said(said.to_string())),
        }
    }
}

fn vote(votes: &mut Vec<(Node, usize)>, named: Node) {
    match votes.iter_mut().find(|(node, _)| *node == named) {
        Some((_, count)) => *count += 1,
        None => votes.push((named, 1)),
    }
}

fn address(answer: Value) -> Result<Node, Silence> {
    if answer == Value::Nil {
        return Err(Silence::Unknown);
    }
    let (host, port) = redis::from_redis_value::<(String, u16)>(answer)
        .map_err(|_| Silence::Said("it names no address".to_owned()))?;
    Ok(Node { host, port })
}

/// How long the other sentinels are listened to after the first.
const MOMENT: Duration = Duration::from_millis(50);
