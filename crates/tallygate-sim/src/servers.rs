//! Real Redis and Valkey servers for tests and benches: one alone, a Cluster, or a primary watched by Sentinels.
//!
//! Every server listens on a free loopback port, keeps its files in a folder of its own, and goes away
//! with its value, and also when the process that started it dies. A port is chosen below those that the
//! system gives to outgoing connections: a client that keeps trying the port of a stopped server would
//! otherwise meet itself there sooner or later, and keep the server from coming back.
//!
//! Calls block the thread: they are for the frame of a test, not for what it measures.
//!
//! Programs are looked for in this order, and what is missing is an error that says how to mend it, never a skipped test:
//!
//! | | Redis | Valkey |
//! |---|---|---|
//! | environment | `TALLYGATE_REDIS_SERVER` | `TALLYGATE_VALKEY_SERVER` |
//! | what `cargo xtask ci --only servers` installs | `ci/servers/bin/redis-server` of the target directory | `ci/servers/bin/valkey-server` |
//! | `PATH` | `redis-server` | `valkey-server` |
//!
//! ```no_run
//! use tallygate_sim::servers::{Engine, Server};
//!
//! let server = Server::start(Engine::Valkey, &["maxmemory 64mb", "maxmemory-policy noeviction"])?;
//! server.command(&["SET", "colour", "blue"])?;
//! server.kill();
//! server.restart()?;
//! assert_eq!(server.command(&["GET", "colour"])?, redis::Value::Nil);
//! # Ok::<(), tallygate_sim::servers::ServerError>(())
//! ```

mod cluster;
mod engine;
mod error;
mod patience;
mod port;
mod process;
mod sentinel;
mod server;
mod wire;

pub use cluster::{Cluster, Migration};
pub use engine::Engine;
pub use error::ServerError;
pub use port::free_port;
pub use sentinel::Sentinels;
pub use server::Server;
