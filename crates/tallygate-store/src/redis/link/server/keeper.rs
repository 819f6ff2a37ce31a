//! The task that gets a server back. There is at most one a server, so that a crowd of callers makes one attempt.
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::super::backoff::Backoff;
use super::super::wire::Wire;
use super::{Lines, Outage, Server, State, Suspicion};
use crate::redis::options::Node;

impl Server {
    /// Starts the task. Whoever took the state from in service (or idle) to out of it does so, and nobody else.
    pub(super) fn keep(&self, suspicion: Suspicion, lines: Option<Arc<Lines>>) {
        let suspects = lines.filter(|_| suspicion == Suspicion::Silent);
        tokio::spawn(keep(self.me.clone(), suspects));
    }

    /// Fresh connections to whoever holds the seat: the likeliest of those who may that suits. Once one does, those
    /// that are likelier get a moment only: they may be dead.
    async fn connect(&self) -> Result<Lines, String> {
        let holders = self.seat.holders().await?;
        let try_one = async |(rank, node)| (rank, self.connect_to(node).await);
        let mut tried: FuturesUnordered<_> = holders.into_iter().enumerate().map(try_one).collect();
        let mut until = Instant::now() + FOREVER;
        let mut best: Option<(usize, Lines)> = None;
        let mut reasons = Vec::new();
        while let Ok(Some((rank, outcome))) = timeout_at(until, tried.next()).await {
            match outcome {
                Ok(lines) if best.as_ref().is_none_or(|(known, _)| rank < *known) => {
                    best = Some((rank, lines));
                    until = until.min(Instant::now() + MOMENT);
                }
                Ok(_) => {}
                Err(reason) => reasons.push(reason),
            }
        }
        best.map(|(_, lines)| lines)
            .ok_or_else(|| reasons.join("; "))
    }

    async fn connect_to(&self, node: Node) -> Result<Lines, String> {
        let dial = (0..self.tools.connections).map(|_| self.tools.dialer.wire(&node));
        let wires = try_join_all(dial).await;
        let lines = Lines {
            wires: wires.map_err(|error| error.to_string())?,
            node,
            next: AtomicUsize::new(0),
        };
        match lines.wires.first() {
            Some(wire) => self.suits(wire).await.map(|()| lines),
            None => Err("there is no connection".to_owned()),
        }
    }

    /// Whether all of `lines` answer again.
    async fn recovers(&self, lines: &Lines) -> bool {
        let asked = lines.wires.iter().map(|wire| self.suits(wire));
        try_join_all(asked).await.is_ok()
    }

    async fn suits(&self, wire: &Wire) -> Result<(), String> {
        self.seat.suits(wire, self.tools.timeout).await
    }

    /// Goes from a server that is well to the one that is named instead of it. A primary that only its sentinels cannot
    /// reach goes on taking writes, which are lost when they find together again.
    async fn follow(&self) {
        let Some(lines) = self.lines_now() else {
            return;
        };
        // While those who name disagree, or are silent, nothing is known.
        let elsewhere = self.seat.holders().await;
        if elsewhere.is_ok_and(|holders| !holders.contains(&lines.node)) {
            self.fail(&lines, State::Connecting, Suspicion::Gone);
        }
    }

    fn set(&self, to: State) {
        self.change(|_| true, to);
    }
}

/// Tries until the server serves again, or nobody has the link any more.
async fn keep(server: Weak<Server>, suspects: Option<Arc<Lines>>) {
    if let Some(lines) = suspects
        && let Some(server) = server.upgrade()
        && server.recovers(&lines).await
    {
        return server.set(State::Up(lines));
    }
    let mut backoff: Option<Backoff> = None;
    while let Some(server) = server.upgrade() {
        let reason = match server.connect().await {
            Ok(lines) => return server.set(State::Up(Arc::new(lines))),
            Err(reason) => reason,
        };
        let backoff = backoff.get_or_insert_with(|| Backoff::up_to(server.seat.longest_pause()));
        let next_attempt = Instant::now() + backoff.pause();
        server.set(State::Down(Outage {
            reason,
            next_attempt,
        }));
        drop(server);
        sleep_until(next_attempt).await;
    }
}

/// Follows the seat from server to server until nobody has the link any more.
pub(in super::super) async fn follow(server: Weak<Server>) {
    loop {
        sleep(FOLLOW_EVERY).await;
        let Some(server) = server.upgrade() else {
            return;
        };
        server.follow().await;
    }
}

/// A primary that is cut off is left within this time of the vote.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

const MOMENT: Duration = Duration::from_millis(50);

/// Longer than any of what is waited for takes by its own deadline.
const FOREVER: Duration = Duration::from_secs(3600);
