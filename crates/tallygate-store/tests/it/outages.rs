//! Real servers that go away and come back.
mod choices;
mod crowds;
mod fleet;
mod forgotten;
mod keeping;
mod scratch;
mod shares;
mod silence;
