//! How a command ends: the documented exit codes, and failures that name their mend.

use crate::screen::tell;
use std::fmt;
use std::process::ExitCode;

/// The exit codes. Stable: scripts may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well; also after Ctrl-C or SIGTERM, once everything under way has ended.
    Done,
    /// Something unforeseen.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The configuration is wrong.
    Config,
    /// An input cannot be read or is not what it should be.
    Input,
    /// An address cannot be listened on.
    Listen,
    /// A server cannot be reached, or refused the question.
    Unreachable,
    /// `demo` saw a limit exceeded.
    OverLimit,
    /// The store cannot be used.
    Store,
}

impl Exit {
    /// All of them, in order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Config,
        Self::Input,
        Self::Listen,
        Self::Unreachable,
        Self::OverLimit,
        Self::Store,
    ];

    /// The number that the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Input => 4,
            Self::Listen => 5,
            Self::Unreachable => 6,
            Self::OverLimit => 7,
            Self::Store => 8,
        }
    }

    /// What it means, as the help and docs/exit-codes.md have it.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "all went well",
            Self::Failed => "something unforeseen",
            Self::Usage => "the command line is wrong",
            Self::Config => "the configuration is wrong",
            Self::Input => "an input cannot be read or is not what it should be",
            Self::Listen => "an address cannot be listened on",
            Self::Unreachable => "a server cannot be reached, or refused the question",
            Self::OverLimit => "demo: a limit was exceeded",
            Self::Store => "the store cannot be used",
        }
    }

    /// The table at the end of `--help`.
    pub(crate) fn table() -> String {
        let rows = Self::ALL.map(|exit| format!("  {}  {}", exit.code(), exit.meaning()));
        format!("Exit codes:\n{}", rows.join("\n"))
    }
}

/// Why a command ended early, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: What,
}

/// What is said of a failure.
#[derive(Debug)]
enum What {
    /// A sentence, and what to do.
    Said(String, Option<String>),
    /// A page made elsewhere, shown as it is; nothing if it is empty.
    Shown(String),
}

impl Failure {
    /// A failure of this kind; `what` is a sentence without its full stop.
    pub(crate) fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self {
            exit,
            what: What::Said(what.to_string(), None),
        }
    }

    /// A failure whose page is already made.
    pub(crate) fn shown(exit: Exit, page: String) -> Self {
        Self {
            exit,
            what: What::Shown(page),
        }
    }

    /// The same, saying what to do.
    pub(crate) fn mend(mut self, mend: impl Into<String>) -> Self {
        if let What::Said(_, how) = &mut self.what {
            *how = Some(mend.into());
        }
        self
    }

    /// Writes the failure to standard error and gives its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match &self.what {
            What::Said(what, None) => tell(&format!("tallygate: {what}")),
            What::Said(what, Some(mend)) => {
                tell(&format!("tallygate: {what}\n  {mend}"));
            }
            What::Shown(page) if page.is_empty() => {}
            What::Shown(page) => tell(page.trim_end()),
        }
        ExitCode::from(self.exit.code())
    }
}
