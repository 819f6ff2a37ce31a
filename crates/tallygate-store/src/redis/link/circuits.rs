//! How many servers are out of reach, for who watches.
use std::sync::Arc;

use tokio::sync::watch;

/// A count that all servers of a link share.
#[derive(Clone)]
pub(super) struct Circuits(Arc<watch::Sender<usize>>);

impl Circuits {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    pub(super) fn opened(&self) {
        self.0.send_modify(|open| *open += 1);
    }

    pub(super) fn closed(&self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}
