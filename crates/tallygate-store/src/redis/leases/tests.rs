//! Leases: the script's side, with messages that are late, lost and repeated.
mod set_aside;
