//! What is logged, and how. Prompts, answers and keys never are: nobody hands them to the log.

use tracing_subscriber::EnvFilter;

use crate::screen::Screen;

/// Starts logging to standard error; `TALLYGATE_LOG` says what.
pub(crate) fn start(screen: &Screen) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var("TALLYGATE_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start would be refused; there is none.
    drop(if screen.is_json() {
        log.json().try_init()
    } else {
        log.try_init()
    });
}
