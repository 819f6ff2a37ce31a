//! The CPU time of this thread.

use super::Outcome;

/// Nanoseconds this thread has run. The kernel brings the figure up to date at its ticks, some milliseconds apart.
pub(super) fn nanos() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ran = text.split_whitespace().next().ok_or("an empty schedstat")?;
    Ok(ran.parse()?)
}
