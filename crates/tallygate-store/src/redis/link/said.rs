//! What servers say instead of an answer, and what that means for the caller.
use std::fmt;

use redis::{RedisError, ServerError};

use crate::redis::options::Node;

/// An error that a server answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It does not know the script.
    NoScript,
    /// The slot is another server's.
    Moved { slot: u16, to: Place },
    /// The slot is on its way to another server, and this key is there already.
    Ask { to: Place },
    /// The slot is on its way, and its keys are on both sides.
    TryAgain,
    /// It takes no call just now: it loads, is busy, or lost its primary or its Cluster.
    NotNow(String),
    /// It takes no writes: another one is the primary, or it wants a fresh login.
    NotHere(String),
    /// It is well, but its replicas are not, or nobody has the slot: nothing was done.
    Alone(String),
    /// It will not do this, today or tomorrow.
    Refused(String),
}

/// Where a redirection points to. An empty host is the host of who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    host: String,
    port: u16,
}

impl Place {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
        }
    }

    /// The server, as seen from the one at `from`.
    pub(super) fn seen_from(self, from: &Node) -> Node {
        let known = !self.host.is_empty();
        Node {
            host: if known { self.host } else { from.host.clone() },
            port: self.port,
        }
    }
}

impl Said {
    pub(super) fn read(error: &ServerError) -> Self {
        let (code, detail) = unwrapped(error.code(), error.details().unwrap_or_default());
        let text = shortened(&format!("{code} {detail}"));
        match code {
            "NOSCRIPT" => Self::NoScript,
            "TRYAGAIN" => Self::TryAgain,
            "MOVED" => redirection(detail)
                .map_or(Self::Refused(text), |(slot, to)| Self::Moved { slot, to }),
            "ASK" => redirection(detail).map_or(Self::Refused(text), |(_, to)| Self::Ask { to }),
            // The servers are well, but one slot is nobody's.
            "CLUSTERDOWN" if detail.contains("not served") => Self::Alone(text),
            "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" => Self::NotNow(text),
            "READONLY" | "NOAUTH" => Self::NotHere(text),
            "NOREPLICAS" => Self::Alone(text),
            _ => Self::Refused(text),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScript => out.write_str("it does not know the script"),
            Self::TryAgain => out.write_str("the slot is being moved"),
            Self::Moved { slot, to } => {
                write!(out, "slot {slot} is at {}:{}", to.host, to.port)
            }
            Self::Ask { to } => write!(out, "the slot is on its way to {}:{}", to.host, to.port),
            Self::NotNow(text) | Self::NotHere(text) | Self::Alone(text) | Self::Refused(text) => {
                out.write_str(text)
            }
        }
    }
}

/// Servers before 7.0 wrap what a command said to a script: `ERR Error running script (…): @user_script: 1: -OOM …`.
fn unwrapped<'e>(code: &'e str, detail: &'e str) -> (&'e str, &'e str) {
    let inner = detail.rsplit_once(": -").map(|(_, inner)| inner);
    let inner = inner.and_then(|inner| inner.split_once(' '));
    match inner {
        Some((word, rest)) if code == "ERR" && is_code(word) => (word, rest),
        _ => (code, detail),
    }
}

fn is_code(word: &str) -> bool {
    word.len() >= 3 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Reads `3999 127.0.0.1:6381`; the host may be empty, a name, or an IPv6 address without brackets.
fn redirection(detail: &str) -> Option<(u16, Place)> {
    let (slot, place) = detail.trim().split_once(' ')?;
    let (host, port) = place.rsplit_once(':')?;
    Some((slot.parse().ok()?, Place::new(host, port.parse().ok()?)))
}

/// An error of the connection, in words.
pub(super) fn told(error: &RedisError) -> String {
    if error.is_connection_dropped() {
        return "the connection was closed".to_owned();
    }
    shortened(&error.to_string())
}

/// One line, long enough to tell what is meant. The arguments of an unknown command are left out.
fn shortened(text: &str) -> String {
    let text = text.split(", with args beginning").next().unwrap_or(text);
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let line: String = line.take(LONGEST).collect();
    line.trim().to_owned()
}

const LONGEST: usize = 200;
