//! A server process: started, measured, stopped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Outcome;

/// A running server; ended when dropped.
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts it with nothing to read from.
    pub(super) fn start(command: &mut Command) -> Outcome<Self> {
        Ok(Self {
            child: command.stdin(Stdio::null()).spawn()?,
        })
    }

    /// Starts it and reads its output up to the line with `mark`; gives the word after it.
    pub(super) fn start_until(command: &mut Command, mark: &str) -> Outcome<(Self, String)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let process = Self { child };
        for line in BufReader::new(stdout).lines() {
            if let Some((_, rest)) = line?.split_once(mark) {
                return Ok((
                    process,
                    rest.split_whitespace()
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                ));
            }
        }
        Err(format!("the server ended before it said `{mark}`").into())
    }

    /// Whether it still runs.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// User and system time so far, of the process and its children that run.
    pub(super) fn cpu(&self) -> Outcome<Duration> {
        let root = self.child.id();
        let children = fs::read_to_string(format!("/proc/{root}/task/{root}/children"))?;
        let mut ticks = ticks_of(root)?;
        for child in children.split_whitespace() {
            ticks += ticks_of(child.parse()?)?;
        }
        Ok(Duration::from_millis(ticks * MILLIS_A_TICK))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's master ends its workers on SIGTERM, which `kill` of the standard library (SIGKILL) would orphan.
        let term = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        if term.is_err() {
            drop(self.child.kill());
        }
        drop(self.child.wait());
    }
}

fn ticks_of(pid: u32) -> Outcome<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in brackets and may hold blanks: fields are counted from behind it.
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let time = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
            .ok_or("a short /proc/PID/stat")
    };
    Ok(time(11)? + time(12)?)
}

/// Linux tells times to user space in hundredths of a second, on every architecture we know.
const MILLIS_A_TICK: u64 = 10;
