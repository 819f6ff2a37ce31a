//! The crate from outside: configurations and wire formats against checked-in files, and real servers in front of the
//! strict mock provider.

mod admin;
mod calls;
mod config;
mod decision;
mod failures;
mod golden;
mod http;
mod observe;
mod reload;
mod streams;
mod wire;
mod world;
