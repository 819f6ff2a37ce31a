//! Running the built binary.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A command of the binary in an environment of its own.
pub(crate) fn tallygate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallygate"));
    command
        .args(arguments)
        .env_remove("OPENAI_API_KEY")
        .env_remove("ANTHROPIC_API_KEY")
        .env_remove("GEMINI_API_KEY")
        .env_remove("TALLYGATE_KEY")
        .env_remove("TALLYGATE_ADMIN_KEY")
        .env_remove("TALLYGATE_LOG");
    command
}

/// What it said and how it ended.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}{}", self.stdout, self.stderr))
    }
}

/// Runs to the end with `stdin` as its input.
pub(crate) fn run_with(arguments: &[&str], stdin: &str) -> Ran {
    let mut child = tallygate(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A command that does not read its input may have ended already.
    drop(
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(stdin.as_bytes()),
    );
    ran(child.wait_with_output().expect("it ends"))
}

/// Runs to the end with no input.
pub(crate) fn run(arguments: &[&str]) -> Ran {
    run_with(arguments, "")
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
