//! What is logged, and how. Prompts, answers and keys never are: nobody hands them to the log.

use std::io::{self, IsTerminal};

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
        // A line that cannot be written would else be reported where it cannot be written either: that panics, in the
        // middle of whatever was being told of.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    let log = match io::stderr().is_terminal() {
        true => log,
        false => log.with_ansi(false),
    };
    // A second start would be refused; there is none.
    drop(if screen.is_json() {
        log.json().try_init()
    } else {
        log.try_init()
    });
}
