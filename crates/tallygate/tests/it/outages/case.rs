//! What is away, and what limits do meanwhile.

use std::fmt;

/// What a limit does while its store cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Closed,
    Share,
    Open,
}

/// What becomes of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is killed, and started again with what it had written.
    Killed,
    /// It is frozen, and goes on: connections stay, and nothing answers. What it was asked last it does then.
    Frozen,
}

/// One outage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) choice: Choice,
    pub(super) fate: Fate,
}

impl Case {
    /// Every choice with every fate.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let choices = [Choice::Closed, Choice::Share, Choice::Open];
        let fates = [Fate::Killed, Fate::Frozen];
        choices
            .into_iter()
            .flat_map(move |choice| fates.map(|fate| Self { choice, fate }))
    }
}

impl Choice {
    /// As `store_down` has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Share => "share",
            Self::Open => "open",
        }
    }

    /// What callers are told by a limit that has done all it does by itself.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Closed => 503,
            Self::Share => 429,
            Self::Open => 200,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::Killed => "killed",
            Fate::Frozen => "frozen",
        };
        write!(to, "{}-{fate}", self.choice.word())
    }
}
