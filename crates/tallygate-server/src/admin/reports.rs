//! Making reports of usage: few at once, away from the threads that serve calls, and no more of them unread than memory is for.
//!
//! A report that was begun is made to its end, though who asked for it has left: else a client that asks and leaves would have as
//! many made at once as it likes.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Refused;

/// Reports that are made at once.
pub(crate) const AT_ONCE: usize = 2;

/// Reports that wait for their turn; the next is refused.
pub(crate) const WAITING: usize = 16;

/// How long one waits for its turn, and for others to be read.
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest report, in bytes.
pub(super) const MOST_BYTES: usize = 128 << 20;

/// All reports that are made and not read yet, in [`PIECE`]s: 256 MiB.
const UNREAD: usize = 256 << 10;
const PIECE: usize = 1 << 10;

/// The room for reports.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    making: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    unread: Arc<Semaphore>,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            making: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            unread: Arc::new(Semaphore::new(UNREAD)),
        }
    }
}

impl Reports {
    /// Sums what is asked for, and has `write` make a body of it, which may take its time.
    ///
    /// # Errors
    /// When too many are asked for, or the report is too large; and those of `asking`.
    pub(super) async fn make<T: Send + 'static>(
        &self,
        asking: impl Future<Output = Result<T, Refused>> + Send + 'static,
        write: impl FnOnce(&T, &mut Page) -> io::Result<()> + Send + 'static,
    ) -> Result<Bytes, Refused> {
        let turn = self.turn().await?;
        let unread = Arc::clone(&self.unread);
        let making = tokio::spawn(async move {
            let asked = asking.await?;
            let written = spawn_blocking(move || {
                let mut page = Page::default();
                write(&asked, &mut page)
                    .map(|()| page.0)
                    .map_err(|_| too_large())
            });
            let page = written.await.map_err(|_| Refused::internal())??;
            let unread = room(unread, page.len()).await?;
            drop(turn);
            Ok(Bytes::from_owner(Unread {
                page,
                _room: unread,
            }))
        });
        making.await.unwrap_or_else(|_| Err(Refused::internal()))
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let making = Arc::clone(&self.making);
        if let Ok(turn) = Arc::clone(&making).try_acquire_owned() {
            return Ok(turn);
        }
        let waiting = Arc::clone(&self.waiting).try_acquire_owned();
        let _waiting = waiting.map_err(|_| busy())?;
        match timeout(PATIENCE, making.acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(busy()),
        }
    }
}

async fn room(unread: Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
    let pieces = u32::try_from(bytes.div_ceil(PIECE)).map_err(|_| too_large())?;
    match timeout(PATIENCE, unread.acquire_many_owned(pieces)).await {
        Ok(Ok(room)) => Ok(room),
        _ => Err(busy()),
    }
}

/// A report that is not read yet, and the room it takes.
struct Unread {
    page: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

/// What a report is written on: [`MOST_BYTES`] fit.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<u8>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.len() + bytes.len() > MOST_BYTES {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn busy() -> Refused {
    let message = format!("{AT_ONCE} reports are being made, and as many wait as may");
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).mend("ask again in a while")
}

fn too_large() -> Refused {
    let message = format!("the report is larger than {} MiB", MOST_BYTES >> 20);
    Refused::invalid(message, Some("by")).mend("ask for less in `by`, or for a shorter time")
}

#[cfg(test)]
mod tests;
