//! The crate from outside: configurations and wire formats against checked-in files, and real servers in front of the
//! strict mock provider.

mod admin;
mod admin_api;
mod bad_input;
mod calls;
mod config;
mod decision;
mod drain;
mod evasion;
mod events;
mod failures;
mod full_disk;
mod golden;
mod http;
mod ladder;
mod money;
mod observe;
mod overshoot;
mod quiet;
mod reload;
mod sizing;
mod store_down;
mod stores;
mod streams;
mod telling;
mod told;
mod usage;
mod waiting;
mod wire;
mod world;
