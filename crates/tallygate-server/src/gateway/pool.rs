//! The idle connections to one provider.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::link::Link;

/// Idle connections kept for one provider. More are closed when their answer ends.
const MAX_IDLE: usize = 1024;

/// How long an idle connection is kept. Providers close theirs after a minute or more.
const MAX_IDLE_TIME: Duration = Duration::from_secs(55);

/// Idle links, the one used last on top, so that the rest age and go.
#[derive(Default)]
pub(super) struct Pool {
    #[expect(
        clippy::vec_box,
        reason = "a link is large, and moves between the pool and the answers"
    )]
    idle: Mutex<Vec<Box<Link>>>,
}

impl Pool {
    /// An empty pool.
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// An open link, if there is one. Closed ones that it meets are dropped.
    pub(super) async fn take(&self) -> Option<Box<Link>> {
        loop {
            let mut link = self.idle.lock().pop()?;
            if poll_fn(|cx| Poll::Ready(link.is_open(cx))).await {
                return Some(link);
            }
        }
    }

    /// Keeps `link` for the next call, unless the pool is full; drops one that has been idle for too long.
    pub(super) fn put(&self, link: Box<Link>) {
        let mut idle = self.idle.lock();
        let aged = idle
            .first()
            .is_some_and(|oldest| is_aged(oldest, link.idle_since()));
        let dropped = aged.then(|| idle.remove(0));
        if idle.len() < MAX_IDLE {
            idle.push(link);
        }
        drop(idle);
        drop(dropped); // closing a socket is a system call: not under the lock
    }
}

fn is_aged(link: &Link, now: Instant) -> bool {
    now.duration_since(link.idle_since()) > MAX_IDLE_TIME
}
