//! Which server owns which slot.
use std::collections::HashMap;
use std::sync::Arc;

use redis::Value;

use super::super::seat::Seat;
use super::super::server::{Server, Tools};
use super::super::slot::SLOTS;
use crate::redis::options::Node;

/// The owners of all slots, as far as they are known, and the servers that calls went to.
pub(super) struct SlotMap {
    /// One a slot.
    owners: Vec<Option<Arc<Server>>>,
    servers: HashMap<Node, Arc<Server>>,
}

/// Slots that belong to one primary: the first, the last, and who that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) primary: Node,
}

impl SlotMap {
    pub(super) fn new() -> Self {
        Self {
            owners: vec![None; usize::from(SLOTS)],
            servers: HashMap::new(),
        }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<Arc<Server>> {
        self.owners.get(usize::from(slot)).cloned().flatten()
    }

    /// The servers that own slots, each once.
    pub(super) fn owners(&self) -> Vec<Arc<Server>> {
        let mut found: Vec<Arc<Server>> = Vec::new();
        for owner in self.owners.iter().flatten() {
            // Slots of one server mostly lie side by side.
            let known = found.iter().rev().any(|known| Arc::ptr_eq(known, owner));
            if !known {
                found.push(owner.clone());
            }
        }
        found
    }

    /// Each node that owns slots, with the first of them.
    pub(super) fn one_slot_each(&self) -> Vec<(Node, u16)> {
        let first = |server: &Arc<Server>| {
            let owned = |owner: &Option<Arc<Server>>| {
                owner
                    .as_ref()
                    .is_some_and(|owner| Arc::ptr_eq(owner, server))
            };
            let mut slots = (0..SLOTS).zip(&self.owners);
            slots.find(|(_, owner)| owned(owner))
        };
        self.servers
            .iter()
            .filter_map(|(node, server)| first(server).map(|(slot, _)| (node.clone(), slot)))
            .collect()
    }

    /// Every slot has an owner, and none of them is out of reach.
    pub(super) fn is_well(&self) -> bool {
        self.owners.iter().all(Option::is_some)
            && !self.owners().iter().any(|server| server.is_down())
    }

    /// The server at `node`, made if nobody went there yet.
    pub(super) fn server(&mut self, node: Node, tools: &Tools) -> Arc<Server> {
        let fresh = |node: &Node| Server::new(Seat::Member(node.clone()), tools.clone());
        let server = self.servers.entry(node);
        server.or_insert_with_key(fresh).clone()
    }

    pub(super) fn give(&mut self, slot: u16, server: &Arc<Server>) {
        if let Some(owner) = self.owners.get_mut(usize::from(slot)) {
            *owner = Some(server.clone());
        }
    }

    /// Takes what a node said for the truth. Servers that own nothing any more and are out of reach are forgotten.
    pub(super) fn learn(&mut self, ranges: Vec<Range>, tools: &Tools) {
        self.owners.fill(None);
        for range in ranges {
            let server = self.server(range.primary, tools);
            for slot in range.first..=range.last {
                self.give(slot, &server);
            }
        }
        let owners = self.owners();
        let owns = |server: &Arc<Server>| owners.iter().any(|owner| Arc::ptr_eq(owner, server));
        self.servers
            .retain(|_, server| owns(server) || !server.is_down());
    }

    /// The nodes that were heard of, those that are well first.
    pub(super) fn nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<_> = self.servers.iter().collect();
        nodes.sort_by_key(|(_, server)| server.is_down());
        nodes.into_iter().map(|(node, _)| node.clone()).collect()
    }
}

/// Reads the answer of the node at `from` to `CLUSTER SLOTS`.
pub(super) fn ranges(answer: Value, from: &Node) -> Option<Vec<Range>> {
    let Value::Array(ranges) = answer else {
        return None;
    };
    ranges.into_iter().map(|each| range(each, from)).collect()
}

fn range(answer: Value, from: &Node) -> Option<Range> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let first = slot(parts.next()?)?;
    let last = slot(parts.next()?)?;
    let primary = node(parts.next()?, from)?;
    Some(Range {
        first,
        last,
        primary,
    })
}

fn slot(answer: Value) -> Option<u16> {
    number(answer).filter(|slot| *slot < SLOTS)
}

/// The crate's own conversion to a `u16` cuts off what does not fit.
fn number(answer: Value) -> Option<u16> {
    let number: i64 = redis::from_redis_value(answer).ok()?;
    u16::try_from(number).ok()
}

/// A node that does not know its own address gives none, or `?`: it is the host that was asked.
fn node(answer: Value, from: &Node) -> Option<Node> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let mut parts = parts.into_iter();
    let host: Option<String> = redis::from_redis_value(parts.next()?).ok()?;
    let port = number(parts.next()?)?;
    let known = host.filter(|host| !host.is_empty() && host != "?");
    Some(Node {
        host: known.unwrap_or_else(|| from.host.clone()),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn told(first: i64, last: i64, host: Value, port: i64) -> Value {
        let primary = Value::Array(vec![host, Value::Int(port), text("id")]);
        let replica = Value::Array(vec![text("r"), Value::Int(9), text("id2")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), primary, replica])
    }

    fn from() -> Node {
        Node {
            host: "asked".to_owned(),
            port: 7000,
        }
    }

    #[test]
    fn the_primary_of_each_range_is_read() {
        let answer = Value::Array(vec![
            told(0, 5460, text("10.0.0.1"), 7001),
            told(5461, 16383, text(""), 7002),
            told(7, 7, Value::Nil, 7003),
            told(8, 8, text("?"), 7004),
        ]);
        let read = ranges(answer, &from()).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|range| format!("{}-{} {}", range.first, range.last, range.primary))
            .collect();
        assert_eq!(
            read,
            [
                "0-5460 10.0.0.1:7001",
                "5461-16383 asked:7002",
                "7-7 asked:7003",
                "8-8 asked:7004"
            ]
        );
    }

    #[test]
    fn nonsense_is_no_map() {
        for answer in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![told(0, 16384, text("h"), 1)]),
            Value::Array(vec![told(-1, 5, text("h"), 1)]),
            Value::Array(vec![told(0, 5, text("h"), 70_000)]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1)])]),
        ] {
            assert_eq!(ranges(answer.clone(), &from()), None, "{answer:?}");
        }
    }
}
