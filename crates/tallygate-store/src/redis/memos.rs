//! What the ledger needs to know of open reservations, each beside its reservation: in its slot, and gone some time after it.
//!
//! What is asked while a call is under way goes into the next one, so that a reservation costs the server a fraction of a call.
use super::link::{Call, Link, Route};
use super::names::{self, Tag};
use super::opening::RedisOpenError;
use super::options::RedisOptions;
use crate::usage::{Memo, ShelfError};
use futures_util::future::join_all;
use redis::Value;
use std::collections::HashMap;
use tallygate_core::{ReservationId, Time};
use tokio::sync::{mpsc, oneshot};

const SCRIPT: &str = include_str!("memos.lua");

/// Memos that may wait for a call.
const MOST_QUEUED: usize = 4_096;

/// Memos of one call.
const AT_ONCE: usize = 256;

/// How long a memo is kept past the deadline of its reservation, in milliseconds.
const LATE: u64 = 600_000;

/// The way to the memos of a prefix.
pub(super) struct Memos {
    prefix: String,
    queue: mpsc::Sender<Errand>,
}

/// One memo to be kept, renewed or taken.
struct Errand {
    tag: Tag,
    key: Vec<u8>,
    args: [Vec<u8>; 3],
    answer: oneshot::Sender<Result<Vec<u8>, ShelfError>>,
}

impl Memos {
    /// Those of a store with these options.
    ///
    /// # Errors
    /// As [`Link::open`].
    pub(super) async fn open(options: &RedisOptions) -> Result<Self, RedisOpenError> {
        let link = Link::open(options, SCRIPT).await?;
        let (queue, errands) = mpsc::channel(MOST_QUEUED);
        tokio::spawn(carry(link, errands));
        let prefix = options.prefix().to_owned();
        Ok(Self { prefix, queue })
    }

    pub(super) async fn keep(&self, memo: &Memo) -> Result<(), ShelfError> {
        self.put(b"keep", memo).await
    }

    pub(super) async fn renew(&self, memo: &Memo) -> Result<(), ShelfError> {
        self.put(b"renew", memo).await
    }

    async fn put(&self, what: &[u8], memo: &Memo) -> Result<(), ShelfError> {
        let gone = millis(memo.expires_at).saturating_add(LATE);
        let args = [what.to_vec(), memo.bytes.clone(), gone.to_string().into()];
        self.ask(memo.id, args).await.map(drop)
    }

    /// `None`: there is none, or it was taken.
    pub(super) async fn find(&self, id: ReservationId) -> Result<Option<Vec<u8>>, ShelfError> {
        self.get(b"find", id).await
    }

    /// As [`Self::find`], and it is gone.
    pub(super) async fn take(&self, id: ReservationId) -> Result<Option<Vec<u8>>, ShelfError> {
        self.get(b"take", id).await
    }

    async fn get(&self, what: &[u8], id: ReservationId) -> Result<Option<Vec<u8>>, ShelfError> {
        let args = [what.to_vec(), Vec::new(), Vec::new()];
        let memo = self.ask(id, args).await?;
        Ok(Some(memo).filter(|memo| !memo.is_empty()))
    }

    /// Removes some, soon or when they go by themselves.
    pub(super) fn drop_some(&self, ids: &[ReservationId]) {
        for id in ids {
            let args = [b"take".to_vec(), Vec::new(), Vec::new()];
            // Where too much is to be done they go a while after their deadline.
            let _ = self.queue.try_send(self.errand(*id, args).0);
        }
    }

    async fn ask(&self, id: ReservationId, args: [Vec<u8>; 3]) -> Result<Vec<u8>, ShelfError> {
        let (errand, answer) = self.errand(id, args);
        let gone = || ShelfError::Server("the process is stopping".to_owned());
        self.queue.send(errand).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    fn errand(
        &self,
        id: ReservationId,
        args: [Vec<u8>; 3],
    ) -> (Errand, oneshot::Receiver<Result<Vec<u8>, ShelfError>>) {
        let (answer, told) = oneshot::channel();
        let tag = names::home(id);
        let errand = Errand {
            tag,
            key: names::memo(&self.prefix, id),
            args,
            answer,
        };
        (errand, told)
    }
}

/// Sends what is asked, until nobody can ask any more.
async fn carry(link: Link, mut queue: mpsc::Receiver<Errand>) {
    let mut some = Vec::new();
    while queue.recv_many(&mut some, AT_ONCE).await > 0 {
        let mut routes: HashMap<Route, Vec<Errand>> = HashMap::new();
        for errand in some.drain(..) {
            let route = link.route(errand.tag);
            routes.entry(route).or_default().push(errand);
        }
        join_all(routes.into_values().map(|errands| send(&link, errands))).await;
    }
}

/// One call for all of them.
async fn send(link: &Link, errands: Vec<Errand>) {
    let Some(tag) = errands.first().map(|errand| errand.tag) else {
        return;
    };
    let call = Call {
        tag,
        keys: errands.iter().map(|errand| errand.key.clone()).collect(),
        args: errands.iter().flat_map(|one| one.args.clone()).collect(),
    };
    // Not sent again: what is known of a reservation to one node only is worth no wait.
    let answer = link.call(&call).await.map_err(|error| error.to_string());
    for (at, errand) in errands.into_iter().enumerate() {
        let told = match &answer {
            Ok(values) => match values.get(at) {
                Some(Value::BulkString(memo)) => Ok(memo.clone()),
                _ => Err(ShelfError::Server(
                    "it answered what is no answer".to_owned(),
                )),
            },
            Err(error) => Err(ShelfError::Server(error.clone())),
        };
        let _ = errand.answer.send(told); // whoever asked may be gone
    }
}

fn millis(time: Time) -> u64 {
    time.as_nanos() / 1_000_000
}
