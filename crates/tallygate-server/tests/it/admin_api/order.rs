//! Records that come late: what was put in force meanwhile stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use serde_json::{Value, json};
use tallygate_server::Server;
use tallygate_store::registry::{
    AuditEntry, AuditPage, Author, Change, ChangeError, Lasting, MemoryRegistry, Records, Registry,
    RegistryError,
};
use tallygate_store::{BoxFuture, MemoryOptions, MemoryStore};
use tokio::sync::Semaphore;

use super::{ask, made, peek};
use crate::world::{LIMITS, World, config, within};

/// A registry that is told of one change elsewhere, and reads its records long before it gives them.
struct Late {
    inner: Arc<MemoryRegistry>,
    tell: Semaphore,
    read: Semaphore,
    give: Semaphore,
    given: Semaphore,
    loads: AtomicUsize,
}

impl Registry for Late {
    fn load(&self) -> BoxFuture<'_, Result<Arc<Records>, RegistryError>> {
        Box::pin(async {
            let records = self.inner.load().await;
            // The first is the start's.
            if self.loads.fetch_add(1, Ordering::SeqCst) == 1 {
                self.read.add_permits(1);
                self.give.acquire().await.expect("a gate").forget();
            }
            records
        })
    }

    fn change<'a>(
        &'a self,
        change: Change,
        author: &'a Author,
    ) -> BoxFuture<'a, Result<Arc<Records>, ChangeError>> {
        self.inner.change(change, author)
    }

    fn audit(&self, page: AuditPage) -> BoxFuture<'_, Result<Vec<AuditEntry>, RegistryError>> {
        self.inner.audit(page)
    }

    fn changed(&self, _: u64) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Asked a second time, what was given is in force.
            if self.loads.load(Ordering::SeqCst) > 1 {
                self.given.add_permits(1);
            }
            self.tell.acquire().await.expect("a gate").forget();
        })
    }

    fn lasts(&self) -> Lasting {
        Lasting::Process
    }
}

#[tokio::test]
async fn a_revoked_key_stays_revoked_though_older_records_come_late() {
    let registry = Arc::new(Late {
        inner: MemoryRegistry::new(),
        tell: Semaphore::new(0),
        read: Semaphore::new(0),
        give: Semaphore::new(0),
        given: Semaphore::new(0),
        loads: AtomicUsize::new(0),
    });
    let config = config("", LIMITS.split_once('\n').expect("two lines").1);
    let store = MemoryStore::new(config.policy(), MemoryOptions::default());
    let kept: Arc<dyn Registry> = registry.clone();
    let server = Server::with_registry(config, store, kept).await;
    let world = World::of(server.expect("a server")).await;
    let root = made(&world, None, json!({ "id": "root", "roles": ["admin"] })).await;
    let wanted = json!({ "id": "alice", "roles": ["decide"] });
    let alice = made(&world, Some(&root), wanted).await;
    assert_eq!(peek(&world, &alice).await, 200);
    registry.tell.add_permits(1);
    within(registry.read.acquire())
        .await
        .expect("read")
        .forget();
    let path = ("/api/keys/alice", Value::Null);
    let revoked = ask(&world, Some(&root), Method::DELETE, path).await;
    assert_eq!(revoked.status, 200);
    registry.give.add_permits(1);
    within(registry.given.acquire())
        .await
        .expect("given")
        .forget();
    assert_eq!(peek(&world, &alice).await, 401);
}
