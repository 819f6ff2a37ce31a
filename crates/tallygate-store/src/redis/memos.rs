//! What the ledger needs to know of open reservations, in the slot of the ledger: so that it goes with the record of an end, and
//! that what nobody ends is found by its deadline.
//!
//! What is asked while a call is under way goes into the next one, so that a reservation costs the server a fraction of a call.
use super::link::{Call, Link};
use super::names;
use super::opening::RedisOpenError;
use super::options::RedisOptions;
use crate::usage::{Memo, ShelfError};
use redis::Value;
use tallygate_core::{ReservationId, Time};
use tokio::sync::{mpsc, oneshot};

const SCRIPT: &str = include_str!("memos.lua");

/// Memos that may wait for a call.
const MOST_QUEUED: usize = 4_096;

/// Memos of one call.
const AT_ONCE: usize = 256;

/// How long a memo is kept past the deadline of its reservation, in milliseconds, while no node records what nobody ended.
const LATE: u64 = 86_400_000;

/// Bytes of a reservation's id.
const ID: usize = 16;

/// The way to the memos of a prefix.
pub(super) struct Memos {
    prefix: String,
    queue: mpsc::Sender<Errand>,
}

/// One memo to be kept, renewed, found or taken.
struct Errand {
    key: Vec<u8>,
    args: [Vec<u8>; 5],
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
        let prefix = options.prefix().to_owned();
        tokio::spawn(carry(link, names::memo_deadlines(&prefix), errands));
        Ok(Self { prefix, queue })
    }

    pub(super) async fn keep(&self, memo: &Memo) -> Result<(), ShelfError> {
        self.put("keep", memo).await
    }

    pub(super) async fn renew(&self, memo: &Memo) -> Result<(), ShelfError> {
        self.put("renew", memo).await
    }

    async fn put(&self, what: &str, memo: &Memo) -> Result<(), ShelfError> {
        let deadline = millis(memo.expires_at);
        let key = names::memo(&self.prefix, memo.id);
        let args = [
            what.into(),
            id(memo.id),
            memo.bytes.clone(),
            digits(deadline),
            digits(deadline.saturating_add(LATE)),
        ];
        self.ask(key, args).await.map(drop)
    }

    /// `None`: there is none, or it was taken.
    pub(super) async fn find(&self, id: ReservationId) -> Result<Option<Vec<u8>>, ShelfError> {
        self.get("find", id).await
    }

    /// As [`Self::find`], and it is gone.
    pub(super) async fn take(&self, id: ReservationId) -> Result<Option<Vec<u8>>, ShelfError> {
        self.get("take", id).await
    }

    async fn get(&self, what: &str, of: ReservationId) -> Result<Option<Vec<u8>>, ShelfError> {
        let args = [what.into(), id(of), Vec::new(), Vec::new(), Vec::new()];
        let memo = self.ask(names::memo(&self.prefix, of), args).await?;
        Ok(Some(memo).filter(|memo| !memo.is_empty()))
    }

    /// Some whose deadlines are not after `by`, the first ones.
    pub(super) async fn overdue(
        &self,
        by: Time,
        most: usize,
    ) -> Result<Vec<ReservationId>, ShelfError> {
        let args = [
            "overdue".into(),
            Vec::new(),
            digits(most as u64),
            digits(millis(by)),
            Vec::new(),
        ];
        let found = self.ask(names::memo_deadlines(&self.prefix), args).await?;
        let (ids, _) = found.as_chunks::<ID>();
        let ids = ids.iter().map(|id| u128::from_be_bytes(*id));
        Ok(ids.map(ReservationId::from_bits).collect())
    }

    async fn ask(&self, key: Vec<u8>, args: [Vec<u8>; 5]) -> Result<Vec<u8>, ShelfError> {
        let (answer, told) = oneshot::channel();
        let errand = Errand { key, args, answer };
        let gone = || ShelfError::Server("the process is stopping".to_owned());
        self.queue.send(errand).await.map_err(|_| gone())?;
        told.await.unwrap_or_else(|_| Err(gone()))
    }
}

/// What a reservation is called among the deadlines.
pub(super) fn id(id: ReservationId) -> Vec<u8> {
    id.bits().to_be_bytes().to_vec()
}

/// Sends what is asked, until nobody can ask any more.
async fn carry(link: Link, deadlines: Vec<u8>, mut queue: mpsc::Receiver<Errand>) {
    let mut some = Vec::new();
    while queue.recv_many(&mut some, AT_ONCE).await > 0 {
        send(&link, &deadlines, std::mem::take(&mut some)).await;
    }
}

/// One call for all of them.
async fn send(link: &Link, deadlines: &[u8], errands: Vec<Errand>) {
    let memos = errands.iter().map(|errand| &*errand.key);
    let call = Call {
        tag: names::LEDGER,
        keys: std::iter::once(deadlines)
            .chain(memos)
            .map(<[u8]>::to_vec)
            .collect(),
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

fn digits(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}
