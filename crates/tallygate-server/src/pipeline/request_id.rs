//! Names for requests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Gives each request of this process a name of its own, `req_` and 24 hex digits. The first half is the process's, so
/// that instances behind one address do not give the same.
pub(super) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Names that begin by `seed`, which should be random.
    pub(super) fn new(seed: [u64; 2]) -> Self {
        Self {
            process: seed[0] ^ seed[1].rotate_left(32),
            next: AtomicU64::new(0),
        }
    }

    /// The next name.
    pub(super) fn next(&self) -> String {
        format!(
            "req_{:016x}{:08x}",
            self.process,
            self.next.fetch_add(1, Ordering::Relaxed)
        )
    }
}
