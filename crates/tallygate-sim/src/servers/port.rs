//! Free loopback ports.

use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::ServerError;

/// Where ports are looked for. With [`BUS_OFFSET`] added they are still below 32768, where Linux begins with outgoing connections.
const FIRST: u16 = 11_000;
const PORTS: u16 = 10_000;
const TRIES: u32 = 200;

/// How far above its port a cluster node talks to the others.
pub(super) const BUS_OFFSET: u16 = 10_000;

/// A loopback port on which nothing listens now, nor on the one 10,000 above it, below those of outgoing connections.
///
/// # Errors
/// Hundreds of ports were tried, and all are taken.
pub fn free_port() -> Result<u16, ServerError> {
    Claim::new().map(|claim| claim.port)
}

/// A free port that no other claim is given, in this process or another, as long as it lives: also while its server is stopped.
pub(super) struct Claim {
    port: u16,
    /// Its namesake of another kind, which no server here uses: the system gives it to one at a time, and takes it back when we die.
    _namesake: UdpSocket,
}

impl Claim {
    pub(super) fn new() -> Result<Self, ServerError> {
        for _ in 0..TRIES {
            let port = FIRST + die(PORTS);
            let Ok(namesake) = UdpSocket::bind(loopback(port)) else {
                continue;
            };
            if is_free(port) && is_free(port + BUS_OFFSET) {
                return Ok(Self {
                    port,
                    _namesake: namesake,
                });
            }
        }
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        Err(ServerError::machine("find a free port")(source))
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

/// Different in every process and at every call, so that test programs side by side do not try the same ports.
fn die(faces: u16) -> u16 {
    let roll = std::hash::RandomState::new().hash_one(()) % u64::from(faces);
    u16::try_from(roll).expect("invariant: a remainder is below its divisor")
}
