//! A strict fake provider, workloads, a load client and oracles: for tests, benches and demos.
//!
//! Nothing here depends on the engine it is used to check. The limits of [`mock::Mock`] are written
//! apart, in exact integers, and [`Timeline`] finds the worst real span of what was used.

pub mod books;
pub mod client;
pub mod clock;
pub mod limit;
pub mod mock;
pub mod rng;
pub mod timeline;
pub mod words;
pub mod workload;

pub use books::Books;
pub use client::{ApiCall, Client, Reply};
pub use clock::{At, Clock};
pub use limit::{Charging, MockLimit, MockMetric, MockShape};
pub use mock::{Mock, MockOptions};
pub use rng::{Rng, Sizes};
pub use timeline::{Timeline, Use};
pub use workload::{Job, Workload, WorkloadOptions};
