//! A server's process, and a watchdog that ends it when we die.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::ServerError;

/// Sends the signals it reads, one a line, and answers each with a line. At the end of its input, which our death brings too,
/// it kills the server and clears its folder. A Ctrl-C at the terminal is not for it: it has to outlive us.
const WATCHDOG: &str = r#"
trap '' INT HUP TERM
while read -r signal; do
    kill -s "$signal" "$1"
    echo sent
done
kill -s KILL "$1" 2>/dev/null
rm -rf "$2"
"#;

/// A running server. Dropping it kills it, and removes no file.
pub(super) struct Process {
    server: Child,
    watchdog: Watchdog,
}

struct Watchdog {
    shell: Child,
    signals: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts `program` in `folder`, where what it says goes to the file `log`.
    pub(super) fn start(program: &mut Command, folder: &Folder) -> Result<Self, ServerError> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.log())
            .map_err(ServerError::machine("open the log of a server"))?;
        let errors = log
            .try_clone()
            .map_err(ServerError::machine("open the log of a server"))?;
        let mut server = program
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(ServerError::machine("start a server"))?;
        match Watchdog::start(&server, folder.path()) {
            Ok(watchdog) => Ok(Self { server, watchdog }),
            Err(error) => {
                end(&mut server);
                Err(error)
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.server.id()
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.server.try_wait(), Ok(None))
    }

    /// Sends a signal by its name, and returns when it was sent.
    pub(super) fn signal(&mut self, name: &str) -> Result<(), ServerError> {
        self.watchdog
            .send(name)
            .map_err(ServerError::machine("signal a server"))
    }

    /// Asks it to end, and waits until it has.
    pub(super) fn stop(mut self) -> Result<(), ServerError> {
        self.signal("TERM")?;
        self.signal("CONT")?;
        let ended = self.server.wait();
        ended
            .map(drop)
            .map_err(ServerError::machine("stop a server"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First the watchdog: it knows the server by a number that may soon be another's.
        end(&mut self.watchdog.shell);
        end(&mut self.server);
    }
}

impl Watchdog {
    fn start(server: &Child, folder: &Path) -> Result<Self, ServerError> {
        let failed = "start the watchdog of a server";
        let mut shell = Command::new("sh")
            .args(["-c", WATCHDOG, "sh", &server.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ServerError::machine(failed))?;
        let (Some(signals), Some(answers)) = (shell.stdin.take(), shell.stdout.take()) else {
            end(&mut shell);
            return Err(ServerError::machine(failed)(
                std::io::ErrorKind::BrokenPipe.into(),
            ));
        };
        Ok(Self {
            shell,
            signals,
            answers: BufReader::new(answers),
        })
    }

    fn send(&mut self, signal: &str) -> std::io::Result<()> {
        writeln!(self.signals, "{signal}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.is_empty() {
            true => Err(std::io::ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        }
    }
}

/// Kills and reaps. It may have ended by itself; either way nothing of it is left.
fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// A folder under the system's temporary one, removed when dropped.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self, ServerError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tallygate-server-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // A process with our number may have had it before.
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).map_err(ServerError::machine("make a folder for a server"))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// The end of the log, in one line.
    pub(super) fn last_words(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<&str> = text.lines().rev().take(5).map(str::trim).collect();
        lines.reverse();
        lines.join(" | ")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in a folder that the system empties.
        drop(fs::remove_dir_all(&self.0));
    }
}
