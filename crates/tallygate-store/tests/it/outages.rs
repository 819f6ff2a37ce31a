//! Real servers that go away and come back.
mod choices;
mod fleet;
mod keeping;
mod scratch;
mod silence;
