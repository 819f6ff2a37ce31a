//! Asking whoever watches the configuration file to read it now.

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the watcher; more are not taken.
const WAITING: usize = 4;

/// The way to the watcher of the configuration file, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Asking(Mutex<Option<mpsc::Sender<Asked>>>);

/// What the watcher is asked for, and the way back.
pub(crate) type Asked = (Intent, oneshot::Sender<Reread>);

/// What the file is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// To take it over.
    Reload,
    /// To see what taking it over would come to.
    Try,
}

/// What came of reading the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reread {
    /// It is in force; what became of keys.
    Taken(Vec<String>),
    /// The old one stays; why.
    Kept(Vec<String>),
    /// The old one stays, and this one could be taken over.
    Possible(Trial),
}

/// What another configuration would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trial {
    /// Limits that would be new, by name.
    pub(crate) added: Vec<String>,
    /// Limits that there would not be any more.
    pub(crate) removed: Vec<String>,
    /// Limits that would be others.
    pub(crate) changed: Vec<String>,
    /// What the file's author should know.
    pub(crate) warnings: Vec<String>,
}

impl Asking {
    /// The questions from now on.
    pub(crate) fn hear(&self) -> mpsc::Receiver<Asked> {
        let (ask, asked) = mpsc::channel(WAITING);
        *self.0.lock() = Some(ask);
        asked
    }

    /// Has the file read; `None` if nobody watches one.
    pub(crate) async fn ask(&self, intent: Intent) -> Option<Reread> {
        let ask = self.0.lock().clone()?;
        let (answer, answered) = oneshot::channel();
        ask.send((intent, answer)).await.ok()?;
        answered.await.ok()
    }
}
