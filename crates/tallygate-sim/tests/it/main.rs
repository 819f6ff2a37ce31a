//! The mock's own behaviour.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod chat;
mod support;
