//! The binary as a person or a script meets it.

mod admin;
mod check;
mod command;
mod count;
mod demo;
mod documents;
mod durable;
mod examples;
mod explain;
mod folder;
mod keys;
mod outages;
mod prices;
mod running;
mod serve;
mod stores;
mod usage;
