//! The parts of a store URL before its options.
use std::net::Ipv6Addr;

use super::query::{self, Query};
use super::{Login, Node, RedisOptions, RedisUrlError, Tls, Topology};

pub(super) fn read(url: &str) -> Result<RedisOptions, RedisUrlError> {
    let parts = Parts::of(url)?;
    let kind = Kind::of(parts.scheme)?;
    // The servers first: where a host was forgotten, what looks like an option may be the rest of a password.
    let (login, servers) = authority(parts.authority)?;
    let nodes = nodes(servers, kind.default_port())?;
    let query = Query::read(parts.query)?;
    query.suits(&kind)?;
    let (topology, db) = path(&kind, parts.path)?;
    if topology == Topology::Standalone && nodes.len() > 1 {
        return Err(RedisUrlError::ManyServers { count: nodes.len() });
    }
    Ok(RedisOptions {
        topology,
        nodes,
        db,
        login,
        sentinel_login: query.sentinel_login(),
        tls: kind
            .tls
            .then(|| query.ca.as_deref().map_or_else(Tls::default, Tls::with_ca)),
        prefix: query
            .prefix
            .unwrap_or_else(|| RedisOptions::PREFIX.to_owned()),
        connect_timeout: query
            .connect_timeout
            .unwrap_or(RedisOptions::CONNECT_TIMEOUT),
        timeout: query.timeout.unwrap_or(RedisOptions::TIMEOUT),
        deadline: query.deadline.unwrap_or(RedisOptions::DEADLINE),
        connections: query.connections.unwrap_or(RedisOptions::CONNECTIONS),
        data: None,
        waiters: 10_000,
    })
}

/// The text between the URL's marks, still escaped.
struct Parts<'u> {
    scheme: &'u str,
    authority: &'u str,
    path: &'u str,
    query: &'u str,
}

impl<'u> Parts<'u> {
    /// An `@` past the servers is refused before anything is looked at: what looks like a host, a port or an
    /// option then is part of a password, and must not get into a message.
    fn of(url: &'u str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisUrlError::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if tail.contains('@') {
            return Err(RedisUrlError::Unescaped);
        }
        if tail.contains('#') {
            return Err(RedisUrlError::Fragment);
        }
        let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
        Ok(Self {
            scheme,
            authority,
            path,
            query,
        })
    }
}

/// What a scheme says.
pub(super) struct Kind {
    pub(super) tls: bool,
    pub(super) servers: Servers,
}

#[derive(PartialEq, Eq)]
pub(super) enum Servers {
    One,
    Sentinels,
    Cluster,
}

impl Kind {
    fn of(scheme: &str) -> Result<Self, RedisUrlError> {
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match base {
            "redis" => false,
            "rediss" => true,
            _ => return Err(RedisUrlError::Scheme),
        };
        let servers = match (kind, scheme.contains('+')) {
            ("", false) => Servers::One,
            ("sentinel", _) => Servers::Sentinels,
            ("cluster", _) => Servers::Cluster,
            _ => return Err(RedisUrlError::Scheme),
        };
        Ok(Self { tls, servers })
    }

    fn default_port(&self) -> u16 {
        match self.servers {
            Servers::Sentinels => 26379,
            Servers::One | Servers::Cluster => 6379,
        }
    }
}

/// The login and the text of the servers.
fn authority(text: &str) -> Result<(Option<Login>, &str), RedisUrlError> {
    let Some((login, servers)) = text.rsplit_once('@') else {
        return Ok((None, text));
    };
    let (user, password) = login.split_once(':').ok_or(RedisUrlError::NoPassword)?;
    let user = decoded(user, "the user")?;
    let login = Login {
        user: (!user.is_empty()).then_some(user),
        password: decoded(password, "the password")?,
    };
    Ok((Some(login), servers))
}

fn nodes(text: &str, default_port: u16) -> Result<Vec<Node>, RedisUrlError> {
    let servers: Vec<&str> = text.split(',').collect();
    if servers.len() > MOST_SERVERS {
        return Err(RedisUrlError::TooManyServers {
            count: servers.len(),
            most: MOST_SERVERS,
        });
    }
    servers
        .iter()
        .enumerate()
        .map(|(before, server)| node(server, before + 1, default_port))
        .collect()
}

fn node(text: &str, place: usize, default_port: u16) -> Result<Node, RedisUrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => bracketed(rest).ok_or(RedisUrlError::Host { place })?,
        None => text
            .split_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(RedisUrlError::NoHost { place });
    }
    let port = match port {
        None => default_port,
        Some(digits) => port_number(digits).ok_or(RedisUrlError::Port { place })?,
    };
    if !host.bytes().all(|byte| byte.is_ascii_graphic()) || host.contains(['%', '[', ']']) {
        return Err(RedisUrlError::Host { place });
    }
    Ok(Node {
        host: host.to_owned(),
        port,
    })
}

/// The address and the port of `address]:port`.
fn bracketed(rest: &str) -> Option<(&str, Option<&str>)> {
    let (address, after) = rest.split_once(']')?;
    address.parse::<Ipv6Addr>().ok()?;
    match after.strip_prefix(':') {
        Some(port) => Some((address, Some(port))),
        None => after.is_empty().then_some((address, None)),
    }
}

fn port_number(digits: &str) -> Option<u16> {
    number(digits).filter(|port| *port != 0)
}

/// A number written in digits alone: `parse` would take a sign.
pub(super) fn number<N: std::str::FromStr>(digits: &str) -> Option<N> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn path(kind: &Kind, text: &str) -> Result<(Topology, u32), RedisUrlError> {
    let text = text.strip_prefix('/').unwrap_or(text);
    match kind.servers {
        Servers::One => Ok((Topology::Standalone, database(text)?)),
        Servers::Cluster => match database(text)? {
            0 => Ok((Topology::Cluster, 0)),
            db => Err(RedisUrlError::ClusterDatabase { db }),
        },
        Servers::Sentinels => {
            let (master, db) = text.split_once('/').unwrap_or((text, ""));
            let master = decoded(master, "the master name")?;
            if master.is_empty() {
                return Err(RedisUrlError::NoMaster);
            }
            Ok((Topology::Sentinel { master }, database(db)?))
        }
    }
}

fn database(text: &str) -> Result<u32, RedisUrlError> {
    if text.is_empty() {
        return Ok(0);
    }
    number(text).ok_or_else(|| RedisUrlError::Database {
        path: query::short(text),
    })
}

/// `text` with its escapes decoded.
pub(super) fn decoded(text: &str, place: &'static str) -> Result<String, RedisUrlError> {
    let refused = || RedisUrlError::Escape { place };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => escape(rest.next(), rest.next()).ok_or_else(refused)?,
            plain => plain,
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes).map_err(|_| refused())
}

fn escape(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(high?)? * 16 + digit(low?)?;
    u8::try_from(value).ok()
}

/// Enough to find a Cluster or a quorum of sentinels by.
const MOST_SERVERS: usize = 64;
