//! Waiting for another process: asked again in growing steps up to a deadline.

use std::time::{Duration, Instant};

use super::ServerError;

const FIRST_STEP: Duration = Duration::from_millis(2);
const LONGEST_STEP: Duration = Duration::from_millis(25);

/// What was seen when asked.
pub(super) enum Seen<T> {
    Done(T),
    /// Not yet, and why it is not.
    NotYet(String),
}

/// Asks until it is done.
///
/// # Errors
/// [`ServerError::Late`] after `deadline`, or the error of `ask` at once.
pub(super) fn until<T>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> Result<Seen<T>, ServerError>,
) -> Result<T, ServerError> {
    let began = Instant::now();
    let mut step = FIRST_STEP;
    loop {
        let last = match ask()? {
            Seen::Done(value) => return Ok(value),
            Seen::NotYet(why) => why,
        };
        let waited = began.elapsed();
        if waited >= deadline {
            return Err(ServerError::Late {
                what: what.to_owned(),
                waited,
                last: format!("; {last}"),
            });
        }
        // Another process tells nobody when it is ready.
        std::thread::sleep(step);
        step = (step * 2).min(LONGEST_STEP);
    }
}
