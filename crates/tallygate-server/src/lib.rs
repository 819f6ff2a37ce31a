//! The gateway, the decision API and the admin listener.

pub mod config;
pub mod identify;
pub mod wire;

pub use config::{Config, ConfigErrors};
