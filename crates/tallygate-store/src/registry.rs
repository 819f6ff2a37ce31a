//! What administrators change while servers run: callers' keys, overrides of limits, and the log of who did what.
//!
//! Three registries behave alike: in memory, in a data folder, and on Redis, where all nodes share one. Which change is possible and
//! what becomes of it is decided in one place, [`Records::apply`]; a registry only keeps the outcome.
use crate::BoxFuture;
use std::sync::Arc;

mod audit;
mod change;
mod folder;
mod memory;
mod records;
mod right;
mod stamp;

pub use crate::redis::RedisRegistry;
pub use audit::{AUDIT_KEPT, AuditEntry, AuditPage, Author, Right};
pub use change::{Change, Grant, MAX_KEYS, MAX_OVERRIDES, MAX_REASON, MAX_TEXT, Refusal};
pub use folder::FolderRegistry;
pub use memory::MemoryRegistry;
pub use records::{Former, KeyRecord, KeyState, Override, Records};
pub use right::{ADMIN, Keeper, LOCAL, NOBODY};
pub use stamp::Stamp;

/// Where keys, overrides and the audit log live.
pub trait Registry: Send + Sync {
    /// All records as they are now.
    ///
    /// # Errors
    /// When they cannot be read.
    fn load(&self) -> BoxFuture<'_, Result<Arc<Records>, RegistryError>>;

    /// Makes one change and notes it in the audit log: both or neither. Gives the records after it.
    ///
    /// # Errors
    /// When the change is not possible, or cannot be kept; nothing has changed then.
    ///
    /// # Cancel safety
    /// Once polled, it may take effect though the future be dropped.
    fn change<'a>(
        &'a self,
        change: Change,
        author: &'a Author,
    ) -> BoxFuture<'a, Result<Arc<Records>, ChangeError>>;

    /// A page of the audit log, the latest first.
    ///
    /// # Errors
    /// When it cannot be read.
    fn audit(&self, page: AuditPage) -> BoxFuture<'_, Result<Vec<AuditEntry>, RegistryError>>;

    /// Ends when the records are of another version than `seen`, or may be.
    ///
    /// # Cancel safety
    /// Nothing is lost: a later call ends at once if there is another version.
    fn changed(&self, seen: u64) -> BoxFuture<'_, ()>;

    /// Whether a record outlives this process.
    fn lasts(&self) -> Lasting;
}

/// How long a registry keeps its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// As long as this process.
    Process,
    /// Beyond it.
    Beyond,
}

/// Why a registry did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// It cannot be read or written just now.
    #[error("the keys and overrides cannot be read or written now: {0}")]
    Down(String),
    /// What is there was not written by this version, or is damaged.
    #[error("the keys and overrides cannot be read: {0}")]
    Damaged(String),
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// It is not possible as things are.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The registry did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

#[cfg(test)]
mod tests;
