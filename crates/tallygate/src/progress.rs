//! How far a long task is, for a person at a terminal only.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A bar on standard error. Nothing is shown for tasks that end at once, or where nobody watches.
pub(crate) struct Progress {
    what: &'static str,
    done: usize,
    total: usize,
    visible: bool,
    next: Instant,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        Self {
            what,
            done: 0,
            total,
            visible: io::stderr().is_terminal() && total > 1,
            next: Instant::now() + BETWEEN,
        }
    }

    /// One more is done.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        if self.visible && Instant::now() >= self.next {
            self.next = Instant::now() + BETWEEN;
            self.draw();
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if self.visible {
            write_error("\r\u{1b}[K");
        }
    }

    fn draw(&self) {
        let filled = self.done * WIDTH / self.total.max(1);
        let bar = format!(
            "{}{}",
            "█".repeat(filled),
            "░".repeat(WIDTH.saturating_sub(filled))
        );
        write_error(&format!(
            "\r\u{1b}[K{} {bar} {}/{}",
            self.what, self.done, self.total
        ));
    }
}

fn write_error(text: &str) {
    let mut out = io::stderr().lock();
    // A terminal that went away is no failure of the task.
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

const BETWEEN: Duration = Duration::from_millis(200);
const WIDTH: usize = 30;
