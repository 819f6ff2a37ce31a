//! Whether a process reaches the server, and what it can know of that.
use super::{Inner, Network};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How often a process looks whether a server that it knows to be out of reach is back.
const PROBE: Duration = Duration::from_millis(100);

/// A process's way to the server.
pub(super) struct Reach {
    /// When it could not reach the server.
    dark: Vec<(Instant, Instant)>,
    /// When answers came last, the later at the end.
    answered: [Instant; 2],
    /// Whether it knows that it cannot.
    circuit: watch::Sender<usize>,
    /// When it last knew.
    knew: Option<Instant>,
}

impl Default for Reach {
    fn default() -> Self {
        Self {
            dark: Vec::new(),
            answered: [Instant::now(); 2],
            circuit: watch::Sender::new(0),
            knew: None,
        }
    }
}

impl Reach {
    /// Cannot reach the server for so long.
    pub(super) fn darken(&mut self, length: Duration) {
        let now = Instant::now();
        self.dark.push((now, now + length));
    }

    /// For how long of the time since then it could not reach the server.
    pub(super) fn darkness(&self, since: Instant) -> Duration {
        let now = Instant::now();
        let dark = self.dark.iter();
        dark.map(|(from, till)| {
            (*till)
                .min(now)
                .saturating_duration_since((*from).max(since))
        })
        .sum()
    }

    /// An answer has come.
    pub(super) fn hear(&mut self) {
        let now = Instant::now();
        if self.answered[1] < now {
            self.answered = [self.answered[1], now];
        }
    }

    /// Whether it may take the server to be out of reach: it knows so, or had no answer for that long up to now.
    pub(super) fn is_silent(&self, length: Duration) -> bool {
        let now = Instant::now();
        let answered = self.answered.iter().rev().find(|at| **at < now);
        let waits = answered.is_none_or(|at| now - *at >= length);
        waits || self.knows() || self.knew == Some(now)
    }

    /// Whether it knows that it cannot reach the server.
    pub(super) fn knows(&self) -> bool {
        *self.circuit.borrow() > 0
    }

    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.circuit.subscribe()
    }

    fn learn(&mut self) {
        self.set(1);
    }

    fn forget(&mut self) {
        self.knew = Some(Instant::now());
        self.set(0);
    }

    /// Nobody is woken by it: a watch wakes those who wait in an order of its own, and a seed is to give the same log.
    fn set(&mut self, open: usize) {
        self.circuit.send_if_modified(|circuits| {
            *circuits = open;
            false
        });
    }
}

impl Network {
    /// Nobody reaches the server for a while.
    pub(in crate::redis) fn be_away(&self, length: Duration) {
        self.with(|inner| {
            inner.note(&format!("the server is away for {length:?}"));
            inner.stay_away(length);
        });
    }

    /// A process has had no answer: where it has circuits, it knows from now on that it cannot reach the server, until it can.
    pub(super) fn break_circuit(self: &Arc<Self>, seat: usize) {
        let breaks = self.with(|inner| {
            let breaks = inner.has_circuits && !inner.is_reached(seat);
            let reach = inner.reach(seat);
            let is_news = breaks && !reach.knows();
            if is_news {
                reach.learn();
                inner.note(&format!("n{seat} knows that it is cut off"));
            }
            is_news
        });
        if breaks {
            tokio::spawn(self.clone().mend_circuit(seat));
        }
    }

    async fn mend_circuit(self: Arc<Self>, seat: usize) {
        loop {
            sleep(PROBE).await;
            let is_back = self.with(|inner| {
                let is_back = inner.is_reached(seat);
                if is_back {
                    inner.reach(seat).forget();
                    inner.note(&format!("n{seat} knows that it is back"));
                }
                is_back
            });
            if is_back {
                return;
            }
        }
    }
}

impl Inner {
    /// For how long of the time since then a process could not reach the server.
    pub(in crate::redis) fn darkness(&mut self, seat: usize, since: Instant) -> Duration {
        self.reach(seat).darkness(since)
    }

    /// Whether a process may take the server to be out of reach: it knows so, or had no answer for that long up to now.
    pub(in crate::redis) fn is_silent(&mut self, seat: usize, length: Duration) -> bool {
        self.reach(seat).is_silent(length)
    }
}
