//! A slot on its way from one primary to another.

use super::Cluster;
use crate::servers::{Server, ServerError};

/// How many keys go at once, so that no server is held up for long.
const KEYS_AT_ONCE: &str = "100";
const KEYS_TIMEOUT_MS: &str = "5000";

/// A slot between two primaries: the old one answers for the keys it still has and sends the others on (`ASK`).
///
/// Dropped unfinished, the slot stays between them.
#[must_use = "a slot that is not finished stays between two primaries"]
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: &'a Server,
    to: &'a Server,
}

impl<'a> Migration<'a> {
    pub(super) fn begin(
        cluster: &'a Cluster,
        slot: u16,
        to: &'a Server,
    ) -> Result<Self, ServerError> {
        let from = cluster.owner_of(slot)?;
        let number = slot.to_string();
        let ids: [String; 2] = [
            from.ask(&["CLUSTER", "MYID"])?,
            to.ask(&["CLUSTER", "MYID"])?,
        ];
        to.command(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &ids[0]])?;
        from.command(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &ids[1]])?;
        Ok(Self {
            cluster,
            slot,
            from,
            to,
        })
    }

    /// Where the slot comes from.
    pub fn from(&self) -> &'a Server {
        self.from
    }

    /// Moves every key of the slot, and gives their number. No new key arises where they came from, so that one call is enough.
    ///
    /// # Errors
    /// A server fails; what has moved stays moved.
    pub fn move_keys(&self) -> Result<usize, ServerError> {
        let slot = self.slot.to_string();
        let mut moved = 0;
        loop {
            let question = ["CLUSTER", "GETKEYSINSLOT", &slot, KEYS_AT_ONCE];
            let keys: Vec<Vec<u8>> = self.from.ask(&question)?;
            if keys.is_empty() {
                return Ok(moved);
            }
            moved += keys.len();
            let port = self.to.port().to_string();
            let head = [
                "MIGRATE",
                "127.0.0.1",
                &port,
                "",
                "0",
                KEYS_TIMEOUT_MS,
                "KEYS",
            ];
            let mut words: Vec<&[u8]> = head.iter().map(|word| word.as_bytes()).collect();
            words.extend(keys.iter().map(Vec::as_slice));
            self.from.command(&words)?;
        }
    }

    /// Moves what is left and gives the slot to its new primary, which tells the rest of the cluster.
    ///
    /// # Errors
    /// A server fails; the slot may stay between the two.
    pub fn finish(self) -> Result<(), ServerError> {
        self.move_keys()?;
        let slot = self.slot.to_string();
        let owner: String = self.to.ask(&["CLUSTER", "MYID"])?;
        // The new owner first: were it the last to know, both would send callers to each other.
        let others = self.cluster.primaries()?.into_iter();
        let others = others.filter(|node| node.port() != self.to.port());
        for node in std::iter::once(self.to).chain(others) {
            node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &owner])?;
        }
        Ok(())
    }
}
