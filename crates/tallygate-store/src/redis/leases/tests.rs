//! Leases: the script's side, a process that is cut off, one whose share is in its own way, and whole worlds.
mod cut_off;
mod own_way;
mod set_aside;
mod world;
