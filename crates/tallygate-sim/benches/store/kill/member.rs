//! A worker that may be killed: how far it had come is known all the same.

use std::io::Read;
use std::process::{ChildStderr, Stdio};
use std::thread::JoinHandle;

use super::super::Outcome;
use super::super::crew;
use super::super::worker::{self, Post};
use super::shift::{BEGUN, DOWN, REPORT, SETTLED, STOP};
use super::{Did, Duty, Progress};

pub(super) struct Member {
    process: crew::Member,
    /// Reads what it says of its progress, to the end.
    progress: JoinHandle<Progress>,
}

impl Member {
    /// Starts a worker, which goes to work at once.
    pub(super) fn start(url: &str, number: usize, duty: Duty) -> Outcome<Self> {
        let post = Post {
            number,
            count: 1,
            url: url.to_owned(),
            duty: worker::Duty::Kill(duty),
        };
        let mut process = crew::Member::start_with(&post, Stdio::piped())?;
        let errors = process.errors().ok_or("a worker without error output")?;
        let progress = std::thread::spawn(move || follow(errors));
        process.wait_until_ready()?;
        Ok(Self { process, progress })
    }

    pub(super) fn report(&mut self) -> Outcome<Did> {
        self.process.order(REPORT)?;
        self.process.answer()
    }

    /// Lets it finish what it has begun.
    pub(super) fn end(mut self) -> Outcome<Progress> {
        self.process.order(STOP)?;
        let _: Did = self.process.answer()?;
        Ok(self.kill())
    }

    pub(super) fn kill(self) -> Progress {
        drop(self.process);
        self.progress.join().unwrap_or_default()
    }
}

fn follow(mut errors: ChildStderr) -> Progress {
    let mut progress = Progress::default();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = errors.read(&mut bytes) {
        let of = |wanted| {
            bytes[..count]
                .iter()
                .filter(|byte| **byte == wanted)
                .count() as u64
        };
        progress.begun += of(BEGUN);
        progress.down += of(DOWN);
        progress.settled += of(SETTLED);
    }
    progress
}
