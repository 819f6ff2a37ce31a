//! The options of a store URL.
use std::time::Duration;

use super::url::{Kind, Servers, decoded, number};
use super::{Login, RedisUrlError};

/// What the options say; what is absent stands at its default.
#[derive(Default)]
pub(super) struct Query {
    pub(super) prefix: Option<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) connections: Option<u8>,
    pub(super) ca: Option<String>,
    sentinel_user: Option<String>,
    sentinel_password: Option<String>,
}

impl Query {
    pub(super) fn read(text: &str) -> Result<Self, RedisUrlError> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            query.take(known(name)?, value)?;
        }
        Ok(query)
    }

    fn take(&mut self, name: &'static str, value: &str) -> Result<(), RedisUrlError> {
        let value = decoded(value, name)?;
        match name {
            "prefix" => set(&mut self.prefix, name, prefix(value)?),
            "timeout" => set(&mut self.timeout, name, timeout(&value)?),
            "connect_timeout" => set(&mut self.connect_timeout, name, connect_timeout(&value)?),
            "deadline" => set(&mut self.deadline, name, deadline(&value)?),
            "connections" => set(&mut self.connections, name, connections(&value)?),
            "ca" => set(&mut self.ca, name, file(value)?),
            "sentinel_user" => set(&mut self.sentinel_user, name, value),
            _ => set(&mut self.sentinel_password, name, value),
        }
    }

    /// Refuses what goes with another kind of URL.
    pub(super) fn suits(&self, kind: &Kind) -> Result<(), RedisUrlError> {
        let misplaced = |name, with| Err(RedisUrlError::Misplaced { name, with });
        if self.ca.is_some() && !kind.tls {
            return misplaced("ca", "rediss://");
        }
        let sentinels = kind.servers == Servers::Sentinels;
        if self.sentinel_user.is_some() && !(sentinels && self.sentinel_password.is_some()) {
            return misplaced("sentinel_user", "sentinel_password of redis+sentinel://");
        }
        if self.sentinel_password.is_some() && !sentinels {
            return misplaced("sentinel_password", "redis+sentinel://");
        }
        Ok(())
    }

    pub(super) fn sentinel_login(&self) -> Option<Login> {
        self.sentinel_password.clone().map(|password| Login {
            user: self.sentinel_user.clone(),
            password,
        })
    }
}

/// The option of this name, by its own text.
fn known(name: &str) -> Result<&'static str, RedisUrlError> {
    let found = NAMES.iter().find(|known| **known == name);
    found.copied().ok_or_else(|| RedisUrlError::Option {
        name: short(name),
        near: near(name),
    })
}

fn near(name: &str) -> Option<&'static str> {
    let distance = |known: &&str| strsim::damerau_levenshtein(name, known);
    NAMES
        .into_iter()
        .min_by_key(distance)
        .filter(|known| distance(known) <= known.len() / 3)
}

pub(super) fn names() -> String {
    NAMES.join(", ")
}

fn set<T>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), RedisUrlError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(RedisUrlError::Twice { name }),
    }
}

pub(super) fn prefix(value: String) -> Result<String, RedisUrlError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte);
    if (1..=64).contains(&value.len()) && value.bytes().all(good) {
        return Ok(value);
    }
    Err(bounds("prefix", &value, "1 to 64 of A-Z a-z 0-9 _ - . :"))
}

fn timeout(value: &str) -> Result<Duration, RedisUrlError> {
    let allowed = Duration::from_millis(5)..=Duration::from_secs(10);
    duration(value)
        .filter(|timeout| allowed.contains(timeout))
        .ok_or_else(|| bounds("timeout", value, "from 5ms to 10s"))
}

fn connect_timeout(value: &str) -> Result<Duration, RedisUrlError> {
    let allowed = Duration::from_millis(10)..=Duration::from_secs(30);
    duration(value)
        .filter(|timeout| allowed.contains(timeout))
        .ok_or_else(|| bounds("connect_timeout", value, "from 10ms to 30s"))
}

fn deadline(value: &str) -> Result<Duration, RedisUrlError> {
    let allowed = Duration::from_millis(5)..=Duration::from_secs(30);
    duration(value)
        .filter(|deadline| allowed.contains(deadline))
        .ok_or_else(|| bounds("deadline", value, "from 5ms to 30s"))
}

fn connections(value: &str) -> Result<u8, RedisUrlError> {
    number(value)
        .filter(|count| (1..=16).contains(count))
        .ok_or_else(|| bounds("connections", value, "a number from 1 to 16"))
}

fn file(value: String) -> Result<String, RedisUrlError> {
    if value.is_empty() {
        return Err(bounds("ca", &value, "a PEM file"));
    }
    Ok(value)
}

/// Whole milliseconds or seconds, with their unit.
fn duration(value: &str) -> Option<Duration> {
    match value.strip_suffix("ms") {
        Some(digits) => number(digits).map(Duration::from_millis),
        None => number(value.strip_suffix('s')?).map(Duration::from_secs),
    }
}

fn bounds(name: &'static str, value: &str, bounds: &'static str) -> RedisUrlError {
    RedisUrlError::Value {
        name,
        value: short(value),
        bounds,
    }
}

/// `text` as far as a message needs it.
pub(super) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

const NAMES: [&str; 8] = [
    "prefix",
    "timeout",
    "connect_timeout",
    "deadline",
    "connections",
    "ca",
    "sentinel_user",
    "sentinel_password",
];
