//! The memory store on a folder: what a crash and a loss of power leave, and a disk that takes no writes.
mod harness;

pub(crate) use harness::Lasting;
