//! A primary, its replica, and the Sentinels that watch them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::patience::{self, Seen};
use super::server::Role;
use super::{Engine, Server, ServerError};

const MASTER: &str = "tallygate";
const SENTINELS: u16 = 3;
const QUORUM: u16 = 2;
const DOWN_AFTER_MS: u32 = 1000;
const FAILOVER_TIMEOUT_MS: u32 = 3000;

/// How often Sentinels do what they do, in milliseconds.
///
/// They would look at servers every 10 s and speak of each other every 2 s, and so find together late. The first sign of life
/// is asked for one period after a server is known: were that as long as a dead one's silence, a new primary would be thought
/// dead at once. And a replica counts as fit for five such periods after it was last looked at, which is every second while
/// its primary is dead: so they are not much shorter either.
const PERIODS: [&str; 6] = [
    "INFO-PERIOD",
    "200",
    "PUBLISH-PERIOD",
    "200",
    "PING-PERIOD",
    "300",
];

/// How long finding together may take.
const FORM: Duration = Duration::from_secs(30);

/// A primary and a replica, watched by three Sentinels of which two decide. Killed when dropped.
///
/// A primary that is silent for a second is thought dead.
pub struct Sentinels {
    // First, so that they are not seen to mourn the servers.
    sentinels: Vec<Server>,
    servers: Vec<Server>,
}

impl Sentinels {
    /// Starts them, and waits until the replica copies the primary and all three Sentinels know all others.
    /// `config` is added to the configuration of the primary and of the replica, what it says of TLS to that of the Sentinels too.
    ///
    /// # Errors
    /// As [`Server::start`], or they do not find together within half a minute.
    pub fn start(engine: Engine, config: &[&str]) -> Result<Self, ServerError> {
        let lines = [&["repl-diskless-sync-delay 0"], config].concat();
        let primary = Server::start(engine, &lines)?;
        let of = format!("replicaof 127.0.0.1 {}", primary.peer_port());
        let replica = Server::start(engine, &[lines.as_slice(), &[of.as_str()]].concat())?;
        // What a Sentinel sees when it first looks it need not find out later.
        patience::until("the replica to copy the primary", FORM, || copies(&replica))?;
        // A replica is sent nothing before its first word, which it may say a second later.
        primary.command(&["PUBLISH", "", ""])?;
        patience::until("the replica to hear", FORM, || hears(&primary, &replica))?;
        let sentinels = (0..SENTINELS).map(|_| watch(engine, primary.peer_port(), config));
        let sentinels = sentinels.collect::<Result<_, _>>()?;
        let started = Self {
            sentinels,
            servers: vec![primary, replica],
        };
        started.wait_until_well(FORM)?;
        Ok(started)
    }

