//! Which servers to use and how: a URL, read once.
mod query;
#[cfg(test)]
mod tests;
mod url;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the Redis or Valkey store is, and how to talk to it.
///
/// Made from a URL by [`RedisOptions::parse`]. Neither [`shown`](Self::shown) nor `Debug` tells a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    pub(crate) topology: Topology,
    /// The server; on a Cluster some of its nodes; the sentinels where there are some. Never empty.
    pub(crate) nodes: Vec<Node>,
    pub(crate) db: u32,
    pub(crate) login: Option<Login>,
    pub(crate) sentinel_login: Option<Login>,
    pub(crate) tls: Option<Tls>,
    prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    /// How long what failed is sent again.
    pub(crate) deadline: Duration,
    pub(crate) connections: u8,
    /// Where settlements are kept that cannot be delivered.
    pub(crate) data: Option<PathBuf>,
    /// How many callers of this process may wait at once.
    pub(crate) waiters: usize,
}

impl RedisOptions {
    /// Reads a URL.
    ///
    /// ```text
    /// redis://[user[:password]@]host[:port][/db][?option=value&…]
    /// redis+sentinel://[user[:password]@]host[:port],…/master-name[/db][?…]
    /// redis+cluster://[user[:password]@]host[:port],…[?…]
    /// ```
    ///
    /// With `rediss` for `redis` the way is TLS. User, password, master name and values may be
    /// percent-encoded; `/ ? # @ %` in them must be. An IPv6 address stands in brackets.
    ///
    /// | option | is | default |
    /// |---|---|---|
    /// | `prefix` | what all keys begin with, 1 to 64 of `A-Z a-z 0-9 _ - . :` | `tg` |
    /// | `timeout` | the longest a call may take, `5ms` to `10s` | `250ms` |
    /// | `connect_timeout` | the longest connecting may take, `10ms` to `30s` | `1s` |
    /// | `deadline` | how long a call that failed is sent again, while the server is not known to be down, `5ms` to `30s` | `1s` |
    /// | `connections` | connections to each server, 1 to 16 | `2` |
    /// | `ca` | with `rediss`: a PEM file of the authorities to trust instead of the public ones | |
    /// | `sentinel_user`, `sentinel_password` | with Sentinel: the login of the sentinels | |
    ///
    /// # Errors
    /// When the URL cannot be read, or an option is unknown or out of its bounds. No error tells a password.
    pub fn parse(url: &str) -> Result<Self, RedisUrlError> {
        url::read(url)
    }

    /// The URL without secrets: a password is shown as `***`, options that stand at their default not at all.
    #[must_use]
    pub fn shown(&self) -> String {
        self.to_string()
    }

    /// The same, keeping in `folder` what cannot be delivered: settlements and cancellations made while the store is
    /// down outlive this process then. The folder is made where it is missing, and is one store's at a time.
    #[must_use]
    pub fn with_data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = Some(folder.into());
        self
    }

    /// The same, with another prefix than the usual one for all keys: 1 to 64 of `A-Z a-z 0-9 _ - . :`, not escaped.
    ///
    /// # Errors
    /// When it is none of these, or the URL names a prefix too.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, RedisUrlError> {
        let prefix = query::prefix(prefix.to_owned())?;
        if self.prefix != Self::PREFIX {
            return Err(RedisUrlError::Twice { name: "prefix" });
        }
        self.prefix = prefix;
        Ok(self)
    }

    /// The same, with room for so many callers of this process in its lines (10,000 unless said).
    #[must_use]
    pub fn with_waiters(mut self, most: usize) -> Self {
        self.waiters = most;
        self
    }

    /// What all keys begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    fn scheme(&self) -> &'static str {
        match (&self.topology, &self.tls) {
            (Topology::Standalone, None) => "redis",
            (Topology::Standalone, Some(_)) => "rediss",
            (Topology::Sentinel { .. }, None) => "redis+sentinel",
            (Topology::Sentinel { .. }, Some(_)) => "rediss+sentinel",
            (Topology::Cluster, None) => "redis+cluster",
            (Topology::Cluster, Some(_)) => "rediss+cluster",
        }
    }

    fn shown_options(&self) -> Vec<String> {
        let login = self.sentinel_login.as_ref();
        let user = login.and_then(|login| login.user.as_deref());
        let ca = self.tls.as_ref().and_then(|tls| tls.ca.as_deref());
        [
            (self.prefix != Self::PREFIX).then(|| format!("prefix={}", self.prefix)),
            (self.timeout != Self::TIMEOUT).then(|| format!("timeout={:?}", self.timeout)),
            (self.connect_timeout != Self::CONNECT_TIMEOUT)
                .then(|| format!("connect_timeout={:?}", self.connect_timeout)),
            (self.deadline != Self::DEADLINE).then(|| format!("deadline={:?}", self.deadline)),
            (self.connections != Self::CONNECTIONS)
                .then(|| format!("connections={}", self.connections)),
            ca.map(|path| format!("ca={}", path.display())),
            user.map(|user| format!("sentinel_user={user}")),
            login.map(|_| "sentinel_password=***".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    const PREFIX: &str = "tg";
    const TIMEOUT: Duration = Duration::from_millis(250);
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
    const DEADLINE: Duration = Duration::from_secs(1);
    const CONNECTIONS: u8 = 2;
}

impl fmt::Display for RedisOptions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://", self.scheme())?;
        if let Some(login) = &self.login {
            write!(out, "{}:***@", login.user.as_deref().unwrap_or_default())?;
        }
        for (place, node) in self.nodes.iter().enumerate() {
            write!(out, "{}{node}", if place == 0 { "" } else { "," })?;
        }
        if let Topology::Sentinel { master } = &self.topology {
            write!(out, "/{master}")?;
        }
        if self.db != 0 {
            write!(out, "/{}", self.db)?;
        }
        let options = self.shown_options();
        if options.is_empty() {
            return Ok(());
        }
        write!(out, "?{}", options.join("&"))
    }
}

