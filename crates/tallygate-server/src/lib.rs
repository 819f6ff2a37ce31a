//! The gateway, the decision API and the admin listener.

pub mod config;
mod gateway;
pub mod identify;
mod pipeline;
mod server;
pub mod wire;

pub use config::{Config, ConfigErrors};
pub use server::{Listeners, ReloadError, RunError, Server, ServerHandle, StartError};
