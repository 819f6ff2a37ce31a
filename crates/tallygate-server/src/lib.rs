//! The gateway, the decision API and the admin listener.

pub mod admin;
pub mod config;
mod decision;
mod events;
mod gateway;
pub mod identify;
mod ledger;
pub mod observe;
mod percent;
mod pipeline;
mod quota;
mod registrar;
pub mod reload;
mod server;
pub mod usage;
pub mod wire;

pub use config::{Config, ConfigErrors};
pub use events::{Event, EventKind, SigningKey, SigningKeyError};
pub use server::{Listeners, ReloadError, RunError, Server, ServerHandle, StartError};
