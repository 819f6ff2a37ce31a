//! One server.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::patience::{self, Seen};
use super::port::{BUS_OFFSET, Claim, loopback};
use super::process::{Folder, Process};
use super::wire::{KEEPER, Wire};
use super::{Engine, ServerError};

/// How long a start may take, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(20);

/// How many ports are tried when others take them between our look and the server's.
const PORTS_TRIED: u32 = 5;

/// A running server without persistence unless its configuration asks for it. Killed when dropped, its folder removed.
///
/// Beside the default user it has a user `keeper`, by which the calls here reach it whatever passwords a test sets.
pub struct Server {
    role: Role,
    engine: Engine,
    // Above folder and port, so that it ends before they go.
    process: Mutex<Option<Process>>,
    paused: AtomicBool,
    wire: Wire,
    claim: Claim,
    encrypted: Option<Claim>,
    folder: Folder,
}

impl Server {
    /// Starts a server with these lines added to its configuration (`appendonly yes`), and waits until it answers. One that is
    /// given a certificate (`tls-cert-file`) speaks TLS too, on [`Server::tls_addr`].
    ///
    /// # Errors
    /// The engine is missing, a line of the configuration is wrong, or no answer came within 20 s.
    pub fn start(engine: Engine, config: &[&str]) -> Result<Self, ServerError> {
        Self::start_as(Role::Data, engine, config)
    }

