//! Asking whoever watches the configuration file to read it now.

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the watcher; more are not taken.
const WAITING: usize = 4;

/// The way to the watcher of the configuration file, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Asking(Mutex<Option<mpsc::Sender<oneshot::Sender<Reread>>>>);

/// What came of reading the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reread {
    /// It is in force; what became of keys.
    Taken(Vec<String>),
    /// The old one stays; why.
    Kept(Vec<String>),
}

impl Asking {
    /// The questions from now on.
    pub(crate) fn hear(&self) -> mpsc::Receiver<oneshot::Sender<Reread>> {
        let (ask, asked) = mpsc::channel(WAITING);
        *self.0.lock() = Some(ask);
        asked
    }

    /// Has the file read; `None` if nobody watches one.
    pub(crate) async fn ask(&self) -> Option<Reread> {
        let ask = self.0.lock().clone()?;
        let (answer, answered) = oneshot::channel();
        ask.send(answer).await.ok()?;
        answered.await.ok()
    }
}
