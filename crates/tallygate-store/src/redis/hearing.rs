//! What other processes tell this one: room has come up, a line has moved.
use super::link::Notice;
use super::store::Shared;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// How long a store waits at its opening until it hears.
const PATIENCE: Duration = Duration::from_secs(2);

/// The channels of a process.
pub(crate) fn channels(prefix: &str, node: [u8; 8]) -> Vec<String> {
    let node = String::from_utf8_lossy(&node);
    vec![format!("{prefix}:n:{node}"), format!("{prefix}:room")]
}

/// Listens from now on; answers once it hears, or after a while.
pub(crate) async fn listen(shared: &Arc<Shared>, mut notices: Receiver<Notice>) {
    let first = tokio::time::timeout(PATIENCE, notices.recv()).await;
    if let Ok(Some(notice)) = first {
        shared.heed(notice);
    }
    let shared = Arc::downgrade(shared);
    tokio::spawn(heed_all(shared, notices));
}

async fn heed_all(shared: Weak<Shared>, mut notices: Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        match shared.upgrade() {
            Some(shared) => shared.heed(notice),
            None => return,
        }
    }
}

impl Shared {
    /// Does what a message asks for.
    fn heed(&self, notice: Notice) {
        match notice {
            Notice::Message { channel, payload } if channel.ends_with(":room") => {
                self.denials.forget(&payload);
            }
            Notice::Message { payload, .. } => self.heed_call(&payload),
            Notice::Interrupted => {
                self.denials.clear(Some(false));
                self.room.ring_all();
            }
            Notice::Resumed => {
                self.denials.clear(Some(true));
                self.room.ring_all();
            }
        }
    }

    /// A message to this process alone.
    fn heed_call(&self, payload: &[u8]) {
        if let [b'w', limit, key @ ..] = payload {
            let limit = usize::from(*limit).saturating_sub(1);
            self.room.ring_at(&(key.to_vec(), limit));
        }
        if let [b'r', key @ ..] = payload {
            self.leases.recall(key, self.now());
        }
    }
}
