//! What a node of a cluster says about the cluster.

use std::ops::RangeInclusive;

use crate::servers::{Server, ServerError};

/// One line of `CLUSTER NODES`.
pub(super) struct Line {
    pub(super) id: String,
    pub(super) port: u16,
    flags: String,
    /// The id of the primary it copies; `-` for a primary.
    pub(super) primary: String,
    pub(super) epoch: u64,
    is_linked: bool,
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

/// The lines as `server` sees them.
pub(super) fn of(server: &Server) -> Result<Vec<Line>, ServerError> {
    let text: String = server.ask(&["CLUSTER", "NODES"])?;
    text.lines().map(read).collect()
}

/// The line that `server` writes about itself.
pub(super) fn own(server: &Server) -> Result<Line, ServerError> {
    let lines = of(server)?;
    let own = lines.into_iter().find(|line| line.says("myself"));
    own.ok_or_else(|| unreadable("a line about itself"))
}

impl Line {
    /// Whether it bears this flag (`myself`, `master`, `fail`, `handshake`).
    pub(super) fn says(&self, flag: &str) -> bool {
        self.flags.split(',').any(|each| each == flag)
    }

    /// Whether the one who wrote it reaches it and trusts it.
    pub(super) fn is_well(&self) -> bool {
        let ills = ["fail", "fail?", "handshake", "noaddr"];
        self.is_linked && !ills.iter().any(|ill| self.says(ill))
    }

    /// The epoch with which it claims slots, if it does.
    pub(super) fn claims(&self) -> Option<u64> {
        (self.says("master") && !self.slots.is_empty()).then_some(self.epoch)
    }

    /// Whether two nodes see the same of the one that both lines are about.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.slots == other.slots && self.claims() == other.claims()
    }

    pub(super) fn owns(&self, slot: u16) -> bool {
        self.says("master") && self.slots.iter().any(|range| range.contains(&slot))
    }

    pub(super) fn slot_count(&self) -> usize {
        self.slots.iter().map(ExactSizeIterator::len).sum()
    }
}

/// `id host:port@bus[,name] flags primary ping-sent pong-received epoch link slots…`
fn read(line: &str) -> Result<Line, ServerError> {
    let words: Vec<&str> = line.split(' ').collect();
    let [id, address, flags, primary, _, _, epoch, link, slots @ ..] = words.as_slice() else {
        return Err(unreadable("nine words a line"));
    };
    let (host_port, _) = address.split_once('@').unwrap_or((address, ""));
    let port = host_port.rsplit(':').next().unwrap_or_default();
    Ok(Line {
        id: (*id).to_owned(),
        port: port.parse().map_err(|_| unreadable("a port"))?,
        flags: (*flags).to_owned(),
        primary: (*primary).to_owned(),
        epoch: epoch.parse().map_err(|_| unreadable("an epoch"))?,
        is_linked: *link == "connected",
        slots: slots.iter().filter_map(|word| range(word)).collect(),
    })
}

/// `5` or `5-9`; what is in brackets is moving, and is still counted where it came from.
fn range(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn unreadable(wanted: &str) -> ServerError {
    ServerError::Answer {
        command: "CLUSTER NODES",
        wanted: wanted.to_owned(),
    }
}
