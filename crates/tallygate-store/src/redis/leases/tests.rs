//! Leases: the script's side, this process's side, and both under a seeded world of processes that die and messages that are
//! late, lost and repeated.
mod set_aside;
mod world;
