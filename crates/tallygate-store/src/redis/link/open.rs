//! The first way to the servers: each is examined before it is trusted.
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::circuits::Circuits;
use super::cluster::Cluster;
use super::dialer::{DialError, Dialer};
use super::probe::{Probe, Role, Stage, dialed};
use super::script::Script;
use super::seat::Seat;
use super::sentinels::{Sentinels, Silence};
use super::server::{Server, Tools, follow};
use super::{Inner, Link, Servers, quiet, slot};
use crate::redis::found::{Found, RedisFindings};
use crate::redis::opening::RedisOpenError;
use crate::redis::options::{Node, RedisOptions, Topology};

pub(super) async fn open(options: &RedisOptions, script: &str) -> Result<Link, RedisOpenError> {
    let dialer = Dialer::new(options).map_err(|ca| RedisOpenError::Authorities {
        path: ca.path,
        reason: ca.reason,
    })?;
    let tools = Tools {
        dialer: Arc::new(dialer),
        circuits: Circuits::new(),
        timeout: options.timeout,
        connections: options.connections,
    };
    let opening = Opening { options, tools };
    let (servers, found) = match &options.topology {
        Topology::Standalone => opening.alone().await?,
        Topology::Sentinel { master } => opening.elected(master).await?,
        Topology::Cluster => opening.cluster().await?,
    };
    let topology = match &options.topology {
        Topology::Standalone => "standalone",
        Topology::Sentinel { .. } => "sentinel",
        Topology::Cluster => "cluster",
    };
    let link = Link(Arc::new(Inner {
        script: Script::new(script),
        servers,
        circuits: opening.tools.circuits,
        timeout: options.timeout,
        findings: RedisFindings::new(topology, found),
        dialer: opening.tools.dialer,
        alive: watch::Sender::new(()),
    }));
    // The first call shall find its connections. A member of a Cluster that is away now is waited for by its calls.
    let _ = link.ping().await;
    let gone = link.0.alive.subscribe();
    tokio::spawn(quiet::watch(Arc::downgrade(&link.0), gone));
    Ok(link)
}

struct Opening<'o> {
    options: &'o RedisOptions,
    tools: Tools,
}

type Opened = (Servers, Found);

