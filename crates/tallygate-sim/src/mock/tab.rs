//! The open account of one admitted call.

use std::sync::Arc;

use super::ledger::{End, Ticket};
use super::shared::Shared;

/// Enters what a call produces and how it ends. Dropped without an end, its caller has left.
pub(crate) struct Tab {
    shared: Arc<Shared>,
    ticket: Option<Ticket>,
}

impl Tab {
    pub(crate) fn new(shared: &Arc<Shared>, ticket: Ticket) -> Self {
        Self {
            shared: Arc::clone(shared),
            ticket: Some(ticket),
        }
    }

    pub(crate) fn produce(&self, tokens: u64) {
        if let (Some(ticket), 1..) = (self.ticket, tokens) {
            self.shared.ledger.lock().produce(ticket, tokens);
        }
    }

    /// Ends the call; only the first end counts.
    pub(crate) fn end(&mut self, end: End) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.ledger.lock().end(ticket, end);
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.end(End::Left);
    }
}
