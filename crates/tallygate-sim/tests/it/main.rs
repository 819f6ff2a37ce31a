//! The mock's own behaviour.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod answers;
mod faults;
mod limits;
mod meters;
mod servers;
mod strictness;
mod support;
mod wire;
mod workloads;
