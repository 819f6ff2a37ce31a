//! One server: its connections, and a circuit that opens when it fails.
mod keeper;

pub(super) use self::keeper::follow;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::LinkError;
use super::circuits::Circuits;
use super::dialer::Dialer;
use super::said::Said;
use super::seat::Seat;
use super::wire::{Fault, Order, Wire};
use crate::redis::options::Node;

/// A server and the connections to it.
///
/// Calls go out on the connections in turn. A failure takes the server out of service: calls are then refused at
/// once, while one task in the background tries to get it back.
pub(super) struct Server {
    seat: Seat,
    tools: Tools,
    state: watch::Sender<State>,
    born: Instant,
    /// When it answered last, in milliseconds since it was born.
    heard: AtomicU64,
    me: Weak<Self>,
}

/// What all servers of a link have in common.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) dialer: Arc<Dialer>,
    pub(super) circuits: Circuits,
    /// The longest a command may take.
    pub(super) timeout: Duration,
    /// How many connections a server gets.
    pub(super) connections: u8,
}

enum State {
    /// Nobody has called yet.
    Idle,
    /// The first attempt since it was last well; callers wait for it.
    Connecting,
    Up(Arc<Lines>),
    /// The circuit is open.
    Down(Outage),
}

/// The connections to one server at a time.
pub(super) struct Lines {
    node: Node,
    wires: Vec<Wire>,
    next: AtomicUsize,
}

impl Lines {
    fn next(&self) -> Option<&Wire> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.wires.get(turn % self.wires.len().max(1))
    }
}

#[derive(Clone)]
struct Outage {
    reason: String,
    next_attempt: Instant,
}

impl Outage {
    fn new(reason: String) -> Self {
        Self {
            reason,
            next_attempt: Instant::now(),
        }
    }
}

/// Why a server gave no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is out of service, or was just taken out of it.
    Down(LinkError),
    /// It is well and said something that the caller must see to, at this node.
    Said(Said, Node),
}

