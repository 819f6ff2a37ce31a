//! SIGTERM and Ctrl-C: the first asks for an orderly end, the second ends at once.

use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};

/// Listens from its making on, so that no signal is lost between start and first wait.
pub(crate) struct Signals {
    heard: mpsc::UnboundedReceiver<()>,
}

impl Signals {
    /// Begins to listen. Must be called in a tokio runtime.
    pub(crate) fn new() -> Result<Self, Failure> {
        let (tell, heard) = mpsc::unbounded_channel();
        hear(&tell).map_err(|error| {
            Failure::new(Exit::Failed, format!("signals cannot be heard: {error}"))
        })?;
        Ok(Self { heard })
    }

    /// Waits until an end is asked for. From then on a second such signal ends the process at once.
    pub(crate) async fn stop(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            std::process::exit(Exit::Failed.code().into());
        });
    }

    async fn next(&mut self) {
        if self.heard.recv().await.is_none() {
            // The hearing tasks live as long as the runtime.
            std::future::pending().await
        }
    }
}

#[cfg(unix)]
fn hear(tell: &mpsc::UnboundedSender<()>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut stream = signal(kind)?;
        let tell = tell.clone();
        tokio::spawn(
            async move { while stream.recv().await.is_some() && tell.send(()).is_ok() {} },
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn hear(tell: &mpsc::UnboundedSender<()>) -> std::io::Result<()> {
    let tell = tell.clone();
    tokio::spawn(
        async move { while tokio::signal::ctrl_c().await.is_ok() && tell.send(()).is_ok() {} },
    );
    Ok(())
}
