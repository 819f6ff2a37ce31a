//! Running programs: in the foreground to their end, or in the background until dropped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::Outcome;

/// Runs `command` with our own input and output; a status other than 0 is the failure.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = show(command);
    let status = command
        .status()
        .map_err(|error| format!("failed to start `{shown}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{shown}` ended with {status}"))
    }
}

/// Runs `command` with our own error output and gives its standard output; a status other than 0 is the failure.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let shown = show(command);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("failed to start `{shown}`: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("`{shown}` ended with {}", output.status)),
    }
}

/// The program's path, if `PATH` has it.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps servers where the path of a plain user does not look.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn show(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A server in the background, killed when dropped. A Ctrl-C at the terminal reaches it too, as it stays in our process group.
pub(crate) struct Server {
    name: String,
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let name = show(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("failed to start `{name}`: {error}"))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| format!("`{name}` has no standard output"))?;
        Ok(Self {
            name,
            child,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// Reads the server's output up to the line that holds `mark`, and returns that line's first word after it.
    pub(crate) fn wait_for(&mut self, mark: &str) -> Outcome<String> {
        for line in self.lines.by_ref() {
            let line =
                line.map_err(|error| format!("failed to read from `{}`: {error}", self.name))?;
            if let Some((_, rest)) = line.split_once(mark) {
                return Ok(rest
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned());
            }
        }
        Err(format!("`{}` ended before it said `{mark}`", self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it is left.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
