//! What tokens cost: exact prices by model, and the money of a call.
//!
//! Money is whole micro-dollars ([`Cost`]), prices are whole micro-dollars for a million tokens ([`Rates`]); there is no
//! floating-point number in between. A [`PriceTable`] finds a model's rates by its name; the built-in one is a dated
//! snapshot of public prices, and others are imported.

mod cost;
mod decimal;
mod import;
mod name;
mod rates;
mod snapshot;
mod table;

pub use cost::Cost;
pub use import::{Imported, PriceSource};
pub use rates::{MAX_RATE, PerMillion, Rates, RatesError};
pub use table::{PriceError, PriceTable};

#[cfg(test)]
mod tests;
