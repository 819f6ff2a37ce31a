//! What a server tells of itself.
use super::Role;
use crate::redis::found::{Found, FoundServer};
use crate::redis::opening::RedisOpenError;

/// The lines of `INFO` that matter.
pub(super) struct Info {
    version: String,
    /// Valkey's own version, which follows another count than Redis's.
    valkey: Option<String>,
    is_sentinel: bool,
    is_primary: bool,
    primary: Option<String>,
    is_cluster: bool,
    is_loading: bool,
    policy: String,
    appends: bool,
    /// It has replicas, or is told to write only while it has.
    replicates: bool,
}

impl Info {
    /// `None` where there is no version: no Redis answers so.
    pub(super) fn read(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(known, _)| *known == name);
            found.map(|(_, value)| value.trim().to_owned())
        };
        let is = |name: &str, wanted: &str| value(name).as_deref() == Some(wanted);
        let host = value("master_host");
        Some(Self {
            version: value("redis_version")?,
            valkey: value("valkey_version"),
            // Valkey has its own name for it.
            is_sentinel: is("redis_mode", "sentinel") || is("server_mode", "sentinel"),
            is_primary: !is("role", "slave"),
            primary: host
                .zip(value("master_port"))
                .map(|(host, port)| format!("{host}:{port}")),
            is_cluster: is("cluster_enabled", "1"),
            is_loading: is("loading", "1"),
            policy: value("maxmemory_policy").unwrap_or_default(),
            appends: !is("aof_enabled", "0"),
            replicates: value("connected_slaves").is_some_and(|count| count != "0")
                || value("min_slaves_good_slaves").is_some(),
        })
    }

    /// Whether the server is what it is taken for.
    pub(super) fn suits(&self, role: Role, host: String) -> Result<(), RedisOpenError> {
        if self.is_sentinel {
            return Err(RedisOpenError::Sentinel { host });
        }
        if !self.is_from((6, 2)) {
            let version = self.version.clone();
            return Err(RedisOpenError::TooOld { host, version });
        }
        match (role, self.is_cluster) {
            (Role::Primary, true) => return Err(RedisOpenError::Cluster { host }),
            (Role::Member, false) => return Err(RedisOpenError::NoCluster { host }),
            _ => {}
        }
        if role == Role::Primary && !self.is_primary {
            let primary = self.primary.clone();
            return Err(RedisOpenError::Replica { host, primary });
        }
        if self.is_loading {
            let reason = "it reads its data back".to_owned();
            return Err(RedisOpenError::NotReady { host, reason });
        }
        Ok(())
    }

    /// What it is, and what an operator should know though it keeps nothing from working today.
    pub(super) fn found(self, host: String) -> Found {
        let mut warnings = Vec::new();
        if !matches!(self.policy.as_str(), "" | "noeviction") {
            warnings.push(format!(
                "the store at {host} throws keys away when its memory is full (`maxmemory-policy {}`), and limits \
                 with them; set `maxmemory-policy noeviction`",
                self.policy
            ));
        }
        if !self.appends {
            warnings.push(format!(
                "the store at {host} forgets what it counted since its last snapshot when it restarts (`appendonly \
                 no`); set `appendonly yes`"
            ));
        }
        if self.replicates && !self.is_from((7, 0)) {
            warnings.push(format!(
                "the store at {host} is Redis {}, on which `min-replicas-to-write` does not stop scripts: cut off from \
                 its replicas it goes on admitting until it is told of its successor; use Redis 7.0 or later, or Valkey",
                self.version
            ));
        }
        let (engine, version) = match self.valkey {
            Some(version) => ("Valkey", version),
            None => ("Redis", self.version),
        };
        let server = FoundServer {
            host,
            engine,
            version,
            writes_many: false,
        };
        Found {
            servers: vec![server],
            warnings,
        }
    }

    /// Of this version at least. Valkey tells the version of Redis that it follows.
    fn is_from(&self, wanted: (u32, u32)) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse().ok());
        let version: Option<(u32, u32)> = parts.next().flatten().zip(parts.next().flatten());
        version.is_some_and(|version| version >= wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(text: &str) -> bool {
        let found = Info::read(text).map(|info| info.found("a:1".to_owned()));
        let warnings = found.map_or(Vec::new(), |found| found.warnings);
        warnings
            .iter()
            .any(|warning| warning.contains("does not stop scripts"))
    }

    #[test]
    fn replicas_of_a_server_before_7_are_warned_of() {
        for (text, wanted) in [
            ("redis_version:6.2.5\r\nconnected_slaves:1", true),
            (
                "redis_version:6.2.5\r\nconnected_slaves:0\r\nmin_slaves_good_slaves:0",
                true,
            ),
            ("redis_version:6.2.5\r\nconnected_slaves:0", false),
            ("redis_version:7.0.15\r\nconnected_slaves:1", false),
            (
                "redis_version:7.2.4\r\nvalkey_version:9.1.0\r\nconnected_slaves:1",
                false,
            ),
        ] {
            assert_eq!(warned(text), wanted, "{text}");
        }
    }
}
