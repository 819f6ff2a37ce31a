//! The task that gets a server back. There is at most one a server, so that a crowd of callers makes one attempt.
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use futures_util::future::{join_all, try_join_all};
use tokio::time::Instant;

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

    /// Fresh connections to whoever holds the seat: the first of those who may that suits.
    async fn connect(&self) -> Result<Lines, String> {
        let holders = self.seat.holders().await?;
        let tried = holders.into_iter().map(|node| self.connect_to(node));
        let mut reasons = Vec::new();
        for tried in join_all(tried).await {
            match tried {
                Ok(lines) => return Ok(lines),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
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
        tokio::time::sleep_until(next_attempt).await;
    }
}
