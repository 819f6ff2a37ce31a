//! Worker processes: this program, started again.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use super::Outcome;
use super::worker::{Duty, Post, READY, WORKER};

/// Processes with one duty. Each ends with its input, which our death ends too; dropped, they are killed.
pub(super) struct Crew(Vec<Member>);

/// One process.
pub(super) struct Member {
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Crew {
    /// Starts `count` processes, and waits until all are ready.
    pub(super) fn start(count: usize, url: &str, duty: &Duty) -> Outcome<Self> {
        let start = |number| {
            Member::start(&Post {
                number,
                count,
                url: url.to_owned(),
                duty: duty.clone(),
            })
        };
        let mut members = (0..count).map(start).collect::<Outcome<Vec<_>>>()?;
        members.iter_mut().try_for_each(Member::wait_until_ready)?;
        Ok(Self(members))
    }

    /// Lets all work, and gathers what they say.
    pub(super) fn lap<T: DeserializeOwned>(&mut self, order: &str) -> Outcome<Vec<T>> {
        self.order(order)?;
        self.answers()
    }

    pub(super) fn order(&mut self, order: &str) -> Outcome {
        self.0.iter_mut().try_for_each(|member| member.order(order))
    }

    pub(super) fn answers<T: DeserializeOwned>(&mut self) -> Outcome<Vec<T>> {
        self.0.iter_mut().map(Member::answer).collect()
    }
}

impl Member {
    fn start(post: &Post) -> Outcome<Self> {
        Self::start_with(post, Stdio::inherit())
    }

    pub(super) fn start_with(post: &Post, errors: Stdio) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([WORKER, &serde_json::to_string(post)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()?;
        let orders = child.stdin.take().ok_or("a worker without input")?;
        let output = child.stdout.take().ok_or("a worker without output")?;
        Ok(Self {
            child,
            orders,
            lines: BufReader::new(output).lines(),
        })
    }

    pub(super) fn wait_until_ready(&mut self) -> Outcome {
        match self.line()?.as_str() {
            READY => Ok(()),
            other => Err(format!("a worker said `{other}` for `{READY}`").into()),
        }
    }

    pub(super) fn order(&mut self, order: &str) -> Outcome {
        Ok(writeln!(self.orders, "{order}")?)
    }

    pub(super) fn answer<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        Ok(serde_json::from_str(&self.line()?)?)
    }

    /// Its error output, if that is piped.
    pub(super) fn errors(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    fn line(&mut self) -> Outcome<String> {
        Ok(self
            .lines
            .next()
            .ok_or("a worker ended before its time")??)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it is left.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