impl Opening<'_> {
    async fn alone(&self) -> Result<Opened, RedisOpenError> {
        let mut found = Found::default();
        for node in &self.options.nodes {
            found.add(self.examined(node).await?);
        }
        let seat = self.options.nodes.first().cloned().map(Seat::Alone);
        let seat = seat.ok_or_else(|| self.nowhere())?;
        Ok((Servers::One(Server::new(seat, self.tools.clone())), found))
    }

    async fn elected(&self, master: &str) -> Result<Opened, RedisOpenError> {
        let login = self.options.sentinel_login.clone();
        let sentinels = Sentinels {
            nodes: self.options.nodes.clone(),
            master: master.to_owned(),
            dialer: self.tools.dialer.to_sentinels(login),
            timeout: self.options.timeout,
        };
        let named = sentinels.named().await;
        let named = named.map_err(|silent| self.unnamed(master, silent))?;
        let examined = join_all(named.iter().map(|node| self.examined(node))).await;
        let found = first_good(examined).ok_or_else(|| self.nowhere())??;
        let server = Server::new(Seat::Elected(sentinels), self.tools.clone());
        tokio::spawn(follow(Arc::downgrade(&server)));
        Ok((Servers::One(server), found))
    }

    async fn cluster(&self) -> Result<Opened, RedisOpenError> {
        let greeted = join_all(self.options.nodes.iter().map(|node| self.greeted(node))).await;
        first_good(greeted).ok_or_else(|| self.nowhere())??;
        let cluster = Cluster::new(self.options.nodes.clone(), self.tools.clone());
        cluster.learn().await.map_err(|silent| {
            let (host, reason) = told(silent);
            match reason.contains("NOPERM") {
                true => RedisOpenError::Permission {
                    host,
                    what: "CLUSTER SLOTS",
                    reason,
                },
                false => RedisOpenError::Slots { host, reason },
            }
        })?;
        let owners = cluster.one_slot_each();
        let examined = owners
            .iter()
            .map(|(node, slot)| self.member(node, *slot))
            .collect::<Vec<_>>();
        let found = agreed(join_all(examined).await)?;
        Ok((Servers::Cluster(cluster), found))
    }

    /// Whether the one server at `node` can be used; what it is.
    async fn examined(&self, node: &Node) -> Result<Found, RedisOpenError> {
        let probe = self.probe(node, Role::Primary);
        let (wire, found) = probe.greet().await?;
        let stage = self.stage(0);
        probe.try_out(&wire, &stage).await?;
        Ok(found.writing(probe.writes_many(&wire, &stage).await))
    }

    async fn greeted(&self, node: &Node) -> Result<(), RedisOpenError> {
        self.probe(node, Role::Member).greet().await.map(drop)
    }

    /// Whether the owner of `slot` can be used; what it is.
    async fn member(&self, node: &Node, slot: u16) -> Result<Found, RedisOpenError> {
        let probe = self.probe(node, Role::Member);
        let (wire, found) = probe.greet().await?;
        let stage = self.stage(slot::a_tag_of(slot));
        probe.try_out(&wire, &stage).await?;
        Ok(found.writing(probe.writes_many(&wire, &stage).await))
    }

    fn probe<'p>(&'p self, node: &'p Node, role: Role) -> Probe<'p> {
        Probe {
            dialer: &self.tools.dialer,
            node,
            role,
            // Whoever waits here waits once, and for a server that may have just been started.
            patience: self.options.connect_timeout,
        }
    }

    fn stage(&self, tag: u32) -> Stage {
        let prefix = self.options.prefix();
        let key = |name: &str| format!("{prefix}:{{{tag:08x}}}{name}");
        Stage {
            keys: [key("probe"), key("probes")],
            channel: format!("{prefix}:probe"),
        }
    }

    /// What keeps all sentinels from naming anybody; what one of them said weighs more than another's silence.
    fn unnamed(&self, master: &str, silent: Vec<(Node, Silence)>) -> RedisOpenError {
        let unreachable = |silence: &Silence| {
            matches!(
                silence,
                Silence::Dial(DialError::Connect(_) | DialError::Silent(_) | DialError::Broken(_))
            )
        };
        let all_unreachable = silent.iter().all(|(_, silence)| unreachable(silence));
        if silent.len() > 1 && all_unreachable {
            let silent = silent
                .into_iter()
                .map(|(node, silence)| (node, silence.to_string()));
            let (host, reason) = told(silent.collect());
            return RedisOpenError::Unreachable { host, reason };
        }
        let mut silent = silent;
        silent.sort_by_key(|(_, silence)| unreachable(silence));
        let Some((node, silence)) = silent.into_iter().next() else {
            return self.nowhere();
        };
        let host = node.to_string();
        match silence {
            Silence::Dial(error) => dialed(error, host),
            Silence::NoSentinel => RedisOpenError::NoSentinel { host },
            Silence::Said(reason) => RedisOpenError::NotReady { host, reason },
            Silence::Unknown => RedisOpenError::UnknownMaster {
                host,
                master: master.to_owned(),
            },
        }
    }

    fn nowhere(&self) -> RedisOpenError {
        RedisOpenError::Unreachable {
            host: self.options.shown(),
            reason: "it names no server".to_owned(),
        }
    }
}

/// The first success; else the first failure, one that the server spoke out before one of the way to it.
fn first_good<T>(outcomes: Vec<Result<T, RedisOpenError>>) -> Option<Result<T, RedisOpenError>> {
    let weight = |outcome: &Result<T, RedisOpenError>| match outcome {
        Ok(_) => 0,
        Err(RedisOpenError::Unreachable { .. }) => 2,
        Err(_) => 1,
    };
    outcomes.into_iter().min_by_key(weight)
}

/// What all members are. One that is out of reach is a warning while another is well: its replica may take over.
fn agreed(outcomes: Vec<Result<Found, RedisOpenError>>) -> Result<Found, RedisOpenError> {
    let some_are_well = outcomes.iter().any(Result::is_ok);
    let mut found = Found::default();
    for outcome in outcomes {
        match outcome {
            Ok(more) => found.add(more),
            Err(away @ RedisOpenError::Unreachable { .. }) if some_are_well => {
                found.warnings.push(away.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The hosts, and the reasons of all of them where they differ.
fn told(silent: Vec<(Node, String)>) -> (String, String) {
    let hosts: Vec<String> = silent.iter().map(|(node, _)| node.to_string()).collect();
    let mut reasons: Vec<String> = silent.into_iter().map(|(_, reason)| reason).collect();
    reasons.dedup();
    (hosts.join(", "), reasons.join("; "))
}
