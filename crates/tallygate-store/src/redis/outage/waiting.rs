//! Waiting for the store.
use super::Outage;
use crate::store::StoreError;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tallygate_core::FullError;

/// The shortest pauses before the store is asked again: while no server is known to be away, and while one is, when its
/// return ends the pause.
const LEAST: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(250)];

/// A caller's place among those who wait; given up when dropped.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl Outage {
    /// Takes a place among those who wait for the store.
    pub(super) fn enter(&self) -> Result<Place<'_>, StoreError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.waiting);
        match before {
            full if full >= self.most_waiting => Err(FullError::Waiters(full).into()),
            _ => Ok(place),
        }
    }

    /// Waits until a server goes.
    pub(super) async fn gone(&self) {
        let mut circuits = self.circuits.clone();
        if circuits.wait_for(|open| *open > 0).await.is_err() {
            pending().await
        }
    }

    /// Waits until the store may be asked again: a server goes or comes, or `retry_after` has passed; at most `left`.
    pub(super) async fn change(&self, retry_after: Duration, left: Duration) {
        let mut circuits = self.circuits.clone();
        let away = *circuits.borrow_and_update() > 0;
        let pause = retry_after.max(LEAST[usize::from(away)]).min(left);
        let changed = async {
            if circuits.changed().await.is_err() {
                pending().await
            }
        };
        let _ = tokio::time::timeout(pause, changed).await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