/// How the servers stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topology {
    /// One server.
    Standalone,
    /// One primary at a time, named to us by sentinels.
    Sentinel { master: String },
    /// Primaries that share the slots among them.
    Cluster,
}

/// Host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(out, "[{}]:{}", self.host, self.port);
        }
        write!(out, "{}:{}", self.host, self.port)
    }
}

/// An ACL user and its password; without a user the default one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A way that is encrypted and whose end is verified, always.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tls {
    /// A PEM file of the authorities to trust; without one, the public authorities.
    pub(crate) ca: Option<PathBuf>,
}

impl Tls {
    fn with_ca(path: &str) -> Self {
        Self {
            ca: Some(Path::new(path).to_owned()),
        }
    }
}

/// Why a store URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisUrlError {
    /// It begins otherwise than a store URL does.
    #[error(
        "the store URL begins with none of redis://, redis+sentinel://, redis+cluster:// or, for TLS, \
         rediss://, rediss+sentinel://, rediss+cluster://"
    )]
    Scheme,
    /// An `@` after the servers: a `/`, `?` or `#` of the login was taken for the end of the servers.
    #[error(
        "the store URL has an `@` after its servers: in user, password and values write `@` as %40, \
         `/` as %2F, `?` as %3F, `#` as %23"
    )]
    Unescaped,
    /// A `#`.
    #[error("the store URL has a `#`: write it as %23")]
    Fragment,
    /// A `%` that is not followed by two hexadecimal digits, or bytes that are no UTF-8.
    #[error("{place} of the store URL has a `%` that begins no escape: write `%` itself as %25")]
    Escape {
        /// What it is in.
        place: &'static str,
    },
    /// A user without a password.
    #[error(
        "the store URL names a user without a password: write user:password@host, or :password@host for the default user"
    )]
    NoPassword,
    /// No server, or one without a name.
    #[error("server {place} of the store URL has no host: write host:port")]
    NoHost {
        /// Its place, from 1.
        place: usize,
    },
    /// A host that is neither a name nor an address.
    #[error(
        "server {place} of the store URL is no name and no address: write host:port, an IPv6 address in brackets"
    )]
    Host {
        /// Its place, from 1.
        place: usize,
    },
    /// A port that is none; it is not told, for it may be part of a password.
    #[error(
        "the port of server {place} of the store URL is no number from 1 to 65535: write host:port, and a login before an `@`"
    )]
    Port {
        /// Its place, from 1.
        place: usize,
    },
    /// Several servers for `redis://`.
    #[error(
        "the store URL names {count} servers: write redis+cluster:// for a Cluster, redis+sentinel:// for sentinels, or one server"
    )]
    ManyServers {
        /// How many.
        count: usize,
    },
    /// More servers than are looked at.
    #[error("the store URL names {count} servers: {most} are enough to find the others")]
    TooManyServers {
        /// How many.
        count: usize,
        /// How many may be named.
        most: usize,
    },
    /// Sentinels without the name they know the primary by.
    #[error(
        "the store URL has no master name: write redis+sentinel://host:26379/NAME, as in `sentinel monitor NAME …`"
    )]
    NoMaster,
    /// Something other than a database number after the servers.
    #[error("the store URL ends in `/{path}`, which is no database number")]
    Database {
        /// What stands there.
        path: String,
    },
    /// A database other than 0 on a Cluster.
    #[error("the store URL chooses database {db}, but a Cluster has database 0 only: leave it out")]
    ClusterDatabase {
        /// The number.
        db: u32,
    },
    /// An option that does not exist.
    #[error("the store URL has an unknown option `{name}`{}", mend(near))]
    Option {
        /// Its name.
        name: String,
        /// What may have been meant.
        near: Option<&'static str>,
    },
    /// An option twice.
    #[error("the store URL gives `{name}` twice")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// An option that belongs to another kind of URL.
    #[error("the store URL gives `{name}`, which goes with {with} only")]
    Misplaced {
        /// Its name.
        name: &'static str,
        /// What it goes with.
        with: &'static str,
    },
    /// A value outside its bounds.
    #[error("the store URL gives `{name}={value}`: it must be {bounds}")]
    Value {
        /// The option's name.
        name: &'static str,
        /// What stands there.
        value: String,
        /// What may stand there.
        bounds: &'static str,
    },
}

fn mend(near: &Option<&'static str>) -> String {
    near.map_or_else(
        || format!(": there are {}", query::names()),
        |near| format!(": did you mean `{near}`?"),
    )
}
