//! The tasks of the ledger of usage, from a server's start to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ledger::{Writer, watch_expiry};
use crate::pipeline::Pipeline;

/// The tasks of the ledger of usage.
pub(super) struct Recording {
    stop: oneshot::Sender<()>,
    writing: Option<JoinHandle<()>>,
    expiring: JoinHandle<()>,
}

impl Recording {
    /// Starts them for the calls of `pipeline`.
    pub(super) fn start(writer: Option<Writer>, pipeline: &Arc<Pipeline>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let store = || Arc::clone(pipeline.store());
        let expiry = watch_expiry(Arc::clone(pipeline.recorder()), store());
        Self {
            stop,
            writing: writer.map(|writer| tokio::spawn(writer.run(store(), stopped))),
            expiring: tokio::spawn(expiry),
        }
    }

    /// Keeps what was recorded, for at most so long.
    pub(super) async fn stop(self, patience: Duration) {
        self.expiring.abort();
        let _ = self.stop.send(());
        if let Some(writing) = self.writing {
            let _ = tokio::time::timeout(patience, writing).await;
        }
    }
}
