//! Making one cluster of nodes that do not know each other.

use std::time::Duration;

use super::view;
use crate::servers::patience::{self, Seen};
use crate::servers::port::BUS_OFFSET;
use crate::servers::{Server, ServerError};

/// How long meeting may take; nodes that are new wait 2 s before they answer anyway.
const FORM: Duration = Duration::from_secs(30);

pub(super) const SLOTS: u16 = 16_384;

/// Gives the first `primaries` nodes the slots in equal parts, and the others to them in turn.
pub(super) fn form(nodes: &[Server], primaries: usize) -> Result<(), ServerError> {
    let (owners, copies) = nodes.split_at(primaries);
    for (index, node) in owners.iter().enumerate() {
        // Nodes that meet with the same epoch settle by comparing their ids, which takes rounds of gossip.
        node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])?;
        let (first, last) = share(index, primaries);
        let range = [first.to_string(), last.to_string()];
        node.command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])?;
    }
    for (index, node) in nodes.iter().enumerate() {
        for other in &nodes[index + 1..] {
            let ports = [other.peer_port(), other.port() + BUS_OFFSET];
            let [port, bus] = ports.map(|port| port.to_string());
            node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
    }
    patience::until("the nodes to meet", FORM, || all_met(nodes))?;
    for (index, node) in copies.iter().enumerate() {
        let primary: String = owners[index % primaries].ask(&["CLUSTER", "MYID"])?;
        node.command(&["CLUSTER", "REPLICATE", &primary])?;
    }
    patience::until("the replicas to copy their primaries", FORM, || {
        all_copied(copies)
    })
}

/// The slots of one of `primaries`, first and last.
fn share(index: usize, primaries: usize) -> (usize, usize) {
    let edge = |index: usize| usize::from(SLOTS) * index / primaries;
    (edge(index), edge(index + 1) - 1)
}

fn all_met(nodes: &[Server]) -> Result<Seen<()>, ServerError> {
    for node in nodes {
        let well = view::of(node)?.iter().filter(|line| line.is_well()).count();
        if well < nodes.len() {
            let port = node.port();
            return Ok(Seen::NotYet(format!("{port} knows {well} nodes")));
        }
    }
    Ok(Seen::Done(()))
}

fn all_copied(copies: &[Server]) -> Result<Seen<()>, ServerError> {
    for node in copies {
        let info = node.info("replication")?;
        if info.get("master_link_status").map(String::as_str) != Some("up") {
            return Ok(Seen::NotYet(format!("{} does not yet", node.port())));
        }
    }
    Ok(Seen::Done(()))
}
