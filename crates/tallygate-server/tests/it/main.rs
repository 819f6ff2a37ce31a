//! The crate from outside: configurations and wire formats against checked-in files, and real servers.

mod config;
mod golden;
mod wire;