impl Server {
    pub(super) fn new(seat: Seat, tools: Tools) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            seat,
            tools,
            state: watch::Sender::new(State::Idle),
            born: Instant::now(),
            heard: AtomicU64::new(0),
            me: me.clone(),
        })
    }

    /// Whether its circuit is open.
    pub(super) fn is_down(&self) -> bool {
        matches!(*self.state.borrow(), State::Down(_))
    }

    /// When it answered last, if it is in service: of one that is not, its keeper hears.
    pub(super) fn last_heard(&self) -> Option<Instant> {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.lines_now().map(|_| self.born + heard)
    }

    fn hears(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }

    /// Who holds the seat: for sure while it is well, and otherwise one after the other of those who may.
    pub(super) async fn node(&self, turn: usize) -> Result<Node, String> {
        if let Some(lines) = self.lines_now() {
            return Ok(lines.node.clone());
        }
        let holders = self.seat.holders().await?;
        let holder = holders.get(turn % holders.len().max(1));
        holder
            .cloned()
            .ok_or_else(|| "there is no server".to_owned())
    }

    /// Ends when another than `node` holds the seat.
    pub(super) async fn moved_from(&self, node: &Node) {
        let mut states = self.state.subscribe();
        let moved =
            states.wait_for(|state| matches!(state, State::Up(lines) if lines.node != *node));
        if moved.await.is_err() {
            std::future::pending().await
        }
    }

    /// Sends a command and waits for its answer until `by`.
    ///
    /// A connection that turns out to be closed is made anew and the command sent again, once: an idle one may have
    /// been closed long ago.
    pub(super) async fn ask(&self, order: &Order, by: Instant) -> Result<Value, Trouble> {
        match self.try_ask(order, by).await {
            Err(Attempt::Lost(_)) => {}
            Err(Attempt::Over(trouble)) => return Err(trouble),
            Ok(value) => return Ok(value),
        }
        match self.try_ask(order, by).await {
            Err(Attempt::Lost(reason)) => Err(Trouble::Down(self.down(reason, AGAIN))),
            Err(Attempt::Over(trouble)) => Err(trouble),
            Ok(value) => Ok(value),
        }
    }

    async fn try_ask(&self, order: &Order, by: Instant) -> Result<Value, Attempt> {
        let lines = self.lines(by).await?;
        let Some(wire) = lines.next() else {
            return Err(Attempt::Lost("there is no connection".to_owned()));
        };
        match timeout_at(by, wire.ask(order)).await {
            Ok(Ok(value)) => {
                self.hears();
                Ok(value)
            }
            Ok(Err(Fault::Said(said))) => Err(Attempt::Over(self.heard(&lines, said))),
            Ok(Err(broken)) => {
                self.fail(&lines, State::Connecting, Suspicion::Gone);
                Err(Attempt::Lost(broken.to_string()))
            }
            Err(_) => {
                let reason = self.silence();
                let outage = State::Down(Outage::new(reason.clone()));
                self.fail(&lines, outage, Suspicion::Silent);
                Err(Attempt::Over(Trouble::Down(self.down(reason, AGAIN))))
            }
        }
    }

    /// The connections, made first if there are none.
    async fn lines(&self, by: Instant) -> Result<Arc<Lines>, Attempt> {
        if let Some(lines) = self.lines_now() {
            return Ok(lines);
        }
        self.wake();
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| !matches!(state, State::Idle | State::Connecting));
        let settled = timeout_at(by, settled).await.ok();
        let found = settled.and_then(Result::ok).map(|state| match &*state {
            State::Up(lines) => Ok(lines.clone()),
            State::Down(outage) => Err(Some(outage.clone())),
            State::Idle | State::Connecting => Err(None),
        });
        // The state is no longer borrowed here: what follows changes it.
        found.unwrap_or(Err(None)).map_err(|outage| {
            let down = outage.map_or_else(|| self.give_up(), |outage| self.outage(outage));
            Attempt::Over(Trouble::Down(down))
        })
    }

    fn lines_now(&self) -> Option<Arc<Lines>> {
        match &*self.state.borrow() {
            State::Up(lines) => Some(lines.clone()),
            _ => None,
        }
    }

    /// Lets the first call connect.
    fn wake(&self) {
        let idle = |state: &mut State| matches!(state, State::Idle);
        if self.change(idle, State::Connecting) {
            self.keep(Suspicion::Gone, None);
        }
    }

    /// Opens the circuit because connecting takes longer than a caller may wait; the attempt goes on.
    fn give_up(&self) -> LinkError {
        let reason = self.silence();
        let connecting = |state: &mut State| matches!(state, State::Connecting);
        self.change(connecting, State::Down(Outage::new(reason.clone())));
        self.down(reason, AGAIN)
    }

    /// What an error of the server means for its circuit.
    fn heard(&self, lines: &Arc<Lines>, said: Said) -> Trouble {
        let suspicion = match &said {
            Said::NotNow(_) => Suspicion::Silent,
            Said::NotHere(_) => Suspicion::Gone,
            Said::Alone(reason) => return Trouble::Down(self.down(reason.clone(), AGAIN)),
            _ => return Trouble::Said(said, lines.node.clone()),
        };
        let reason = said.to_string();
        let outage = State::Down(Outage::new(reason.clone()));
        self.fail(lines, outage, suspicion);
        Trouble::Down(self.down(reason, AGAIN))
    }

    /// Takes the server out of service, unless others have done so since `lines` were in use.
    fn fail(&self, lines: &Arc<Lines>, to: State, suspicion: Suspicion) {
        let current =
            |state: &mut State| matches!(state, State::Up(now) if Arc::ptr_eq(now, lines));
        if self.change(current, to) {
            self.keep(suspicion, Some(lines.clone()));
        }
    }

    /// Changes the state where `fits`, and counts open circuits.
    fn change(&self, fits: impl FnOnce(&mut State) -> bool, to: State) -> bool {
        self.state.send_if_modified(|state| {
            let changes = fits(state);
            if changes {
                self.count(state, &to);
                *state = to;
            }
            changes
        })
    }

    fn count(&self, from: &State, to: &State) {
        match (from, to) {
            (State::Down(_), State::Down(_)) => {}
            (_, State::Down(_)) => self.tools.circuits.opened(),
            (State::Down(_), _) => self.tools.circuits.closed(),
            _ => {}
        }
    }

    fn outage(&self, outage: Outage) -> LinkError {
        let left = outage
            .next_attempt
            .saturating_duration_since(Instant::now());
        self.down(outage.reason, left.max(AGAIN))
    }

    fn down(&self, reason: String, retry_after: Duration) -> LinkError {
        LinkError::Down {
            reason: format!("{}: {reason}", self.name()),
            retry_after,
        }
    }

    fn name(&self) -> String {
        self.lines_now()
            .map_or_else(|| self.seat.name(), |lines| lines.node.to_string())
    }

    fn silence(&self) -> String {
        format!("no answer within {:?}", self.tools.timeout)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.is_down() {
            self.tools.circuits.closed();
        }
    }
}

/// Why one attempt gave no answer.
enum Attempt {
    /// The connection was closed.
    Lost(String),
    /// Another attempt makes no sense.
    Over(Trouble),
}

/// What is thought of the connections of a server that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspicion {
    /// They are of no use.
    Gone,
    /// They may answer again.
    Silent,
}

/// When a caller is to try again where nothing better is known: the circuit is probed at once.
const AGAIN: Duration = Duration::from_millis(10);
