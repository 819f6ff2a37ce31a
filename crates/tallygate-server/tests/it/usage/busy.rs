//! Reports that take long: whoever asks for many of them holds up no call.

use std::sync::Arc;

use tallygate_store::BoxFuture;
use tallygate_store::usage::{Query, Record, Report, Shelf, ShelfError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{LIMITS, chat, usage};
use crate::world::{World, within};

/// A shelf whose answers wait at a gate.
struct Slow {
    asked: Semaphore,
    gate: Semaphore,
}

impl Default for Slow {
    fn default() -> Self {
        Self {
            asked: Semaphore::new(0),
            gate: Semaphore::new(0),
        }
    }
}

impl Shelf for Slow {
    fn append<'a>(&'a self, _: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(async { Ok(()) })
    }

    fn answer<'a>(&'a self, _: &'a Query) -> BoxFuture<'a, Result<Report, ShelfError>> {
        Box::pin(async {
            self.asked.add_permits(1);
            self.gate.acquire().await.expect("a gate").forget();
            Ok(Report::default())
        })
    }

    fn drop_before(&self, _: u64) -> BoxFuture<'_, Result<(), ShelfError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn reports_that_hang_hold_up_no_call_and_are_few() {
    let shelf = Arc::new(Slow::default());
    let world = Arc::new(World::with_shelf(LIMITS, shelf.clone()).await);
    // More than are made and wait together.
    let mut asking = JoinSet::new();
    for _ in 0..19 {
        let world = Arc::clone(&world);
        asking.spawn(async move { usage(&world, "by=tenant").await });
    }
    let refused = within(asking.join_next()).await.expect("one of them");
    let refused = refused.expect("no panic");
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(
        refused.body.contains("\"type\":\"busy\""),
        "{}",
        refused.body
    );
    assert_eq!(world.call(&chat()).await.status, 200);
    let asked = shelf.asked.available_permits();
    assert_eq!(asked, 2, "only these are under way");
    shelf.gate.add_permits(18);
    while let Some(answer) = within(asking.join_next()).await {
        assert_eq!(answer.expect("no panic").status, 200);
    }
}
