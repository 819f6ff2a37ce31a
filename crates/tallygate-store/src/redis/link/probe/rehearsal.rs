//! Everything that calls will ask of a server, asked once before any does.
use redis::{Cmd, Value};
use tokio::time::timeout;

use super::{Probe, Refusal, Role, dialed};
use crate::redis::link::said::{self, Said};
use crate::redis::link::wire::Wire;
use crate::redis::opening::RedisOpenError;

const SCRIPT: &str = include_str!("rehearsal.lua");

const WRITE_MANY: &str = "return redis.call('MSETEX', 1, KEYS[1], '0', 'PX', '1000')";

/// An instant that has passed.
const LONG_AGO: &str = "1000";

/// What the script of the rehearsal may name, as it is told to operators.
const TRIED: [&str; 14] = [
    "GET",
    "MGET",
    "SET",
    "SETRANGE",
    "PEXPIRE",
    "ZADD",
    "PEXPIREAT",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZREMRANGEBYSCORE",
    "ZREM",
    "DEL",
    "PUBLISH",
    "PUBSUB",
];

/// What a rehearsal may touch.
pub(in crate::redis::link) struct Stage {
    /// Two keys of one slot that is the server's.
    pub(in crate::redis::link) keys: [String; 2],
    /// Nobody listens there.
    pub(in crate::redis::link) channel: String,
}

impl Probe<'_> {
    /// Whether the server does all that calls will ask of it; else the first that it does not.
    pub(in crate::redis::link) async fn rehearse(
        &self,
        wire: &Wire,
        stage: &Stage,
    ) -> Result<(), RedisOpenError> {
        self.run_commands(wire, stage).await?;
        let unknown = "0000000000000000000000000000000000000000";
        let mut by_hash = redis::cmd("EVALSHA");
        by_hash.arg(unknown).arg(0);
        self.permitted(wire, "EVALSHA", by_hash).await?;
        self.permitted(wire, "PING", redis::cmd("PING")).await?;
        if self.role == Role::Member {
            self.permitted(wire, "ASKING", redis::cmd("ASKING")).await?;
            let mut info = redis::cmd("CLUSTER");
            info.arg("INFO");
            self.permitted(wire, "CLUSTER INFO", info).await?;
        }
        self.hear(stage).await
    }

    /// Whether its user may write many keys at one go, and it can: Valkey 9.1, Redis 8.4, and what came after.
    pub(in crate::redis::link) async fn writes_many(&self, wire: &Wire, stage: &Stage) -> bool {
        let mut command = redis::cmd("EVAL");
        command.arg(WRITE_MANY).arg(1).arg(&stage.keys[0]);
        self.ask(wire, command).await.is_ok()
    }

    /// The commands of scripts.
    async fn run_commands(&self, wire: &Wire, stage: &Stage) -> Result<(), RedisOpenError> {
        let mut command = redis::cmd("EVAL");
        let alone = match self.role {
            Role::Primary => "alone",
            Role::Member => "together",
        };
        command.arg(SCRIPT).arg(stage.keys.len());
        command.arg(&stage.keys).arg(&stage.channel);
        command.arg(LONG_AGO).arg(alone);
        let answer = self.ask(wire, command).await;
        let answer = answer.map_err(|reason| {
            // The first key that it may not touch ends the script before it runs.
            reason.into_error(self.host(), |host, reason| refused(host, "EVAL", reason))
        })?;
        match refusal(answer) {
            None => Ok(()),
            Some((what, reason)) => Err(refused(self.host(), what, reason)),
        }
    }

    /// Whether a command is not refused for want of a right, whatever else comes of it.
    async fn permitted(
        &self,
        wire: &Wire,
        what: &'static str,
        command: Cmd,
    ) -> Result<(), RedisOpenError> {
        match self.ask(wire, command).await {
            Err(Refusal::Said(Said::Refused(reason))) => Err(refused(self.host(), what, reason)),
            Err(Refusal::Said(Said::NoScript)) | Ok(_) => Ok(()),
            Err(other) => {
                Err(other.into_error(self.host(), |host, reason| refused(host, what, reason)))
            }
        }
    }

    /// Whether messages are heard.
    async fn hear(&self, stage: &Stage) -> Result<(), RedisOpenError> {
        let radio = self.dialer.pubsub(self.node).await;
        let mut radio = radio.map_err(|error| dialed(error, self.host()))?;
        match timeout(self.patience, radio.subscribe(&stage.channel)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(refused(self.host(), "SUBSCRIBE", error.to_string())),
            Err(_) => Err(RedisOpenError::Unreachable {
                host: self.host(),
                reason: format!("no answer to SUBSCRIBE within {:?}", self.patience),
            }),
        }
    }
}

/// What the rehearsal's script says was refused, and why.
fn refusal(answer: Value) -> Option<(&'static str, String)> {
    let (name, reason): (String, String) = redis::from_redis_value(answer).ok()?;
    let what = TRIED.into_iter().find(|tried| *tried == name)?;
    Some((what, said::told_to_script(&reason)))
}

/// What it means that a command was refused.
pub(super) fn refused(host: String, what: &'static str, reason: String) -> RedisOpenError {
    if reason.starts_with("OOM") {
        return RedisOpenError::Full { host, reason };
    }
    if lacks_a_right(&reason) {
        return RedisOpenError::Permission { host, what, reason };
    }
    RedisOpenError::Writes { host, reason }
}

/// What servers say when a command or a script does what its user may not: 7.0 and before, Redis 7.2, Valkey; and when
/// a command was taken away.
fn lacks_a_right(reason: &str) -> bool {
    [
        "The user executing the script",
        "NOPERM",
        "NoPerm",
        "ACL failure in script",
        "nknown Redis command",
        "nknown command",
    ]
    .iter()
    .any(|words| reason.contains(words))
}
