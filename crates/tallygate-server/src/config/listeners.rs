//! `listen:` and `admin:`, and what of a configuration is fixed once a server listens.

use std::net::{Ipv4Addr, SocketAddr};

use super::fields::{Fields, Reading};
use super::problem::{Kind, Problem};
use super::tree::Node;
use super::{Bounds, Config};
use crate::identify::Keyring;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8787);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8788);

/// The data listener would be open to others than this machine while everybody is let in without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("without keys the data listener must be on a loopback address, not on {0}")]
pub struct Exposed(pub SocketAddr);

/// A setting that only a restart can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreloadable {
    /// Another data listener.
    #[error("`listen` changed from {from} to {to}, which needs a restart")]
    Listen {
        /// The running one.
        from: SocketAddr,
        /// The new one.
        to: SocketAddr,
    },
    /// Another admin listener, or none.
    #[error("`admin` changed, which needs a restart")]
    Admin,
    /// Another place for the counters.
    #[error("`store` changed, which needs a restart")]
    Store,
    /// More or less of the counters may be lost.
    #[error("`durability` changed, which needs a restart")]
    Durability,
    /// Another folder for what has to be kept while the store is away.
    #[error("`data` changed, which needs a restart")]
    Data,
    /// The user-defined metrics are not the old ones with new ones behind them; open reservations would change their meaning.
    #[error("`metrics` changed other than by new names at its end, which needs a restart")]
    Metrics,
    /// The length of the waiting line, which the store has from its start.
    #[error("`waiting.queue` changed, which needs a restart")]
    Queue,
    /// Whether usage is kept, or for how long.
    #[error("`ledger` changed, which needs a restart")]
    Ledger,
    /// A bound that the data listener has from its start.
    #[error("`bounds.{0}` changed, which needs a restart")]
    Bound(&'static str),
    /// No key is left: everybody would be let in. A file that is being written looks like that for a moment, and where the
    /// listener was told its address at the start, the file does not know who that would be.
    #[error("all `keys` are gone, which would let everybody in and needs a restart")]
    Keys,
}

/// Whether the data listener may be open at `addr`: without keys only to this machine.
///
/// # Errors
/// When nobody needs a key and `addr` is not a loopback address.
pub(crate) fn guard(addr: SocketAddr, keyring: &Keyring) -> Result<(), Exposed> {
    if keyring.is_open() && !addr.ip().to_canonical().is_loopback() {
        return Err(Exposed(addr));
    }
    Ok(())
}

pub(super) fn compare(running: &Config, next: &Config) -> Result<(), Unreloadable> {
    if running.listen != next.listen {
        return Err(Unreloadable::Listen {
            from: running.listen,
            to: next.listen,
        });
    }
    if running.admin != next.admin {
        return Err(Unreloadable::Admin);
    }
    if running.store != next.store {
        return Err(Unreloadable::Store);
    }
    if running.durability != next.durability {
        return Err(Unreloadable::Durability);
    }
    if running.data != next.data {
        return Err(Unreloadable::Data);
    }
    let mut names = next.metrics().iter().map(|(_, name)| name);
    if !running
        .metrics()
        .iter()
        .all(|(_, name)| names.next() == Some(name))
    {
        return Err(Unreloadable::Metrics);
    }
    if running.waiting.queue != next.waiting.queue {
        return Err(Unreloadable::Queue);
    }
    if running.ledger != next.ledger {
        return Err(Unreloadable::Ledger);
    }
    match fixed_bound(&running.bounds, &next.bounds) {
        Some(name) => Err(Unreloadable::Bound(name)),
        None if next.keyring.is_open() && !running.keyring.is_open() => Err(Unreloadable::Keys),
        None => Ok(()),
    }
}

