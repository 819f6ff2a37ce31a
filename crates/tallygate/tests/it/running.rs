//! A server in the background: its output line by line, and its end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// Killed when dropped.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    /// Starts it with nothing to read from.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::piped())
    }

    /// Starts it with this for its standard error.
    pub(crate) fn start_with(command: &mut Command, err: impl Into<Stdio>) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err)
            .spawn()
            .expect("the binary starts");
        let out = lines(child.stdout.take().expect("a pipe"));
        let err = match child.stderr.take() {
            Some(pipe) => lines(pipe),
            None => lines(std::io::empty()),
        };
        Self { child, out, err }
    }

    /// The word behind `mark` on the next line of standard output that has it.
    pub(crate) fn said(&mut self, mark: &str) -> String {
        find(&self.out, mark)
    }

    /// The same on standard error.
    pub(crate) fn logged(&mut self, mark: &str) -> String {
        find(&self.err, mark)
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(kill.expect("kill starts").success());
    }

    /// Waits for its end; gives its status and what of standard output was not read.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it ends");
        (status, self.out.iter().map(|line| line + "\n").collect())
    }

    /// Asks it to end as an operator would.
    pub(crate) fn stop(self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn find(lines: &Receiver<String>, mark: &str) -> String {
    let mut seen = String::new();
    for line in lines {
        if let Some((_, rest)) = line.split_once(mark) {
            return rest
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned();
        }
        seen.push_str(&line);
        seen.push('\n');
    }
    panic!("it ended before it said `{mark}`; it said:\n{seen}");
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    told
}
