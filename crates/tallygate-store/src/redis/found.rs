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
}

impl Found {
    pub(super) fn add(&mut self, other: Self) {
        self.servers.extend(other.servers);
        self.warnings.extend(other.warnings);
    }
}
