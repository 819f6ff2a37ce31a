//! What a server must be able to do before anything is built upon it.
mod info;
mod rehearsal;

use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::timeout;

use self::info::Info;
pub(super) use self::rehearsal::Stage;
use super::dialer::{DialError, Dialer};
use super::said::Said;
use super::wire::{Fault, Order, Wire};
use crate::redis::found::Found;
use crate::redis::opening::RedisOpenError;
use crate::redis::options::Node;

/// One server under examination.
pub(super) struct Probe<'p> {
    pub(super) dialer: &'p Dialer,
    pub(super) node: &'p Node,
    /// What the URL takes it for.
    pub(super) role: Role,
    /// The longest an answer may take.
    pub(super) patience: Duration,
}

/// What a server is taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A primary without a Cluster.
    Primary,
    /// A node of a Cluster, primary or replica.
    Member,
}

impl Probe<'_> {
    /// Whether it is what the URL says; gives a connection to look further, and what was found.
    pub(super) async fn greet(&self) -> Result<(Wire, Found), RedisOpenError> {
        let wire = self.dialer.wire(self.node).await;
        let wire = wire.map_err(|error| dialed(error, self.host()))?;
        let info = self.info(&wire).await?;
        info.suits(self.role, self.host())?;
        Ok((wire, info.found(self.host())))
    }

    /// Whether scripts run, read the clock and do what they must on this stage.
    pub(super) async fn try_out(&self, wire: &Wire, stage: &Stage) -> Result<(), RedisOpenError> {
        let host = self.host();
        let scripts = self.ask(wire, eval("return 1")).await;
        scripts.map_err(|reason| reason.into_error(host.clone(), scripts_refused))?;
        let time = self.ask(wire, eval(READ_CLOCK)).await;
        time.map_err(|reason| {
            reason.into_error(host, |host, reason| RedisOpenError::ScriptTime {
                host,
                reason,
            })
        })?;
        self.rehearse(wire, stage).await
    }

    async fn info(&self, wire: &Wire) -> Result<Info, RedisOpenError> {
        let answer = self.ask(wire, redis::cmd("INFO")).await;
        let answer = answer.map_err(|reason| {
            reason.into_error(self.host(), |host, reason| RedisOpenError::Permission {
                host,
                what: "INFO",
                reason,
            })
        })?;
        let text: String = redis::from_redis_value(answer).unwrap_or_default();
        Info::read(&text).ok_or_else(|| RedisOpenError::NotRedis { host: self.host() })
    }

    async fn ask(&self, wire: &Wire, command: Cmd) -> Result<Value, Refusal> {
        let order = Order::Plain(command);
        match timeout(self.patience, wire.ask(&order)).await {
            Err(_) => Err(Refusal::Silent(format!(
                "no answer within {:?}",
                self.patience
            ))),
            Ok(Err(Fault::Said(said))) => Err(Refusal::Said(said)),
            Ok(Err(Fault::Broken(reason))) => Err(Refusal::Silent(reason)),
            Ok(Err(Fault::Foreign)) => Err(Refusal::Foreign),
            Ok(Ok(value)) => Ok(value),
        }
    }

    fn host(&self) -> String {
        self.node.to_string()
    }
}

fn eval(script: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(script).arg(0);
    command
}

const READ_CLOCK: &str = "return redis.call('TIME')[1]";

/// Why a server did not do what it was asked.
enum Refusal {
    Silent(String),
    Foreign,
    Said(Said),
}

impl Refusal {
    /// The error that follows, where `refused` makes one of a plain no.
    fn into_error(
        self,
        host: String,
        refused: impl FnOnce(String, String) -> RedisOpenError,
    ) -> RedisOpenError {
        match self {
            Self::Silent(reason) => RedisOpenError::Unreachable { host, reason },
            Self::Foreign => RedisOpenError::NotRedis { host },
            Self::Said(Said::NotNow(reason)) => RedisOpenError::NotReady { host, reason },
            Self::Said(Said::NotHere(reason)) if reason.starts_with("NOAUTH") => {
                RedisOpenError::Login { host, reason }
            }
            Self::Said(Said::NotHere(_)) => RedisOpenError::Replica {
                host,
                primary: None,
            },
            Self::Said(said) => refused(host, said.to_string()),
        }
    }
}

fn scripts_refused(host: String, reason: String) -> RedisOpenError {
    if reason.starts_with("NOPERM") {
        let what = "EVAL";
        return RedisOpenError::Permission { host, what, reason };
    }
    RedisOpenError::Scripts { host, reason }
}

/// The error that a failed connection means.
pub(super) fn dialed(error: DialError, host: String) -> RedisOpenError {
    match error {
        DialError::Connect(_) | DialError::Silent(_) | DialError::Broken(_) => {
            let reason = error.to_string();
            RedisOpenError::Unreachable { host, reason }
        }
        DialError::Foreign => RedisOpenError::NotRedis { host },
        DialError::Tls(reason) => RedisOpenError::Tls { host, reason },
        DialError::Login(reason) => RedisOpenError::Login { host, reason },
        DialError::Database(reason) => RedisOpenError::Database { host, reason },
        DialError::Said(reason) => RedisOpenError::NotReady { host, reason },
    }
}
