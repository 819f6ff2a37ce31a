//! A strict fake provider, workloads, a load client and oracles: for tests, benches and demos.
//!
//! Nothing here depends on the engine it is used to check. The limits of [`mock::Mock`] are written
//! apart, in exact integers, and [`Timeline`] finds the worst real span of what was used.
//!
//! ```
//! use std::time::Duration;
//! use tallygate_sim::{ApiCall, Client, Mock, MockLimit, MockMetric, MockOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let limits = vec![MockLimit::per_minute(MockMetric::Requests, 1)];
//! let mock = Mock::start(([127, 0, 0, 1], 0).into(), MockOptions { limits, ..MockOptions::default() }).await?;
//! let client = Client::new(format!("http://{}", mock.addr())).with_key("sk-anything");
//!
//! let call = ApiCall::chat("gpt-4o", "Hello world").output(5).streamed_with_usage();
//! let usage = client.call(&call).await?.answer().usage.unwrap_or_default();
//! assert_eq!((usage.input, usage.output), (9, 5));
//! assert_eq!(client.call(&call).await?.status, 429);
//!
//! let books = mock.books();
//! assert_eq!((books.totals().served, books.totals().refused), (1, 1));
//! assert_eq!(books.worst(Duration::from_secs(60), MockMetric::Tokens), Some(14));
//! # mock.stop().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod books;
pub mod client;
pub mod clock;
pub mod fifo;
pub mod limit;
pub mod mock;
pub mod rng;
pub mod servers;
pub mod timeline;
pub mod words;
pub mod workload;

pub use books::{Books, Served};
pub use client::{ApiCall, Client, Reply};
pub use clock::{At, Clock};
pub use limit::{Charging, MockLimit, MockMetric, MockShape};
pub use mock::{Mock, MockOptions};
pub use rng::{Rng, Sizes};
pub use timeline::{Timeline, Use};
pub use workload::{Job, Workload, WorkloadOptions};
