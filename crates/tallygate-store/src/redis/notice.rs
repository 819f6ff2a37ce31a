//! What other processes tell.

/// Something heard on a channel, or about hearing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It was published.
    Message {
        /// Where.
        channel: String,
        /// What.
        payload: Vec<u8>,
    },
    /// From now on messages may be lost.
    Interrupted,
    /// They are heard again.
    Resumed,
}
