//! Standard output: text for a person, or JSON for a program.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use tallygate_core::text::{printable_json, printable_lines};

/// Where a command's answer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    json: bool,
    terminal: bool,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            terminal: io::stdout().is_terminal(),
        }
    }

    /// Whether the answer is for a program.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Whether a person watches: only then is anything redrawn.
    pub(crate) fn is_terminal(self) -> bool {
        self.terminal && !self.json
    }

    /// Writes the answer in the form that was asked for. One line of JSON, or the text.
    pub(crate) fn answer(self, json: &Value, text: &str) {
        if self.json {
            self.line(&printable_json(&json.to_string()));
        } else {
            self.line(&printable_lines(text.trim_end_matches('\n')));
        }
    }

    /// Writes one line as it is and flushes it, so that whoever reads a pipe sees it now.
    pub(crate) fn line(self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    /// Writes as it is. A reader that went away (`| head`) is no failure of ours.
    pub(crate) fn write(self, text: &str) {
        let mut out = io::stdout().lock();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

/// Writes lines to standard error; what somebody else wrote in them moves no cursor. A reader that went away (`2>&1 | head`) is no failure of ours here either.
pub(crate) fn tell(line: &str) {
    let mut out = io::stderr().lock();
    drop(writeln!(out, "{}", printable_lines(line)));
}
