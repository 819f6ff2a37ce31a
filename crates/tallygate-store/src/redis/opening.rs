//! Why a store cannot be opened: the host, the reason, the mend.

/// Why a store cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisOpenError {
    /// The file of authorities of `?ca=` cannot be used.
    #[error("the certificates in {path} cannot be used: {reason}: name a PEM file with `?ca=`")]
    Authorities {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no connection, or no answer.
    #[error(
        "the store at {host} cannot be reached: {reason}: start it, or correct the host and port of the store URL"
    )]
    Unreachable {
        /// Host and port.
        host: String,
        /// What was seen.
        reason: String,
    },
}
