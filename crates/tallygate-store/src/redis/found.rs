//! What a store was seen to be.

/// What was found when a store was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisFindings {
    /// `standalone`, `sentinel` or `cluster`.
    pub topology: &'static str,
    /// The server; on a Cluster every primary that answered.
    pub servers: Vec<FoundServer>,
    /// What an operator should know though it keeps nothing from working today, each with its mend.
    pub warnings: Vec<String>,
}

/// A server that was examined.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundServer {
    /// Host and port.
    pub host: String,
    /// `Redis` or `Valkey`.
    pub engine: &'static str,
    /// The engine's own version.
    pub version: String,
    /// Whether it writes many keys that live equally long at one go: `MSETEX`.
    pub(super) writes_many: bool,
}

/// What was found at one server.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) servers: Vec<FoundServer>,
    pub(super) warnings: Vec<String>,
}

impl RedisFindings {
    /// Nothing was looked at.
    pub(super) const NONE: Self = Self {
        topology: "",
        servers: Vec::new(),
        warnings: Vec::new(),
    };

    pub(super) fn new(topology: &'static str, found: Found) -> Self {
        Self {
            topology,
            servers: found.servers,
            warnings: found.warnings,
        }
    }

    /// Whether all servers write many keys at one go.
    pub(super) fn write_many(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server.writes_many)
    }
}

impl Found {
    /// The same of servers that write many keys at one go, or do not.
    pub(super) fn writing(mut self, many: bool) -> Self {
        let servers = self.servers.iter_mut();
        servers.for_each(|server| server.writes_many = many);
        self
    }

    pub(super) fn add(&mut self, other: Self) {
        self.servers.extend(other.servers);
        self.warnings.extend(other.warnings);
    }
}
