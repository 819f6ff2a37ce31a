//! The admin listener: health, readiness, metrics and the OpenAPI document. It asks for no key, so it listens on its own
//! address, by default this machine's only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use tallygate_core::{Policy, StoreDown};
use tallygate_store::{Store, StoreHealth};

use crate::observe::{METRICS_TYPE, Observer};

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

/// What the admin listener tells of.
#[derive(Clone)]
pub struct Admin {
    /// The metrics.
    pub observer: Arc<Observer>,
    /// How the store is.
    pub store: Arc<dyn Store>,
    /// Whether requests are welcome.
    pub readiness: Readiness,
}

/// The paths of the admin listener; all are `GET`.
pub const PATHS: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/openapi.json"];

/// The routes of the admin listener.
pub fn router(admin: Admin) -> Router {
    let handlers: [MethodRouter<Admin>; PATHS.len()] =
        [get(healthz), get(readyz), get(metrics), get(openapi)];
    let mut router = Router::new();
    for (path, handler) in PATHS.into_iter().zip(handlers) {
        router = router.route(path, handler);
    }
    router.with_state(admin)
}

/// 200 as long as the process answers at all.
async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 while requests are welcome, 503 otherwise: also while a store that is down has them refused. Where no limit is `closed`
/// then, they are welcome still, and the answer says that the store is down.
async fn readyz(State(admin): State<Admin>) -> Response {
    let no = StatusCode::SERVICE_UNAVAILABLE;
    let health = admin.store.health();
    let trouble = health.trouble().unwrap_or_default();
    let (status, text) = match (admin.readiness.get(), &health) {
        (Ready::No, _) => (no, "not ready\n".to_owned()),
        (Ready::Yes, StoreHealth::Up) => (StatusCode::OK, "ready\n".to_owned()),
        (Ready::Yes, StoreHealth::Down { reason }) => match admin.readiness.needs_store() {
            true => (no, format!("not ready\n{trouble}: {reason}\n")),
            false => (StatusCode::OK, format!("ready\n{trouble}: {reason}\n")),
        },
    };
    (status, text).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let (stats, health) = (admin.store.stats(), admin.store.health());
    admin.observer.outage(&admin.store.outage());
    admin.observer.leases(admin.store.leases());
    let text = admin.observer.render(stats, &health);
    ([(CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

#[cfg(test)]
mod tests;
