//! What servers say instead of an answer, and what that means for the caller.
use std::fmt;

use redis::{RedisError, ServerError};
use tallygate_core::text::printable;

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

/// What `redis.pcall` gave a script for an error, without what servers before 7.0 wrap around it.
pub(super) fn told_to_script(text: &str) -> String {
    let text = text.trim().trim_start_matches('-');
    match unwrapped("ERR", text) {
        (_, whole) if whole.len() == text.len() => shortened(text),
        (code, detail) => shortened(&format!("{code} {detail}")),
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

/// One line, long enough to tell what is meant. The arguments of an unknown command are left out, and so is where in the
/// script it was, by its hash.
fn shortened(text: &str) -> String {
    let text = text.split(", with args beginning").next().unwrap_or(text);
    let text = match text.split_once(" script: ") {
        Some((said, place)) if place.contains("@user_script") => said,
        _ => text,
    };
    let line: String = printable(text).chars().take(LONGEST).collect();
    line.trim().to_owned()
}

const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Said {
        let answer = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        match answer {
            Ok(redis::Value::ServerError(error)) => Said::read(&error),
            other => panic!("{other:?}"),
        }
    }

    fn from() -> Node {
        Node {
            host: "asked".to_owned(),
            port: 1,
        }
    }

    #[test]
    fn redirections_are_read() {
        for (line, node) in [
            ("MOVED 3999 127.0.0.1:6381", "127.0.0.1:6381"),
            ("MOVED 3999 ::1:6381", "[::1]:6381"),
            ("MOVED 3999 :6381", "asked:6381"),
            ("MOVED 3999 limits.example:6381", "limits.example:6381"),
        ] {
            match read(line) {
                Said::Moved { slot: 3999, to } => {
                    assert_eq!(to.seen_from(&from()).to_string(), node);
                }
                other => panic!("{other:?}"),
            }
        }
        let to = Place::new("h", 1);
        assert_eq!(read("ASK 1 h:1"), Said::Ask { to });
        for nonsense in [
            "MOVED",
            "MOVED 1",
            "MOVED x h:1",
            "MOVED 1 h",
            "ASK 1 h:99999",
        ] {
            assert!(matches!(read(nonsense), Said::Refused(_)), "{nonsense}");
        }
    }

    #[test]
    fn states_that_pass_are_told_from_answers_that_stay() {
        for (line, wanted) in [
            ("NOSCRIPT No matching script.", "NoScript"),
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                "TryAgain",
            ),
            ("LOADING Redis is loading the dataset in memory", "NotNow"),
            ("BUSY Redis is busy running a script.", "NotNow"),
            ("MASTERDOWN Link with MASTER is down", "NotNow"),
            ("CLUSTERDOWN The cluster is down", "NotNow"),
            ("CLUSTERDOWN Hash slot not served", "Alone"),
            ("NOREPLICAS Not enough good replicas to write.", "Alone"),
            (
                "READONLY You can't write against a read only replica.",
                "NotHere",
            ),
            ("NOAUTH Authentication required.", "NotHere"),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                "Refused",
            ),
            (
                "MISCONF Redis is configured to save RDB snapshots",
                "Refused",
            ),
            ("ERR whatever", "Refused"),
        ] {
            let said = format!("{:?}", read(line));
            assert!(said.starts_with(wanted), "{line}: {said}");
        }
    }

    /// As 6.2 words it.
    #[test]
    fn what_a_command_said_to_a_script_is_unwrapped() {
        let wrapped =
            "ERR Error running script (call to f_1b0f): @user_script:1: @user_script: 1: -";
        let oom = read(&format!("{wrapped}OOM command not allowed"));
        assert_eq!(oom, Said::Refused("OOM command not allowed".to_owned()));
        let replica = read(&format!("{wrapped}READONLY You can't write"));
        assert_eq!(
            replica,
            Said::NotHere("READONLY You can't write".to_owned())
        );
        let other = read(&format!("{wrapped}something else"));
        assert!(matches!(other, Said::Refused(text) if text.starts_with("ERR Error running")));
    }

    /// As 6.2 and 7.0 word it.
    #[test]
    fn what_a_script_was_told_is_unwrapped() {
        let plain = "OOM command not allowed when used memory > 'maxmemory'.";
        for text in [
            format!("@user_script: 22: -{plain}\r\n"),
            format!("@user_script: 1: -{plain}\r\n"),
            format!("-{plain}"),
            plain.to_owned(),
        ] {
            assert_eq!(told_to_script(&text), plain, "{text}");
        }
        let other = "The user executing the script can't run this command";
        assert_eq!(told_to_script(other), other);
    }

    #[test]
    fn texts_are_one_line_and_short_and_without_arguments() {
        let said = read("ERR unknown command 'EVALSHA', with args beginning with: 'secret'");
        assert_eq!(
            said,
            Said::Refused("ERR unknown command 'EVALSHA'".to_owned())
        );
        let full = "OOM command not allowed when used memory > 'maxmemory'.";
        assert_eq!(
            read(&format!("{full} script: 1b0f, on @user_script:1.")),
            Said::Refused(full.to_owned())
        );
        match read(&format!("ERR {}", "é\t".repeat(500))) {
            Said::Refused(text) => assert!(text.chars().count() <= LONGEST && !text.contains('\t')),
            other => panic!("{other:?}"),
        }
    }
}
