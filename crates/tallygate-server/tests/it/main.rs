//! The crate from outside: configurations and wire formats against checked-in files, and real servers.

mod admin;
mod config;
mod golden;
mod http;
mod observe;
mod reload;
mod wire;
