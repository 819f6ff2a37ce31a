//! Telling when the store goes away, when it is back, and what became of what it could not be told.

use std::sync::Arc;
use std::time::Duration;

use tallygate_store::{OutageStats, Store, StoreHealth};
use tokio::time::{MissedTickBehavior, interval};

use crate::observe::Observer;

/// How often a store is looked at; looking asks it nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells the log of each turn, until dropped.
pub(super) async fn watch(store: Arc<dyn Store>, observer: Arc<Observer>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    loop {
        ticks.tick().await;
        let stats = store.outage();
        observer.outage(&stats);
        for turn in seen.turns(store.health(), &stats) {
            observer.store_turned(&turn);
        }
    }
}

/// What was told last.
#[derive(Default)]
struct Seen {
    health: StoreHealth,
    outages: u64,
}

impl Seen {
    /// What is to be told now: that the store went away, or is back, or both where it went and came between two looks.
    fn turns(&mut self, now: StoreHealth, stats: &OutageStats) -> Vec<StoreHealth> {
        let missed = stats.outages > self.outages;
        self.outages = stats.outages;
        let before = std::mem::replace(&mut self.health, now.clone());
        match (before, &now) {
            (StoreHealth::Up, StoreHealth::Up) if missed => {
                let reason = stats.outage_last.clone().unwrap_or_default();
                vec![StoreHealth::Down { reason }, StoreHealth::Up]
            }
            // Another reason for the same absence is no turn.
            (StoreHealth::Up, StoreHealth::Up)
            | (StoreHealth::Down { .. }, StoreHealth::Down { .. }) => Vec::new(),
            _ => vec![now],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(reason: &str) -> StoreHealth {
        let reason = reason.to_owned();
        StoreHealth::Down { reason }
    }

    fn stats(outages: u64) -> OutageStats {
        OutageStats {
            outages,
            outage_last: Some("gone".to_owned()),
            ..OutageStats::default()
        }
    }

    #[test]
    fn each_turn_is_told_once_whenever_it_is_seen() {
        let mut seen = Seen::default();
        assert_eq!(seen.turns(StoreHealth::Up, &stats(0)), []);
        // Seen before anybody was refused.
        assert_eq!(seen.turns(down("gone"), &stats(0)), [down("gone")]);
        assert_eq!(seen.turns(down("still"), &stats(1)), []);
        assert_eq!(seen.turns(StoreHealth::Up, &stats(1)), [StoreHealth::Up]);
        assert_eq!(seen.turns(StoreHealth::Up, &stats(1)), []);
        // Over before it was seen.
        let both = [down("gone"), StoreHealth::Up];
        assert_eq!(seen.turns(StoreHealth::Up, &stats(3)), both);
        assert_eq!(seen.turns(StoreHealth::Up, &stats(3)), []);
    }
}
