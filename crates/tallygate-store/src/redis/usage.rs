//! The ledger of usage on Redis: all nodes write to it, and each answers for all.
//!
//! One sorted set holds blocks of records, by the time of their last record. A node adds one some times a second; small ones are
//! merged after a while. A block is named by random bytes, so one that is sent again is there once; a merge puts one block in the
//! place of others or does nothing; and a question that a merge came between is asked again.
use super::link::{Call, Link, LinkError};
use super::memos::{self, Memos};
use super::names;
use super::opening::RedisOpenError;
use super::options::RedisOptions;
use crate::BoxFuture;
use crate::usage::{
    Block, BlockError, BlockView, Memo, MemosFor, Query, Record, Report, Shelf, ShelfError, Tally,
};
use parking_lot::Mutex;
use redis::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{ReservationId, Time};
use tokio::runtime::Handle;
use tokio::time::sleep;

const SCRIPT: &str = include_str!("usage.lua");

/// How often a call is sent that has no answer.
const ATTEMPTS: usize = 3;

/// Records of one block as it is added.
const ADDED: usize = 8_192;

/// Blocks that are read with one call.
const PAGE: usize = 64;

/// How often a question is asked again that merges come between.
const TURNS: usize = 5;

/// Blocks below this many records are merged with others.
const SMALL: usize = 1_024;

/// Small blocks that are worth merging.
const WORTH: usize = 16;

/// How old a block is before it is merged, in milliseconds.
const SETTLED: u64 = 120_000;

/// Bytes before a block.
const NAME: usize = 8;

/// Keeps records on the servers of a URL, under its prefix.
#[derive(Clone)]
pub struct RedisShelf(Arc<Inner>);

struct Inner {
    link: Link,
    memos: Memos,
    prefix: String,
    keys: Vec<Vec<u8>>,
    /// Up to when blocks have been merged.
    merged: Mutex<u64>,
    /// The time of the latest record that was added here.
    latest: Mutex<u64>,
}

impl fmt::Debug for RedisShelf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RedisShelf").finish_non_exhaustive()
    }
}

/// Blocks as they came, and where to go on behind them.
struct Page {
    token: Vec<u8>,
    members: Vec<Vec<u8>>,
}

/// Where a walk through the blocks has come.
#[derive(Clone, Copy)]
struct Place {
    /// The score of the last block that was seen.
    score: u64,
    /// How many of that score were seen.
    seen: usize,
}

impl RedisShelf {
    /// The ledger of a store with these options.
    ///
    /// # Errors
    /// When a server is not what the URL says, or cannot do what is needed of it.
    pub async fn open(options: &RedisOptions) -> Result<Self, RedisOpenError> {
        let prefix = options.prefix();
        let mut lean = options.clone();
        lean.connections = 1;
        let link = Link::open(&lean, SCRIPT).await;
        let link = link.map_err(|error| error.with_prefix(prefix))?;
        // Its own way, so that no report stands before a reservation.
        let memos = Memos::open(&lean).await;
        let memos = memos.map_err(|error| error.with_prefix(prefix))?;
        let key = |name: &[u8]| names::key(prefix, names::LEDGER, b'u', name);
        Ok(Self(Arc::new(Inner {
            keys: vec![key(b"blocks"), key(b"merges")],
            link,
            memos,
            prefix: prefix.to_owned(),
            merged: Mutex::new(0),
            latest: Mutex::new(0),
        })))
    }
}

