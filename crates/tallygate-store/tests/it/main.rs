//! The memory store under the conformance suite, on virtual time and on real threads.
mod batch;
mod bounds;
mod failover;
mod fronts;
mod killed;
mod live;
mod peers;
mod redis;
mod redis_cluster;
mod redis_failover;
mod redis_floods;
mod redis_lines;
mod suite;
mod support;
mod sweep;
mod threads;
mod wall;
