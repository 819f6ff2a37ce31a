//! Leases: the script's side, a process that is cut off, and whole worlds of both.
mod cut_off;
mod set_aside;
mod world;
