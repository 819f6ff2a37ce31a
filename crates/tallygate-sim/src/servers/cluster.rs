//! A cluster.

mod forming;
mod migration;
mod view;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub use migration::Migration;

use super::patience::{self, Seen};
use super::{Engine, Server, ServerError};
use forming::SLOTS;

/// After so many milliseconds without a word a node is thought dead; a replica takes over in about three times that.
const NODE_TIMEOUT_MS: u32 = 1000;

/// Nodes that share the 16,384 slots, each a process of its own. Killed when dropped.
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts `primaries` nodes with equal parts of the slots, and `replicas` more which copy them in turn; waits until
    /// every node says that the cluster is well. `config` is added to the configuration of each.
    ///
    /// # Errors
    /// As [`Server::start`], or the nodes do not find together within half a minute.
    ///
    /// # Panics
    /// Without a primary.
    pub fn start(
        engine: Engine,
        primaries: usize,
        replicas: usize,
        config: &[&str],
    ) -> Result<Self, ServerError> {
        assert!(primaries > 0, "a cluster has primaries");
        let timeout = format!("cluster-node-timeout {NODE_TIMEOUT_MS}");
        let lines = [
            "cluster-enabled yes",
            &timeout,
            "repl-diskless-sync-delay 0",
        ];
        let lines = [&lines, config].concat();
        let nodes = start_all(engine, primaries + replicas, &lines)?;
        forming::form(&nodes, primaries)?;
        let cluster = Self { nodes };
        cluster.wait_until_well(Duration::from_secs(30))?;
        Ok(cluster)
    }

    /// All nodes, also those that were killed, in the order in which they were started.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// Its address as `redis+cluster://host:port,host:port…`, with all nodes.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|node| node.addr().to_string())
            .collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// The same over TLS, as `rediss+cluster://host:port,host:port…`, with all nodes that were given a certificate.
    pub fn tls_url(&self) -> String {
        let addrs = self.nodes.iter().filter_map(Server::tls_addr);
        let addrs: Vec<String> = addrs.map(|addr| addr.to_string()).collect();
        format!("rediss+cluster://{}", addrs.join(","))
    }

    /// The slot of a key, from its `{hash tag}` if it has one.
    ///
    /// # Errors
    /// No node answers.
    pub fn slot_of(&self, key: impl AsRef<[u8]>) -> Result<u16, ServerError> {
        let words: [&[u8]; 3] = [b"CLUSTER", b"KEYSLOT", key.as_ref()];
        self.any_awake()?.ask(&words)
    }

    /// The nodes that own slots by their own word, in the order of their slots. Killed and paused ones are left out.
    ///
    /// # Errors
    /// A node does not answer.
    pub fn primaries(&self) -> Result<Vec<&Server>, ServerError> {
        let mut found = Vec::new();
        for (node, line) in self.awake_lines()? {
            if let (true, Some(first)) = (line.says("master"), line.slots.first()) {
                found.push((*first.start(), node));
            }
        }
        found.sort_by_key(|(first, _)| *first);
        Ok(found.into_iter().map(|(_, node)| node).collect())
    }

    /// The nodes that copy `primary` by their own word.
    ///
    /// # Errors
    /// A node does not answer.
    pub fn replicas_of(&self, primary: &Server) -> Result<Vec<&Server>, ServerError> {
        let lines = view::of(self.any_awake()?)?;
        let id = lines.iter().find(|line| line.port == primary.port());
        let id = id.map_or("", |line| line.id.as_str());
        let replicas = self.awake_lines()?.into_iter();
        let replicas = replicas.filter(|(_, line)| line.primary == id);
        Ok(replicas.map(|(node, _)| node).collect())
    }

    /// The node that owns `slot`, by its own word and the latest epoch where two say so.
    ///
    /// # Errors
    /// A node does not answer, or none owns the slot now.
    pub fn owner_of(&self, slot: u16) -> Result<&Server, ServerError> {
        let lines = self.awake_lines()?.into_iter();
        let owners = lines.filter(|(_, line)| line.owns(slot));
        let latest = owners.max_by_key(|(_, line)| line.epoch);
        latest
            .map(|(node, _)| node)
            .ok_or_else(|| ServerError::Answer {
                command: "CLUSTER NODES",
                wanted: format!("an owner of slot {slot}"),
            })
    }

    /// Kills the primary at place `index` of [`Cluster::primaries`], and says which node that was.
    ///
    /// # Errors
    /// A node does not answer.
    ///
    /// # Panics
    /// There are not so many primaries.
    pub fn kill_primary(&self, index: usize) -> Result<&Server, ServerError> {
        let primary = self.primaries()?[index];
        primary.kill();
        Ok(primary)
    }

    /// Waits until every node that is awake says that the cluster is well, each slot has one owner, who is awake, and all know the
    /// epochs of the primaries; gives how long that took.
    ///
    /// # Errors
    /// [`ServerError::Late`] after `deadline`.
    pub fn wait_until_well(&self, deadline: Duration) -> Result<Duration, ServerError> {
        let began = Instant::now();
        patience::until("the cluster to be well", deadline, || self.look())?;
        Ok(began.elapsed())
    }

    /// Moves a slot with its keys to the primary `to`, while others use it.
    ///
    /// # Errors
    /// A server fails; the slot may stay between two primaries.
    pub fn migrate_slot(&self, slot: u16, to: &Server) -> Result<(), ServerError> {
        self.begin_migration(slot, to)?.finish()
    }

    /// Begins to move a slot to the primary `to`: from now on callers are sent from one to the other.
    ///
    /// # Errors
    /// A server fails.
    pub fn begin_migration<'a>(
        &'a self,
        slot: u16,
        to: &'a Server,
    ) -> Result<Migration<'a>, ServerError> {
        Migration::begin(self, slot, to)
    }

    fn any_awake(&self) -> Result<&Server, ServerError> {
        let awake = self.nodes.iter().find(|node| node.is_awake());
        awake.ok_or_else(|| ServerError::Stopped {
            port: self.nodes[0].port(),
        })
    }

    fn awake(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.is_awake())
    }

    fn awake_lines(&self) -> Result<Vec<(&Server, view::Line)>, ServerError> {
        self.awake()
            .map(|node| Ok((node, view::own(node)?)))
            .collect()
    }

    fn look(&self) -> Result<Seen<()>, ServerError> {
        let own = self.awake_lines()?;
        let owned: usize = own.iter().map(|(_, line)| line.slot_count()).sum();
        if owned != usize::from(SLOTS) {
            return Ok(Seen::NotYet(format!("{owned} slots have an owner")));
        }
        // A primary that has not heard of another's epoch takes the same one with its next slot; the nodes then raise one of the
        // two, and a slot that is just moving away may be claimed back and be nobody's in the end.
        let epochs: BTreeSet<u64> = own.iter().filter_map(|(_, line)| line.claims()).collect();
        if epochs.len()
            != own
                .iter()
                .filter(|(_, line)| line.claims().is_some())
                .count()
        {
            return Ok(Seen::NotYet(String::from("two primaries have one epoch")));
        }
        for (node, _) in &own {
            let state: String = node.ask(&["CLUSTER", "INFO"])?;
            if !state.contains("cluster_state:ok") {
                return Ok(Seen::NotYet(format!("{} says it is not", node.port())));
            }
            let seen = view::of(node)?;
            let agrees = own.iter().all(|(_, line)| {
                let theirs = seen.iter().find(|theirs| theirs.id == line.id);
                theirs.is_some_and(|theirs| theirs.is_well() && theirs.agrees_with(line))
            });
            if !agrees {
                return Ok(Seen::NotYet(format!("{} sees it otherwise", node.port())));
            }
        }
        Ok(Seen::Done(()))
    }
}

/// Side by side: each spends most of its start waiting.
fn start_all(engine: Engine, count: usize, config: &[&str]) -> Result<Vec<Server>, ServerError> {
    std::thread::scope(|scope| {
        let start = || Server::start(engine, config);
        let starts: Vec<_> = (0..count).map(|_| scope.spawn(start)).collect();
        let join = |start: std::thread::ScopedJoinHandle<'_, _>| {
            start
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        starts.into_iter().map(join).collect()
    })
}
