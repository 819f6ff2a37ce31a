//! SIGTERM and Ctrl-C: the first asks for an orderly end, the second ends at once.

use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};

/// Listens from its making on, so that no signal is lost between start and first wait.
pub(crate) struct Signals {
    heard: mpsc::UnboundedReceiver<Signal>,
}

/// What was asked for from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// End in order: SIGTERM, or Ctrl-C.
    Stop,
    /// Read the configuration again: SIGHUP.
    Reload,
}

impl Signals {
    /// Begins to listen. Must be called in a tokio runtime.
    pub(crate) fn new() -> Result<Self, Failure> {
        let (tell, heard) = mpsc::unbounded_channel();
        hear(tell).map_err(|error| {
            Failure::new(Exit::Failed, format!("signals cannot be heard: {error}"))
        })?;
        Ok(Self { heard })
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// A dropped wait loses no signal.
    pub(crate) async fn next(&mut self) -> Signal {
        match self.heard.recv().await {
            Some(signal) => signal,
            // The hearing task lives as long as the runtime.
            None => std::future::pending().await,
        }
    }

    /// Waits until an end is asked for. From then on a second such signal ends the process at once.
    pub(crate) async fn stop(mut self) {
        while self.next().await != Signal::Stop {}
        self.hasten();
    }

    /// From now on a further stop ends the process at once.
    pub(crate) fn hasten(mut self) {
        tokio::spawn(async move {
            while self.next().await != Signal::Stop {}
            std::process::exit(Exit::Failed.code().into());
        });
    }
}

#[cfg(unix)]
fn hear(tell: mpsc::UnboundedSender<Signal>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [
        (SignalKind::interrupt(), Signal::Stop),
        (SignalKind::terminate(), Signal::Stop),
        (SignalKind::hangup(), Signal::Reload),
    ];
    for (kind, meaning) in kinds {
        let mut stream = signal(kind)?;
        let tell = tell.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && tell.send(meaning).is_ok() {}
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn hear(tell: mpsc::UnboundedSender<Signal>) -> std::io::Result<()> {
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() && tell.send(Signal::Stop).is_ok() {}
    });
    Ok(())
}
