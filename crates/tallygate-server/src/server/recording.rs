//! The tasks of the ledger of usage, from a server's start to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ledger::{Writer, watch_expiry};
use crate::pipeline::Pipeline;

/// The tasks of the ledger of usage.
pub(super) struct Recording {
    stop_writing: oneshot::Sender<()>,
    stop_expiring: oneshot::Sender<()>,
    writing: Option<JoinHandle<()>>,
    expiring: JoinHandle<()>,
}

impl Recording {
    /// Starts them for the calls of `pipeline`.
    pub(super) fn start(writer: Option<Writer>, pipeline: &Arc<Pipeline>) -> Self {
        let (stop_writing, stopped) = oneshot::channel();
        let (stop_expiring, expiring_stopped) = oneshot::channel();
        let store = || Arc::clone(pipeline.store());
        let expiry = watch_expiry(Arc::clone(pipeline), expiring_stopped);
        Self {
            stop_writing,
            stop_expiring,
            writing: writer.map(|writer| tokio::spawn(writer.run(store(), stopped))),
            expiring: tokio::spawn(expiry),
        }
    }

    /// Keeps what was recorded, for at most so long.
    pub(super) async fn stop(self, patience: Duration) {
        let _ = self.stop_expiring.send(());
        let _ = tokio::time::timeout(patience, self.expiring).await;
        let _ = self.stop_writing.send(());
        if let Some(writing) = self.writing {
            let _ = tokio::time::timeout(patience, writing).await;
        }
    }
}
