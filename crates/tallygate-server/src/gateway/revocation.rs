//! A key that is taken away while an answer to its owner passes.

use std::sync::Arc;

use crate::config::Revoked;
use crate::identify::Identity;
use crate::pipeline::Pipeline;

/// Watches over the key that a call came with.
pub(super) struct Revocation {
    owner: Arc<Identity>,
    pipeline: Arc<Pipeline>,
    /// The turn at which it was looked at last.
    turn: u64,
}

impl Revocation {
    /// For a call of `owner`, which was let in.
    pub(super) fn new(owner: Arc<Identity>, pipeline: &Arc<Pipeline>) -> Self {
        Self {
            owner,
            pipeline: Arc::clone(pipeline),
            // Nothing was looked at yet: the key may be gone since its owner was let in.
            turn: 0,
        }
    }

    /// Whether the answer must end here. Keys are looked at once each time something was put in force; else it costs nothing.
    pub(super) fn cuts(&mut self) -> bool {
        let turn = self.pipeline.turn();
        if turn == std::mem::replace(&mut self.turn, turn) {
            return false;
        }
        let setup = self.pipeline.setup();
        setup.config().bounds().revoked == Revoked::Cut && setup.keyring().has_revoked(&self.owner)
    }
}
