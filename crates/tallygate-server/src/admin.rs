//! The admin listener: health, readiness, metrics and the OpenAPI document for everybody who reaches it, and the admin API for
//! those with the role `admin`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use tallygate_core::{Policy, StoreDown};
use tallygate_store::StoreHealth;
use tallygate_store::registry::{Author, Change, ChangeError};
use tokio::sync::Semaphore;

use crate::observe::METRICS_TYPE;
use crate::server::ServerHandle;

mod access;
mod audit;
mod events;
mod explain;
mod keys;
mod limits;
mod listener;
mod overrides;
mod refused;
mod reload;
mod reports;
mod usage;

use reports::Reports;

pub(crate) use access::Administrator;
pub use events::MAX_LISTENERS;
pub(crate) use listener::serve;
pub use listener::{MAX_BODY, MAX_CONNECTIONS};
pub(crate) use refused::Refused;

/// The OpenAPI document of both listeners.
pub const OPENAPI: &str = include_str!("admin/openapi.json");

/// Whether new requests are welcome. Shared between the admin listener and whoever starts and stops the server.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    serving: AtomicBool,
    needs_store: AtomicBool,
}

impl Readiness {
    /// Requests are welcome from now on, or no longer.
    pub fn set(&self, ready: Ready) {
        self.0.serving.store(ready == Ready::Yes, Ordering::Release);
    }

    /// Whether they are.
    #[must_use]
    pub fn get(&self) -> Ready {
        match self.0.serving.load(Ordering::Acquire) {
            true => Ready::Yes,
            false => Ready::No,
        }
    }

    /// Takes over what `policy` says of a store that is down.
    pub fn follow(&self, policy: &Policy) {
        let needs = policy
            .limits()
            .any(|limit| limit.store_down == StoreDown::Closed);
        self.0.needs_store.store(needs, Ordering::Release);
    }

    /// Whether calls are refused while the store is down: some limit is `closed` then.
    fn needs_store(&self) -> bool {
        self.0.needs_store.load(Ordering::Acquire)
    }
}

/// What `/readyz` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Send requests.
    Yes,
    /// Send them elsewhere: the server is starting or draining.
    No,
}

/// What the admin listener serves with.
#[derive(Clone)]
pub(crate) struct Admin {
    server: ServerHandle,
    /// Where it listens.
    addr: SocketAddr,
    /// Room for those who listen to events.
    listeners: Arc<Semaphore>,
    reports: Reports,
}

impl Admin {
    /// For `server`, at `addr`.
    fn new(server: ServerHandle, addr: SocketAddr) -> Self {
        Self {
            server,
            addr,
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            reports: Reports::default(),
        }
    }

    /// The server it speaks of.
    pub(crate) fn server(&self) -> &ServerHandle {
        &self.server
    }

    /// Makes a change, and says in the log that it was made.
    ///
    /// # Errors
    /// When it is not possible or cannot be kept.
    async fn change(&self, change: Change, author: &Author) -> Result<(), ChangeError> {
        let action = change.action();
        self.server.registrar().change(change, author).await?;
        self.server.observer().administered(action);
        Ok(())
    }
}

/// A method, a path, and what answers it.
pub(crate) type Route = (&'static str, &'static str, MethodRouter<Admin>);

/// Everything that the admin listener answers. Whatever begins with `/api/` asks for an [`Administrator`] first.
fn routes() -> Vec<Route> {
    let mut routes: Vec<Route> = vec![
        ("GET", "/healthz", get(healthz)),
        ("GET", "/readyz", get(readyz)),
        ("GET", "/metrics", get(metrics)),
        ("GET", "/openapi.json", get(openapi)),
    ];
    routes.extend(keys::routes());
    routes.extend(overrides::routes());
    routes.extend(limits::routes());
    routes.extend(explain::routes());
    routes.extend(audit::routes());
    routes.extend(reload::routes());
    routes.extend(usage::routes());
    routes.extend(events::routes());
    routes
}

fn router(admin: Admin) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in routes() {
        router = router.route(path, handler);
    }
    router.fallback(refused::no_path).with_state(admin)
}

/// 200 as long as the process answers at all.
async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 while requests are welcome, 503 otherwise: also while a store that is down has them refused. Where no limit is `closed`
/// then, they are welcome still, and the answer says that the store is down.
async fn readyz(State(admin): State<Admin>) -> Response {
    let no = StatusCode::SERVICE_UNAVAILABLE;
    let (health, readiness) = (admin.server.store().health(), admin.server.readiness());
    let trouble = health.trouble().unwrap_or_default();
    let (status, text) = match (readiness.get(), &health) {
        (Ready::No, _) => (no, "not ready\n".to_owned()),
        (Ready::Yes, StoreHealth::Up) => (StatusCode::OK, "ready\n".to_owned()),
        (Ready::Yes, StoreHealth::Down { reason }) => match readiness.needs_store() {
            true => (no, format!("not ready\n{trouble}: {reason}\n")),
            false => (StatusCode::OK, format!("ready\n{trouble}: {reason}\n")),
        },
    };
    (status, text).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let (store, observer) = (admin.server.store(), admin.server.observer());
    let (stats, health) = (store.stats(), store.health());
    observer.outage(&store.outage());
    observer.leases(store.leases());
    let text = observer.render(stats, &health);
    ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

#[cfg(test)]
mod tests;
