//! The registry in this process.
use super::audit::{AUDIT_KEPT, AuditEntry, AuditPage, Author};
use super::change::Change;
use super::records::Records;
use super::{ChangeError, Lasting, Registry, RegistryError};
use crate::BoxFuture;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use tokio::sync::watch;

/// Keys, overrides and the audit log in this process: gone with it.
#[derive(Debug)]
pub struct MemoryRegistry {
    records: watch::Sender<Arc<Records>>,
    log: Mutex<VecDeque<AuditEntry>>,
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self {
            records: watch::Sender::new(Arc::default()),
            log: Mutex::default(),
        }
    }
}

impl MemoryRegistry {
    /// One without any record.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn make(&self, change: &Change, author: &Author) -> Result<Arc<Records>, ChangeError> {
        let mut log = self.log.lock();
        let mut records = Records::clone(&self.records.borrow());
        log.push_back(records.apply(change, author)?);
        while log.len() > AUDIT_KEPT {
            log.pop_front();
        }
        let records = Arc::new(records);
        self.records.send_replace(Arc::clone(&records));
        Ok(records)
    }
}

impl Registry for MemoryRegistry {
    fn load(&self) -> BoxFuture<'_, Result<Arc<Records>, RegistryError>> {
        let records = Arc::clone(&self.records.borrow());
        Box::pin(ready(Ok(records)))
    }

    fn change<'a>(
        &'a self,
        change: Change,
        author: &'a Author,
    ) -> BoxFuture<'a, Result<Arc<Records>, ChangeError>> {
        Box::pin(async move { self.make(&change, author) })
    }

    fn audit(&self, page: AuditPage) -> BoxFuture<'_, Result<Vec<AuditEntry>, RegistryError>> {
        let entries = page.of(self.log.lock().iter());
        Box::pin(ready(Ok(entries)))
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, ()> {
        let mut records = self.records.subscribe();
        Box::pin(async move {
            let other = records.wait_for(|now| now.version() != seen).await;
            // Without a sender there is no change: this registry lives as long as its borrower.
            drop(other);
        })
    }

    fn lasts(&self) -> Lasting {
        Lasting::Process
    }
}
