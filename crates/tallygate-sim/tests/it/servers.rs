//! Real servers start, end, freeze and come back as they are told.

mod alone;
mod cluster;
mod processes;
mod sentinel;