impl Inner {
    async fn call(&self, args: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, ShelfError> {
        self.call_on(self.keys.clone(), args).await
    }

    /// Runs the script; sent again as long as that may help.
    async fn call_on(
        &self,
        keys: Vec<Vec<u8>>,
        args: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, ShelfError> {
        let call = Call {
            tag: names::LEDGER,
            keys,
            args,
        };
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            match self.link.call(&call).await {
                Ok(values) => return values.into_iter().map(text).collect(),
                Err(LinkError::Down { retry_after, .. }) if left > 0 => {
                    sleep(retry_after.min(Duration::from_millis(500))).await;
                }
                Err(error) => return Err(ShelfError::Server(error.to_string())),
            }
        }
    }

    /// In one call, so that a record and the memo of its reservation are never there both.
    async fn append(&self, records: &[Record], ended: &[ReservationId]) -> Result<(), ShelfError> {
        let mut keys = self.keys.clone();
        keys.push(names::memo_deadlines(&self.prefix));
        keys.extend(ended.iter().map(|id| names::memo(&self.prefix, *id)));
        let blocks = records.chunks(ADDED).filter_map(Block::of);
        let mut args = vec![b"add".to_vec()];
        args.extend(ended.iter().map(|id| memos::id(*id)));
        for block in blocks {
            args.extend(named(&block));
            let mut latest = self.latest.lock();
            *latest = block.times().1.max(*latest);
        }
        self.call_on(keys, args).await.map(drop)
    }

    /// The next blocks from `place` on, whose last record is before `until`.
    async fn page(&self, place: Place, until: u64) -> Result<Page, ShelfError> {
        let until = match until {
            u64::MAX => b"+inf".to_vec(),
            until => digits(until),
        };
        let bounds = [digits(place.score), until, digits(place.seen as u64)];
        let args = [
            vec![b"scan".to_vec()],
            bounds.to_vec(),
            vec![digits(PAGE as u64)],
        ];
        let mut found = self.call(args.concat()).await?.into_iter();
        Ok(Page {
            token: found.next().unwrap_or_default(),
            members: found.collect(),
        })
    }

    async fn answer(&self, query: &Query) -> Result<Report, ShelfError> {
        query.check()?;
        for _ in 0..TURNS {
            if let Some(report) = self.sum(query).await? {
                return Ok(report);
            }
        }
        Err(ShelfError::Server(
            "its blocks change all the time".to_owned(),
        ))
    }

    /// `None`: blocks were merged meanwhile.
    async fn sum(&self, query: &Query) -> Result<Option<Report>, ShelfError> {
        let mut tally = Tally::new(query);
        let (mut place, mut token) = (
            Place {
                score: query.from,
                seen: 0,
            },
            None,
        );
        loop {
            let page = self.page(place, u64::MAX).await?;
            if *token.get_or_insert_with(|| page.token.clone()) != page.token {
                return Ok(None);
            }
            for member in &page.members {
                match block(member).and_then(|view| tally.add(&view).map(|()| view)) {
                    Ok(view) => place.pass(view.times().1),
                    Err(_) => {
                        tally.note_damage(1);
                        place.seen += 1;
                    }
                }
            }
            if page.members.len() < PAGE {
                return Ok(Some(tally.finish()));
            }
        }
    }

    /// Merges small blocks that nobody adds to any more.
    async fn merge(&self, from: u64) -> Result<(), ShelfError> {
        let until = self.latest.lock().saturating_sub(SETTLED);
        let begin = from.max(*self.merged.lock());
        let mut place = Place {
            score: begin,
            seen: 0,
        };
        while place.score < until {
            let page = self.page(place, until).await?;
            for member in &page.members {
                match block(member) {
                    Ok(view) => place.pass(view.times().1),
                    Err(_) => place.seen += 1,
                }
            }
            self.merge_page(&page).await?;
            *self.merged.lock() = place.score;
            if page.members.len() < PAGE {
                return Ok(());
            }
            // Those that were merged are not there to be counted any more.
            place = Place {
                score: place.score.saturating_add(1),
                seen: 0,
            };
        }
        Ok(())
    }

    async fn merge_page(&self, page: &Page) -> Result<(), ShelfError> {
        let views = page.members.iter().map(|member| (member, block(member)));
        let small: Vec<(&Vec<u8>, BlockView<'_>)> = views
            .filter_map(|(member, view)| Some((member, view.ok()?)))
            .filter(|(_, view)| view.records() < SMALL)
            .collect();
        if small.len() < WORTH {
            return Ok(());
        }
        let mut records = Vec::new();
        for (_, view) in &small {
            records.extend(view.to_records()?);
        }
        let Some(whole) = Block::of(&records) else {
            return Ok(());
        };
        let mut args = vec![b"merge".to_vec(), names::random::<NAME>().to_vec()];
        args.extend(named(&whole));
        for (member, view) in small {
            args.extend([digits(view.times().1), member.clone()]);
        }
        self.call(args).await.map(drop)
    }

    async fn drop_before(&self, time: u64) -> Result<(), ShelfError> {
        let before = format!("({time}").into_bytes();
        self.call(vec![b"drop".to_vec(), before]).await?;
        self.merge(time).await
    }
}

impl Place {
    /// A block of this score was seen.
    fn pass(&mut self, score: u64) {
        self.seen = match score == self.score {
            true => self.seen + 1,
            false => 1,
        };
        self.score = score;
    }
}

/// A block's score, and the block behind a name of its own.
fn named(block: &Block) -> [Vec<u8>; 2] {
    let name = names::random::<NAME>();
    [digits(block.times().1), [&name[..], block.bytes()].concat()]
}

fn block(member: &[u8]) -> Result<BlockView<'_>, BlockError> {
    let bytes = member.get(NAME..).ok_or(BlockError::Short)?;
    BlockView::read(bytes).map(|(view, _)| view)
}

fn digits(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn text(value: Value) -> Result<Vec<u8>, ShelfError> {
    match value {
        Value::BulkString(text) => Ok(text),
        _ => Err(ShelfError::Server(
            "it answered what is no answer".to_owned(),
        )),
    }
}

impl Shelf for RedisShelf {
    fn append<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(self.0.append(records, &[]))
    }

    fn append_ends<'a>(
        &'a self,
        records: &'a [Record],
        ended: &'a [ReservationId],
    ) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(self.0.append(records, ended))
    }

    fn answer<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Report, ShelfError>> {
        let (inner, query) = (Arc::clone(&self.0), query.clone());
        // Summing takes longer than an async worker may be held.
        let asking =
            tokio::task::spawn_blocking(move || Handle::current().block_on(inner.answer(&query)));
        Box::pin(async move {
            let asked = asking.await;
            asked.unwrap_or_else(|error| Err(ShelfError::Server(error.to_string())))
        })
    }

    fn drop_before(&self, time: u64) -> BoxFuture<'_, Result<(), ShelfError>> {
        Box::pin(self.0.drop_before(time))
    }

    fn memos_for(&self) -> MemosFor {
        MemosFor::OtherNodes
    }

    fn keep_memo<'a>(&'a self, memo: &'a Memo) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(self.0.memos.keep(memo))
    }

    fn renew_memo<'a>(&'a self, memo: &'a Memo) -> BoxFuture<'a, Result<(), ShelfError>> {
        Box::pin(self.0.memos.renew(memo))
    }

    fn find_memo(&self, id: ReservationId) -> BoxFuture<'_, Result<Option<Vec<u8>>, ShelfError>> {
        Box::pin(self.0.memos.find(id))
    }

    fn take_memo(&self, id: ReservationId) -> BoxFuture<'_, Result<Option<Vec<u8>>, ShelfError>> {
        Box::pin(self.0.memos.take(id))
    }

    fn overdue_memos(
        &self,
        before: Time,
        most: usize,
    ) -> BoxFuture<'_, Result<Vec<ReservationId>, ShelfError>> {
        Box::pin(self.0.memos.overdue(before, most))
    }
}
