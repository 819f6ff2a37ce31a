//! Asking who owns which slot.
use std::sync::Weak;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;

use super::super::backoff::Backoff;
use super::super::wire::Order;
use super::Cluster;
use super::map::{Range, ranges};
use crate::redis::options::Node;

/// There is at most one refresh at a time.
#[derive(Default)]
pub(super) struct Refresher {
    running: bool,
    /// Somebody found the map wrong since the running refresh began.
    again: bool,
    /// Who is asked changes from time to time: one node alone may be cut off and know old things only.
    turn: usize,
}

impl Cluster {
    /// Has the map asked for, unless that is under way.
    pub(in super::super) fn refresh(&self) {
        let mut refresher = self.refresher.lock();
        if refresher.running {
            refresher.again = true;
            return;
        }
        refresher.running = true;
        tokio::spawn(refresh(self.me.clone()));
    }

    /// Asks some nodes at once for the map and learns what the first of them answers.
    ///
    /// # Errors
    /// What each said when none answered.
    pub(in super::super) async fn learn(&self) -> Result<(), Vec<(Node, String)>> {
        let asked = self.to_ask();
        let mut answers: FuturesUnordered<_> = asked.iter().map(|node| self.ask(node)).collect();
        let mut silent = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(ranges) => {
                    self.map.write().learn(ranges, &self.tools);
                    return Ok(());
                }
                Err(silence) => silent.push(silence),
            }
        }
        Err(silent)
    }

    /// All nodes that were heard of or are named in the URL; those that are well first, at another one each time.
    fn to_ask(&self) -> Vec<Node> {
        let mut nodes = self.map.read().nodes();
        for seed in &self.seeds {
            if !nodes.contains(seed) {
                nodes.push(seed.clone());
            }
        }
        let turn = self.next_turn() % nodes.len().max(1);
        nodes.rotate_left(turn);
        nodes.truncate(ASKED_AT_ONCE);
        nodes
    }

    fn next_turn(&self) -> usize {
        let mut refresher = self.refresher.lock();
        refresher.turn = refresher.turn.wrapping_add(1);
        refresher.turn
    }

    /// Some node, another one each time.
    pub(in super::super) fn any_node(&self) -> Option<Node> {
        self.to_ask().into_iter().next()
    }

    async fn ask(&self, node: &Node) -> Result<Vec<Range>, (Node, String)> {
        let answer = self.ask_one(node).await;
        answer.map_err(|reason| (node.clone(), reason))
    }

    async fn ask_one(&self, node: &Node) -> Result<Vec<Range>, String> {
        let wire = self.tools.dialer.wire(node).await;
        let wire = wire.map_err(|error| error.to_string())?;
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let order = Order::Plain(command);
        let answer = timeout(self.tools.timeout, wire.ask(&order)).await;
        let answer = answer.map_err(|_| format!("no answer within {:?}", self.tools.timeout))?;
        let answer = answer.map_err(|fault| fault.to_string())?;
        ranges(answer, node)
            .filter(|ranges| !ranges.is_empty())
            .ok_or_else(|| "it knows no owner of any slot".to_owned())
    }

    /// Whether the refresh is to end, because nothing is left to learn.
    fn is_done(&self) -> bool {
        let mut refresher = self.refresher.lock();
        let again = std::mem::take(&mut refresher.again);
        refresher.running = again || !self.map.read().is_well();
        !refresher.running
    }
}

/// Asks for the map until it is whole and its owners are well, or nobody has the link any more.
async fn refresh(cluster: Weak<Cluster>) {
    let mut backoff = Backoff::up_to(LONGEST_PAUSE);
    while let Some(cluster) = cluster.upgrade() {
        // An answer of any node will do; without one the next turn asks others.
        let learned = cluster.learn().await.is_ok();
        if learned && cluster.is_done() {
            return;
        }
        drop(cluster);
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// More than may be expected to be cut off or dead at a time.
const ASKED_AT_ONCE: usize = 3;

/// A failover takes a second or two: what is asked for more seldom is learned late.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
