//! Reports with more rows than a report has.

use std::sync::Arc;

use serde_json::Value;
use tallygate_store::BoxFuture;
use tallygate_store::usage::{Query, Record, Report, Shelf, ShelfError};

use super::{LIMITS, report, usage};
use crate::world::World;

/// A shelf with a million groups.
struct Wide;

impl Shelf for Wide {
    fn append<'a>(&'a self, _: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(async { Ok(()) })
    }

    fn answer<'a>(&'a self, _: &'a Query) -> BoxFuture<'a, Result<Report, ShelfError>> {
        let without_row = 900_000;
        let report = Report {
            without_row,
            ..Report::default()
        };
        Box::pin(async { Ok(report) })
    }

    fn drop_before(&self, _: u64) -> BoxFuture<'_, Result<(), ShelfError>> {
        Box::pin(async { Ok(()) })
    }
}

/// JSON says how many calls have no row; comma-separated values could not, and are refused with the mend.
#[tokio::test]
async fn what_has_no_row_is_told_or_the_report_refused() {
    let world = World::with_shelf(LIMITS, Arc::new(Wide)).await;
    let told = report(&world, "by=user").await;
    assert_eq!(told["calls_without_row"], 900_000);
    let refused = usage(&world, "by=user&format=csv").await;
    assert_eq!(refused.status, 400);
    let refused: Value = serde_json::from_str(&refused.body).expect("JSON");
    let error = &refused["error"];
    assert_eq!(error["message"], "the report has more than 100000 rows");
    assert!(error["mend"].as_str().expect("a mend").contains("`by`"));
}
