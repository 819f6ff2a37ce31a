//! Looking after servers that nobody calls: that they are gone is known before the next call finds out.
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Inner;

/// Asks servers that have said nothing for as long as [`QUIET`], until nobody has the link any more. Those that answer
/// calls are not asked.
pub(super) async fn watch(link: Weak<Inner>, mut gone: watch::Receiver<()>) {
    let mut next = Instant::now() + QUIET;
    loop {
        tokio::select! {
            () = sleep_until(next) => {}
            _ = gone.changed() => return,
        }
        let Some((servers, patience)) = link
            .upgrade()
            .map(|link| (link.servers.clone(), link.timeout))
        else {
            return;
        };
        let now = Instant::now();
        next = now + QUIET;
        let mut quiet = Vec::new();
        for server in servers.all() {
            match server.last_heard().map(|heard| heard + QUIET) {
                Some(due) if due <= now => quiet.push(server),
                Some(due) => next = next.min(due),
                None => {}
            }
        }
        // What comes of it is the circuits' to tell.
        let _ = servers.ping(&quiet, patience).await;
    }
}

const QUIET: Duration = Duration::from_secs(5);
