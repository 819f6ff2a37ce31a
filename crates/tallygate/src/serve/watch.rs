//! While `serve` runs: its file is looked at, signals are obeyed.

use std::path::PathBuf;
use std::time::Duration;

use tallygate_server::{ConfigErrors, ReloadError, ServerHandle};
use tokio::time::{MissedTickBehavior, interval};

use crate::settings::Settings;
use crate::signals::{Signal, Signals};

/// What is in force, and the file it came from.
pub(super) struct Watched {
    /// `None`: the built-in configuration, which does not change.
    pub(super) file: Option<PathBuf>,
    pub(super) settings: Settings,
}

/// Ends when a stop is asked for. A changed file is taken over whole or not at all.
pub(super) async fn until_stopped(
    mut watched: Watched,
    server: ServerHandle,
    mut signals: Signals,
) {
    let mut look = interval(BETWEEN_LOOKS);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload => watched.reload(&server),
            },
            _ = look.tick() => watched.reload(&server),
        }
    }
    tracing::info!("stopping: calls under way are finished, no others taken");
    signals.hasten();
}

impl Watched {
    /// Takes the file over if its text is another than the one seen last. A text that was refused is not tried again.
    fn reload(&mut self, server: &ServerHandle) {
        let Some(path) = &self.file else { return };
        let Ok(settings) = Settings::read(path) else {
            // An editor may be about to put it back; what is in force stays in force.
            return;
        };
        if settings == self.settings {
            return;
        }
        match take_over(&settings, server) {
            Ok(()) => {
                tracing::info!(file = %settings.name, "the changed configuration is in force")
            }
            Err(refusal) => {
                tracing::error!(file = %settings.name, "the old configuration stays in force: {refusal}")
            }
        }
        self.settings = settings;
    }
}

fn take_over(settings: &Settings, server: &ServerHandle) -> Result<(), Refusal> {
    Ok(server.reload(settings.parse()?)?)
}

/// Why a changed file is not taken over.
#[derive(Debug)]
enum Refusal {
    Config(ConfigErrors),
    Reload(ReloadError),
}

impl From<ConfigErrors> for Refusal {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

impl From<ReloadError> for Refusal {
    fn from(error: ReloadError) -> Self {
        Self::Reload(error)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(errors) => out.write_str(errors.render().trim_end()),
            Self::Reload(error) => error.fmt(out),
        }
    }
}

/// A file is small and read whole: looking once a second costs nothing and needs no notice from the system.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
