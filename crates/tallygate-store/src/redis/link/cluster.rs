//! A Cluster: who owns which slot, and what to do when that changes.
mod map;
mod refresh;

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redis::Value;
use tokio::time::{Instant, sleep_until};

use self::map::SlotMap;
use self::refresh::Refresher;
use super::said::Said;
use super::script::{Manner, Script};
use super::server::{Server, Tools, Trouble};
use super::{Call, LinkError, slot};
use crate::redis::options::Node;

/// Servers that share the slots among them.
///
/// The map of the slots is a guess that servers correct: they redirect calls that are not theirs. Whenever one does,
/// or is out of reach, the whole map is asked for anew, in the background, until every slot has an owner that is
/// well.
///
/// The cluster client of the redis crate was measured first (1.8.1, 2026-11): after a primary was killed its calls were
/// answered as soon as ours, but after one was stopped (`SIGSTOP`) every call for its slots waited for its whole
/// deadline, and went on doing so 11 s after a replica had taken over: silence makes it ask for no new map.
pub(super) struct Cluster {
    seeds: Vec<Node>,
    tools: Tools,
    map: RwLock<SlotMap>,
    refresher: Mutex<Refresher>,
    me: Weak<Self>,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Node>, tools: Tools) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            seeds,
            tools,
            map: RwLock::new(SlotMap::new()),
            refresher: Mutex::new(Refresher::default()),
            me: me.clone(),
        })
    }

    /// Runs the script where the slot of the call's tag is, following redirections.
    pub(super) async fn call(
        &self,
        script: &Script,
        call: &Call,
        by: Instant,
    ) -> Result<Value, Trouble> {
        let slot = slot::of_tag(call.tag);
        let mut server = self.owner(slot)?;
        let mut manner = Manner::Plain;
        for hop in 1.. {
            let (said, node) = match script.run(&server, call, (manner, by)).await {
                Err(Trouble::Said(said, node)) => (said, node),
                Err(down) => {
                    self.refresh();
                    return Err(down);
                }
                answer => return answer,
            };
            // While a slot changes hands, its two servers may send callers to each other for a moment.
            if hop >= HOPS_AT_ONCE || said == Said::TryAgain {
                sleep_until(by.min(Instant::now() + PAUSE)).await;
            }
            // With less time than this a server that is well would look like a silent one.
            if Instant::now() + PAUSE >= by {
                break;
            }
            (server, manner) = match said {
                Said::Moved { slot, to } => (self.moved(slot, to.seen_from(&node)), Manner::Plain),
                Said::Ask { to } => (self.server(to.seen_from(&node)), Manner::Asking),
                Said::TryAgain => (self.owner(slot)?, Manner::Plain),
                other => return Err(Trouble::Said(other, node)),
            };
        }
        Err(Trouble::Down(LinkError::Down {
            reason: format!("slot {slot} is being moved"),
            retry_after: PAUSE,
        }))
    }

    /// All servers that own slots.
    pub(super) fn owners(&self) -> Vec<Arc<Server>> {
        self.map.read().owners()
    }

    /// Each node that owns slots, with one of them.
    pub(super) fn one_slot_each(&self) -> Vec<(Node, u16)> {
        self.map.read().one_slot_each()
    }

    fn owner(&self, slot: u16) -> Result<Arc<Server>, Trouble> {
        let owner = self.map.read().owner(slot);
        owner.ok_or_else(|| {
            self.refresh();
            Trouble::Down(LinkError::Down {
                reason: format!("no server of the Cluster owns slot {slot}"),
                retry_after: PAUSE,
            })
        })
    }

    /// Notes that `slot` is at `node`; others may have moved with it.
    fn moved(&self, slot: u16, node: Node) -> Arc<Server> {
        let server = self.server(node);
        self.map.write().give(slot, &server);
        self.refresh();
        server
    }

    fn server(&self, node: Node) -> Arc<Server> {
        self.map.write().server(node, &self.tools)
    }
}

/// Redirections that a call follows without a pause: to the new owner, and on to where the slot is going.
const HOPS_AT_ONCE: u32 = 3;

/// How long a slot is given to arrive.
const PAUSE: Duration = Duration::from_millis(10);
