//! Why a store cannot be opened: the host, the reason, the mend.

/// Why a store cannot be opened. Each message names the host, the reason and the mend; none tells a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisOpenError {
    /// The file of authorities of `?ca=` cannot be used.
    #[error("the certificates in {path} cannot be used: {reason}; name a PEM file with `?ca=`")]
    Authorities {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no connection, or no answer.
    #[error(
        "the store at {host} cannot be reached: {reason}; start it, or correct host and port of the store URL"
    )]
    Unreachable {
        /// Host and port; several where all of them are out of reach.
        host: String,
        /// What was seen.
        reason: String,
    },
    /// The encrypted way cannot be made, or its end is not who it should be.
    #[error(
        "the store at {host} cannot be reached over TLS: {reason}; name its authority with `?ca=FILE`, or write \
         redis:// if it speaks no TLS"
    )]
    Tls {
        /// Host and port.
        host: String,
        /// What was seen.
        reason: String,
    },
    /// Something else answers there.
    #[error(
        "what answers at {host} is no Redis or Valkey; correct the port of the store URL, or write rediss:// if it \
         speaks TLS"
    )]
    NotRedis {
        /// Host and port.
        host: String,
    },
    /// It does not know the user or the password.
    #[error(
        "the store at {host} does not let us in: {reason}; give its user and password in the store URL"
    )]
    Login {
        /// Host and port.
        host: String,
        /// What it said.
        reason: String,
    },
    /// It does not have the database.
    #[error(
        "the store at {host} refuses the database: {reason}; correct the number in the store URL"
    )]
    Database {
        /// Host and port.
        host: String,
        /// What it said.
        reason: String,
    },
    /// It reads its data back, or is busy with another's script.
    #[error("the store at {host} is not ready: {reason}; try again when it is")]
    NotReady {
        /// Host and port.
        host: String,
        /// What it said.
        reason: String,
    },
    /// It is too old.
    #[error("the store at {host} is version {version}; at least 6.2 is needed")]
    TooOld {
        /// Host and port.
        host: String,
        /// Its version.
        version: String,
    },
    /// It copies another server.
    #[error(
        "the store at {host} is a replica; name its primary{} in the store URL, or write redis+sentinel://",
        at(primary)
    )]
    Replica {
        /// Host and port.
        host: String,
        /// Host and port of its primary, if it says so.
        primary: Option<String>,
    },
    /// A sentinel, reached by `redis://`.
    #[error("what answers at {host} is a sentinel; write redis+sentinel://{host}/MASTER-NAME")]
    Sentinel {
        /// Host and port.
        host: String,
    },
    /// No sentinel, reached by `redis+sentinel://`.
    #[error(
        "what answers at {host} is no sentinel; correct the port of the store URL, or write redis://{host} for a \
         server alone"
    )]
    NoSentinel {
        /// Host and port.
        host: String,
    },
    /// The sentinels do not know the primary by this name.
    #[error(
        "the sentinel at {host} knows no master `{master}`; take the name from its `sentinel monitor` line"
    )]
    UnknownMaster {
        /// Host and port.
        host: String,
        /// The name in the URL.
        master: String,
    },
    /// A Cluster, reached by `redis://` or through sentinels.
    #[error("the store at {host} is a node of a Cluster; write redis+cluster://{host}")]
    Cluster {
        /// Host and port.
        host: String,
    },
    /// No Cluster, reached by `redis+cluster://`.
    #[error("the store at {host} is no node of a Cluster; write redis://{host}")]
    NoCluster {
        /// Host and port.
        host: String,
    },
    /// The Cluster's nodes do not know who owns its slots.
    #[error(
        "the Cluster at {host} is not whole: {reason}; assign its slots with `redis-cli --cluster fix`"
    )]
    Slots {
        /// The hosts and ports that were asked.
        host: String,
        /// What was seen.
        reason: String,
    },
    /// The user lacks a right.
    #[error(
        "the store at {host} does not permit {what}: {reason}; give the user that right with `ACL SETUSER`"
    )]
    Permission {
        /// Host and port.
        host: String,
        /// What was tried.
        what: &'static str,
        /// What it said.
        reason: String,
    },
    /// The user may not touch what is the prefix's.
    #[error(
        "the store at {host} does not permit the keys and channels of the prefix `{prefix}`: {reason}; give the user \
         ~{prefix}:* and &{prefix}:* with `ACL SETUSER`, or write the `prefix` that it has a right to"
    )]
    Prefix {
        /// Host and port.
        host: String,
        /// What all keys and channels begin with.
        prefix: String,
        /// What it said.
        reason: String,
    },
    /// It runs no scripts.
    #[error(
        "the store at {host} runs no scripts: {reason}; allow EVAL, as `rename-command` or the service's plan may \
         have taken it away"
    )]
    Scripts {
        /// Host and port.
        host: String,
        /// What it said.
        reason: String,
    },
    /// Its scripts cannot read its clock.
    #[error(
        "scripts of the store at {host} cannot read its clock: {reason}; permit TIME to the user"
    )]
    ScriptTime {
        /// Host and port.
        host: String,
        /// What it said.
        reason: String,
    },
    /// Its memory is full.
    #[error("the store at {host} is out of memory: {reason}; raise its `maxmemory` or make room")]
    Full {
        /// Host and port.
        host: String,
        /// What it said.
        reason: String,
    },
    /// The folder for what cannot be delivered cannot be used.
    #[error(
        "the folder {folder} cannot be used to keep settlements in: {reason}; name another with `data:`, one for each process"
    )]
    Data {
        /// The folder.
        folder: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It takes no writes.
    #[error("the store at {host} takes no writes: {reason}; mend that at the server")]
    Writes {
        /// Host and port.
        host: String,
        /// What it said.
        reason: String,
    },
}

impl RedisOpenError {
    /// What it means that the first call of the script was refused; `host` without secrets.
    pub(super) fn of_script(host: String, reason: String) -> Self {
        let says = |words: &str| reason.contains(words);
        if says("OOM") {
            return Self::Full { host, reason };
        }
        if says("NOPERM") || says("ACL failure") || says("The user executing") {
            let what = "the script";
            return Self::Permission { host, what, reason };
        }
        Self::Scripts { host, reason }
    }

    /// The same; where a key or a channel was refused, with the patterns that the user lacks.
    pub(super) fn with_prefix(self, prefix: &str) -> Self {
        match self {
            Self::Permission { host, reason, .. }
                if [" key", " channel"]
                    .iter()
                    .any(|what| reason.contains(what)) =>
            {
                let prefix = prefix.to_owned();
                Self::Prefix {
                    host,
                    prefix,
                    reason,
                }
            }
            other => other,
        }
    }
}

fn at(primary: &Option<String>) -> String {
    primary
        .as_ref()
        .map_or_else(String::new, |primary| format!(" {primary}"))
}
