//! Telling when the store goes away, when it is back, and what became of what it could not be told.

use std::sync::Arc;
use std::time::Duration;

use tallygate_store::{Store, StoreHealth};
use tokio::time::{MissedTickBehavior, interval};

use crate::observe::Observer;

/// How often a store is looked at; looking asks it nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells the log of each turn, until dropped.
pub(super) async fn watch(store: Arc<dyn Store>, observer: Arc<Observer>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = StoreHealth::Up;
    loop {
        ticks.tick().await;
        observer.outage(&store.outage());
        let now = store.health();
        // Another reason for the same absence is no turn.
        if (now == StoreHealth::Up) != (last == StoreHealth::Up) {
            observer.store_turned(&now);
        }
        last = now;
    }
}
