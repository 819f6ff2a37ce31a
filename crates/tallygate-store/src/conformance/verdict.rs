//! What came of a case.
use std::fmt;
use std::panic::Location;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed(Failure),
    /// The store's kind has no such thing, and does not need to.
    Skipped(&'static str),
}

/// What does not hold, and where the case says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    what: String,
    at: &'static Location<'static>,
}

impl Failure {
    #[track_caller]
    pub(super) fn new(what: String) -> Self {
        Self {
            what,
            at: Location::caller(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.at.file().rsplit("/src/").next().unwrap_or_default();
        write!(f, "{} ({file}:{})", self.what, self.at.line())
    }
}

/// How a case ends.
pub(super) type Verdict = Result<(), Stop>;

/// Why a case does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    Failed(Failure),
    Skipped(&'static str),
}

/// Stops the case: `what` was seen.
#[track_caller]
pub(super) fn fail(what: impl Into<String>) -> Stop {
    Stop::Failed(Failure::new(what.into()))
}

/// Stops the case at a place of it.
pub(super) fn fail_at(at: &'static Location<'static>, what: String) -> Stop {
    Stop::Failed(Failure { what, at })
}

/// Goes on if it holds.
#[track_caller]
pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    match holds {
        true => Ok(()),
        false => Err(fail(otherwise())),
    }
}

/// Goes on if both are the same.
#[track_caller]
pub(super) fn same<T: PartialEq + fmt::Debug>(what: &str, found: T, wanted: T) -> Verdict {
    match found == wanted {
        true => Ok(()),
        false => Err(fail(format!("{what} is {found:?}, not {wanted:?}"))),
    }
}