/// The bounds that the listener is made with; the others are looked up for each request.
fn fixed_bound(running: &Bounds, next: &Bounds) -> Option<&'static str> {
    let fixed = [
        ("max_headers", running.max_headers != next.max_headers),
        ("header_time", running.header_time != next.header_time),
        ("drain_time", running.drain_time != next.drain_time),
        (
            "max_connections",
            running.max_connections != next.max_connections,
        ),
    ];
    fixed
        .into_iter()
        .find(|(_, changed)| *changed)
        .map(|(name, _)| name)
}

/// The two addresses.
pub(super) struct Listeners {
    pub(super) listen: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
}

/// Reads both. `any_key` says whether the file has keys, good or bad.
pub(super) fn read(top: &Fields<'_>, keyless: Keyless, reading: &mut Reading<'_>) -> Listeners {
    let listen_node = top.get("listen");
    let listen = listen_node.and_then(|node| address(node, "`listen`", reading));
    if let (Some(node), Some(addr)) = (listen_node, listen) {
        check_exposed(node, addr, (keyless, reading));
    }
    let listen = listen.unwrap_or(DEFAULT_LISTEN);
    let admin = match top.get("admin") {
        None => Some(DEFAULT_ADMIN),
        Some(node)
            if reading
                .text(node, "`admin`")
                .is_none_or(|text| text == "none") =>
        {
            None
        }
        Some(node) => address(node, "`admin`", reading),
    };
    if let Some(node) = top
        .get("admin")
        .filter(|_| admin == Some(listen) && listen.port() != 0)
    {
        let problem = Problem::error(
            Kind::Conflict,
            node.at,
            "`admin` and `listen` are the same address",
        );
        reading.report(
            problem.mend("the admin listener is never the data listener: choose another port"),
        );
    }
    if let (Some(node), Some(addr)) = (top.get("admin"), admin) {
        warn_of_open_admin(node, addr, reading);
    }
    Listeners { listen, admin }
}

fn warn_of_open_admin(node: &Node, addr: SocketAddr, reading: &mut Reading<'_>) {
    if !addr.ip().to_canonical().is_loopback() {
        let message = "the admin listener tells metrics to whoever reaches it, and is open to other machines here";
        let problem = Problem::warning(Kind::Conflict, node.at, message);
        reading.report(problem.mend(
            "listen on 127.0.0.1, or see to it that only your monitoring can reach it; its API asks for a key with the role `admin`",
        ));
    }
}

/// Whether there is no key at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyless {
    /// The file names none, and nothing else could.
    Yes,
    /// The file names none; the store may.
    Unknown,
    No,
}

fn check_exposed(node: &Node, addr: SocketAddr, (keyless, reading): (Keyless, &mut Reading<'_>)) {
    if addr.ip().to_canonical().is_loopback() {
        return;
    }
    match keyless {
        Keyless::No => {}
        Keyless::Yes => {
            let problem = Problem::error(Kind::Conflict, node.at, Exposed(addr).to_string());
            reading.report(problem.mend("add `keys`, or listen on 127.0.0.1"));
        }
        Keyless::Unknown => {
            let message = "there are no `keys` here, so that a server starts only if one was made in its store";
            let problem = Problem::warning(Kind::Missing, node.at, message);
            reading.report(
                problem.mend(
                    "make one with `tallygate keys create`, add `keys`, or listen on 127.0.0.1",
                ),
            );
        }
    }
}

fn address(node: &Node, what: &str, reading: &mut Reading<'_>) -> Option<SocketAddr> {
    let text = reading.expanded(node, what)?;
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.clone(),
    };
    let address = numeric.parse().ok();
    if address.is_none() {
        let problem = Problem::error(
            Kind::Value,
            node.at,
            format!("{what} `{text}` is not an address"),
        );
        reading.report(problem.mend(address_mend(&text)));
    }
    address
}

fn address_mend(text: &str) -> String {
    let port = text.rsplit(':').next().unwrap_or(text);
    match port.parse::<u16>() {
        Ok(port) => format!("write an IP address and a port, as 127.0.0.1:{port}"),
        Err(_) => "write an IP address and a port from 0 to 65535, as 127.0.0.1:8787".to_owned(),
    }
}