    pub(super) fn start_as(
        role: Role,
        engine: Engine,
        config: &[&str],
    ) -> Result<Self, ServerError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::new(role, engine, config).and_then(Self::started) {
                Err(ServerError::Ended { words, .. })
                    if words.contains("in use") && tries < PORTS_TRIED => {}
                outcome => return outcome,
            }
        }
    }

    fn new(role: Role, engine: Engine, config: &[&str]) -> Result<Self, ServerError> {
        let (claim, folder) = (Claim::new()?, Folder::new()?);
        let has_certificate = config.iter().any(|line| line.starts_with("tls-cert-file "));
        let encrypted = has_certificate.then(Claim::new).transpose()?;
        let ports = (claim.port(), encrypted.as_ref().map(Claim::port));
        fs::write(
            folder.path().join(CONFIG),
            role.configuration(ports, config),
        )
        .map_err(ServerError::machine("write the configuration of a server"))?;
        Ok(Self {
            role,
            engine,
            process: Mutex::new(None),
            paused: AtomicBool::new(false),
            wire: role.wire(claim.port()),
            claim,
            encrypted,
            folder,
        })
    }

    fn started(self) -> Result<Self, ServerError> {
        self.restart()?;
        Ok(self)
    }

    /// Which engine it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Where it listens, also while it is stopped.
    pub fn port(&self) -> u16 {
        self.claim.port()
    }

    /// Where it listens, also while it is stopped.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.port())
    }

    /// Where it speaks TLS, if it does.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.encrypted.as_ref().map(|claim| loopback(claim.port()))
    }

    /// Where other servers reach it: those that have certificates talk over TLS.
    pub(super) fn peer_port(&self) -> u16 {
        self.tls_addr().unwrap_or(self.addr()).port()
    }

    /// Its address as `redis://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Where its files are: `server.conf`, `log`, and what it persists.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it was started and not stopped since. A paused one is running.
    pub fn is_running(&self) -> bool {
        self.process
            .lock()
            .as_mut()
            .is_some_and(|process| !process.has_ended())
    }

    /// Whether it runs and is not paused.
    pub fn is_awake(&self) -> bool {
        self.is_running() && !self.paused.load(Ordering::SeqCst)
    }

    /// Asks it to end (`SIGTERM`), and waits until it has. Nothing happens to a server that is stopped.
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn stop(&self) -> Result<(), ServerError> {
        let process = self.process.lock().take();
        self.wire.close();
        process.map_or(Ok(()), Process::stop)
    }

    /// Kills it (`SIGKILL`), paused or not: what it had not written is lost. Nothing happens to a server that is stopped.
    pub fn kill(&self) {
        let process = self.process.lock().take();
        drop(process);
        self.wire.close();
    }

    /// Freezes it (`SIGSTOP`): connections stay, and nothing answers.
    ///
    /// # Errors
    /// It is stopped, or the signal cannot be sent.
    pub fn pause(&self) -> Result<(), ServerError> {
        self.signal("STOP")?;
        self.paused.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Lets it go on after [`Server::pause`].
    ///
    /// # Errors
    /// It is stopped, or the signal cannot be sent.
    pub fn resume(&self) -> Result<(), ServerError> {
        self.signal("CONT")?;
        self.paused.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Starts it again on the same port and folder, and waits until it answers; one that runs is killed first.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&self) -> Result<(), ServerError> {
        self.kill();
        let mut command = Command::new(self.engine.program()?);
        command.arg(CONFIG).args(self.role.arguments());
        if let Some(allocator) = self.engine.allocator() {
            command.env("LD_PRELOAD", allocator);
        }
        let mut process = Process::start(&mut command, &self.folder)?;
        patience::until("a server to answer", START, || self.look(&mut process))?;
        self.paused.store(false, Ordering::SeqCst);
        *self.process.lock() = Some(process);
        Ok(())
    }

    /// Sends one command and gives its answer, over a connection that is kept for the next. Answers come within 5 s or are an error.
    ///
    /// A command is sent once more where the server had closed the kept connection.
    ///
    /// # Errors
    /// The server refuses it, is stopped, or does not answer.
    pub fn command(&self, words: &[impl AsRef<[u8]>]) -> Result<redis::Value, ServerError> {
        self.wire.ask(words)
    }

    /// As [`Server::command`], the answer read as a type (`i64`, `String`, `Vec<u8>`).
    ///
    /// # Errors
    /// As [`Server::command`], and when the answer is of another type.
    pub fn ask<T: redis::FromRedisValue>(
        &self,
        words: &[impl AsRef<[u8]>],
    ) -> Result<T, ServerError> {
        self.wire.ask(words)
    }

    /// A connection of its own, with all rights and timeouts of 5 s.
    ///
    /// # Errors
    /// The server is stopped or does not answer.
    pub fn connect(&self) -> Result<redis::Connection, ServerError> {
        self.wire.connect()
    }

    /// A section of `INFO` (`memory`, `commandstats`, `all`): names and values.
    ///
    /// # Errors
    /// As [`Server::command`].
    pub fn info(&self, section: &str) -> Result<BTreeMap<String, String>, ServerError> {
        let text: String = self.ask(&["INFO", section])?;
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect())
    }

    /// CPU time that its main thread has used since it was started, in user and kernel: the thread that runs commands and scripts.
    ///
    /// # Errors
    /// As [`Server::command`].
    pub fn used_cpu(&self) -> Result<Duration, ServerError> {
        let info = self.info("cpu")?;
        let part = |name: &str| {
            let text = info.get(name).map_or("", String::as_str);
            let seconds = text.parse().ok();
            seconds
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .ok_or_else(|| ServerError::Answer {
                    command: "INFO cpu",
                    wanted: name.to_owned(),
                })
        };
        Ok(part("used_cpu_user_main_thread")? + part("used_cpu_sys_main_thread")?)
    }

    /// What it has said so far.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn log(&self) -> Result<String, ServerError> {
        let text = fs::read(self.folder.log());
        let text = text.map_err(ServerError::machine("read the log of a server"))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn signal(&self, name: &str) -> Result<(), ServerError> {
        let mut process = self.process.lock();
        let stopped = ServerError::Stopped { port: self.port() };
        process.as_mut().ok_or(stopped)?.signal(name)
    }

    /// Whether it answers, and is the one we started: another may have taken the port before it.
    fn look(&self, process: &mut Process) -> Result<Seen<()>, ServerError> {
        if process.has_ended() {
            return Err(ServerError::Ended {
                engine: self.engine,
                words: self.folder.last_words(),
            });
        }
        let seen = match (self.command(&["PING"]), self.info("server")) {
            (Err(error), _) | (_, Err(error)) => Seen::NotYet(error.to_string()),
            (Ok(_), Ok(info)) if info.get("process_id") == Some(&process.id().to_string()) => {
                Seen::Done(())
            }
            _ => Seen::NotYet("another server answers on its port".to_owned()),
        };
        if matches!(seen, Seen::NotYet(_)) {
            self.wire.close();
        }
        Ok(seen)
    }
}

const CONFIG: &str = "server.conf";

/// What a server is for.
#[derive(Clone, Copy)]
pub(super) enum Role {
    /// Keeps keys.
    Data,
    /// Watches servers that keep keys.
    Sentinel,
}

impl Role {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Data => &[],
            Self::Sentinel => &["--sentinel"],
        }
    }

    fn wire(self, port: u16) -> Wire {
        match self {
            Self::Data => Wire::of_keeper(port),
            Self::Sentinel => Wire::of_default_user(port),
        }
    }

    fn configuration(self, (port, encrypted): (u16, Option<u16>), config: &[&str]) -> String {
        let mut text = format!("bind 127.0.0.1\nport {port}\n");
        if let Some(encrypted) = encrypted {
            text.push_str(&format!("tls-port {encrypted}\n"));
        }
        if encrypted.is_some() && config.contains(&"cluster-enabled yes") {
            // Nodes that talk over TLS would do so above that port.
            text.push_str(&format!("cluster-port {}\n", port + BUS_OFFSET));
        }
        if let Self::Data = self {
            text.push_str("save \"\"\nappendonly no\n");
            text.push_str(&format!("user {KEEPER} on >{KEEPER} ~* &* +@all\n"));
        }
        for line in config {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}