    /// The name under which the Sentinels know the primary.
    pub fn master_name(&self) -> &'static str {
        MASTER
    }

    /// The address as `redis+sentinel://host:port,host:port,host:port/name`, with all Sentinels.
    pub fn url(&self) -> String {
        let sentinels = self.sentinels.iter();
        let addrs: Vec<String> = sentinels.map(|each| each.addr().to_string()).collect();
        format!("redis+sentinel://{}/{MASTER}", addrs.join(","))
    }

    /// The same over TLS, as `rediss+sentinel://host:port,host:port,host:port/name`, with all that were given a certificate.
    pub fn tls_url(&self) -> String {
        let addrs = self.sentinels.iter().filter_map(Server::tls_addr);
        let addrs: Vec<String> = addrs.map(|addr| addr.to_string()).collect();
        format!("rediss+sentinel://{}/{MASTER}", addrs.join(","))
    }

    /// The three Sentinels.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The two servers: first the one that began as the primary.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The primary, by the word of the first Sentinel that is awake; it may have died since.
    ///
    /// # Errors
    /// No Sentinel answers.
    pub fn primary(&self) -> Result<&Server, ServerError> {
        let sentinel = self.sentinels.iter().find(|each| each.is_awake());
        let sentinel = sentinel.ok_or_else(|| ServerError::Stopped {
            port: self.sentinels[0].port(),
        })?;
        let port = named_by(sentinel)?;
        let named = self
            .servers
            .iter()
            .find(|server| server.peer_port() == port);
        named.ok_or_else(|| ServerError::Answer {
            command: "SENTINEL GET-MASTER-ADDR-BY-NAME",
            wanted: "one of the servers".to_owned(),
        })
    }

    /// The server that is not the primary; it may be dead.
    ///
    /// # Errors
    /// No Sentinel answers.
    pub fn replica(&self) -> Result<&Server, ServerError> {
        let primary = self.primary()?.port();
        Ok(match self.servers[0].port() == primary {
            true => &self.servers[1],
            false => &self.servers[0],
        })
    }

    /// Kills the primary, and says which server that was.
    ///
    /// # Errors
    /// No Sentinel answers.
    pub fn kill_primary(&self) -> Result<&Server, ServerError> {
        let primary = self.primary()?;
        primary.kill();
        Ok(primary)
    }

    /// Has the replica take over from a primary that is well; asked for again where Sentinels give up, as on a busy machine.
    ///
    /// # Errors
    /// [`ServerError::Late`] after a minute.
    pub fn fail_over(&self) -> Result<(), ServerError> {
        let old = self.primary()?;
        let mut tries = 12;
        loop {
            tries -= 1;
            // Refused while another try is under way.
            let _ = self.sentinels[0].command(&["SENTINEL", "FAILOVER", MASTER]);
            match self.wait_for_another_than(old, Duration::from_secs(5)) {
                Err(ServerError::Late { .. }) if tries > 0 => {}
                done => return done.map(drop),
            }
        }
    }

    /// Waits until every Sentinel that is awake names another primary than `old`, which knows that it is one; gives how long that took.
    ///
    /// # Errors
    /// [`ServerError::Late`] after `deadline`.
    pub fn wait_for_another_than(
        &self,
        old: &Server,
        deadline: Duration,
    ) -> Result<Duration, ServerError> {
        let began = Instant::now();
        patience::until("another primary", deadline, || self.look_beyond(old))?;
        Ok(began.elapsed())
    }

    /// Waits until every Sentinel that is awake knows all others and the replica, and this copies the primary, as after the
    /// start of a killed server; gives how long that took.
    ///
    /// # Errors
    /// [`ServerError::Late`] after `deadline`.
    pub fn wait_until_well(&self, deadline: Duration) -> Result<Duration, ServerError> {
        let began = Instant::now();
        patience::until("the Sentinels to find together", deadline, || self.look())?;
        Ok(began.elapsed())
    }

    fn look_beyond(&self, old: &Server) -> Result<Seen<()>, ServerError> {
        for sentinel in self.sentinels.iter().filter(|each| each.is_awake()) {
            if named_by(sentinel)? == old.peer_port() {
                let port = sentinel.port();
                return Ok(Seen::NotYet(format!("{port} still names {}", old.port())));
            }
        }
        let new = self.primary()?;
        let role = new.info("replication")?.remove("role");
        Ok(match role.as_deref() {
            Some("master") => Seen::Done(()),
            _ => Seen::NotYet(format!("{} does not know that it is one", new.port())),
        })
    }

    fn look(&self) -> Result<Seen<()>, ServerError> {
        let (primary, replica) = (self.primary()?, self.replica()?);
        for server in [primary, replica] {
            if !server.is_awake() {
                return Ok(Seen::NotYet(format!("{} is not awake", server.port())));
            }
        }
        for sentinel in self.sentinels.iter().filter(|each| each.is_awake()) {
            let seen: BTreeMap<String, String> = sentinel.ask(&["SENTINEL", "MASTER", MASTER])?;
            let knows = |name: &str, count: u16| seen.get(name) == Some(&count.to_string());
            let all = knows("num-slaves", 1)
                && knows("num-other-sentinels", SENTINELS - 1)
                && knows("port", primary.peer_port());
            if !all || sentinel.command(&["SENTINEL", "CKQUORUM", MASTER]).is_err() {
                let port = sentinel.port();
                return Ok(Seen::NotYet(format!("{port} does not know all")));
            }
        }
        copies(replica)
    }
}

/// A Sentinel that watches the primary on `port`.
fn watch(engine: Engine, port: u16, config: &[&str]) -> Result<Server, ServerError> {
    let monitor = format!("sentinel monitor {MASTER} 127.0.0.1 {port} {QUORUM}");
    let down = format!("sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}");
    let timeout = format!("sentinel failover-timeout {MASTER} {FAILOVER_TIMEOUT_MS}");
    let mut lines = vec![monitor.as_str(), &down, &timeout];
    lines.extend(config.iter().filter(|line| line.starts_with("tls-")));
    let sentinel = Server::start_as(Role::Sentinel, engine, &lines)?;
    sentinel.command(&[["SENTINEL", "DEBUG"].as_slice(), &PERIODS].concat())?;
    Ok(sentinel)
}

/// The port of the primary that a Sentinel names.
fn named_by(sentinel: &Server) -> Result<u16, ServerError> {
    let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
    let (_, port): (String, u16) = sentinel.ask(&question)?;
    Ok(port)
}

fn copies(replica: &Server) -> Result<Seen<()>, ServerError> {
    let mut info = replica.info("replication")?;
    Ok(match info.remove("master_link_status").as_deref() {
        Some("up") => Seen::Done(()),
        _ => Seen::NotYet("its link is down".to_owned()),
    })
}

/// Whether the replica has all that the primary had.
fn hears(primary: &Server, replica: &Server) -> Result<Seen<()>, ServerError> {
    let offset = |server: &Server, name: &str| {
        let mut info = server.info("replication")?;
        Ok::<u64, ServerError>(
            info.remove(name)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        )
    };
    let written = offset(primary, "master_repl_offset")?;
    Ok(match offset(replica, "slave_repl_offset")? {
        heard if heard >= written => Seen::Done(()),
        heard => Seen::NotYet(format!("it has heard {heard} of {written}")),
    })
}
