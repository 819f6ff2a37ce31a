//! Token counting, request sizing and usage extraction for the dialects of LLM providers.
//!
//! Everything here is pure: no IO, no async, no clock, no environment, no randomness and no
//! logging. A request body becomes a [`Call`]; a [`Counter`] says how large its input is and how
//! that is known ([`Method`]); [`output_estimate`] says what to hold for its answer; [`Usage`] is
//! what the provider says it really was, read from a whole body ([`usage_of_body`]) or from a
//! stream as it passes ([`StreamReader`]). [`PriceTable`] knows what a model's tokens cost.
//!
//! ```
//! use tallygate_tokens::{Call, Counter, Endpoint, Method};
//!
//! let body = br#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello world"}]}"#;
//! let call = Call::parse(Endpoint::ChatCompletions, None, body)?;
//! let counter = Counter::new([1, 2], 1_000);
//! let count = counter.input(&call);
//! assert_eq!((count.tokens, count.method), (9, Method::Framed));
//! # Ok::<(), tallygate_tokens::CallError>(())
//! ```

mod answer;
mod call;
mod counter;
mod dialect;
mod encoding;
mod framing;
#[doc(hidden)]
pub mod fuzz;
mod image;
mod json;
mod learner;
mod memory;
mod model;
mod output;
mod plan;
mod price;
mod sse;
mod stream;
mod tokenizer;
mod usage;

pub use call::{Call, CallError};
pub use counter::{Count, Counter};
pub use dialect::{Dialect, Endpoint, Method};
pub use encoding::{Encoding, encoding_of};
pub use learner::{HALF_LIFE, Learner, MIN_SAMPLES, OutputClass};
pub use output::{
    DEFAULT_FLOOR, DEFAULT_MAX, Estimate, EstimateMethod, OutputEstimate, OutputPolicy,
    output_estimate,
};
pub use price::{
    Cost, Imported, MAX_RATE, PerMillion, PriceError, PriceSource, PriceTable, Rates, RatesError,
};
pub use sse::{MAX_EVENT, SseEvent, SseSplitter};
pub use stream::{Seen, StreamOptions, StreamReader};
pub use tokenizer::Tokenizer;
pub use usage::{Usage, usage_of_body, usage_of_value};
