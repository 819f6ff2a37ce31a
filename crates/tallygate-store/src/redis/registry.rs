//! Keys, overrides and the audit log on Redis: all nodes share them.
//!
//! All records are one text, beside a token that is another one after each change. A change is made to the records of one token and
//! kept only if that is still there, so that two administrators never undo each other's; it is sent again under the same token
//! until somebody answers. Nodes hear of it by a message, and look by themselves twice a second in case that is lost.
use super::link::{Call, Link, LinkError, Notice};
use super::names;
use super::opening::RedisOpenError;
use super::options::RedisOptions;
use crate::BoxFuture;
use crate::registry::{
    AUDIT_KEPT, AuditEntry, AuditPage, Author, Change, ChangeError, Lasting, Records, Registry,
    RegistryError,
};
use parking_lot::Mutex;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const SCRIPT: &str = include_str!("registry.lua");

/// All keys are in one slot of a Cluster.
const TAG: names::Tag = 0x6b65_7973;

/// How often it is looked whether the records are others.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a call is sent that has no answer.
const ATTEMPTS: usize = 3;

/// How often a change is made anew because another one came first.
const TURNS: usize = 50;

/// Keys, overrides and the audit log on the servers of a URL, under its prefix.
pub struct RedisRegistry {
    inner: Arc<Inner>,
    watching: JoinHandle<()>,
}

struct Inner {
    link: Link,
    keys: Vec<Vec<u8>>,
    channel: String,
    /// The token that was last heard of.
    heard: watch::Sender<Vec<u8>>,
    /// The records that were last read, with their token.
    known: Mutex<Known>,
}

#[derive(Clone, Default)]
struct Known {
    token: Vec<u8>,
    records: Arc<Records>,
}

impl RedisRegistry {
    /// The registry of a store with these options.
    ///
    /// # Errors
    /// When a server is not what the URL says, or cannot do what is needed of it.
    pub async fn open(options: &RedisOptions) -> Result<Arc<Self>, RedisOpenError> {
        let prefix = options.prefix();
        let mut lean = options.clone();
        lean.connections = 1;
        let link = Link::open(&lean, SCRIPT).await;
        let link = link.map_err(|error| error.with_prefix(prefix))?;
        let key = |name: &[u8]| names::key(prefix, TAG, b'k', name);
        let channel = format!("{prefix}:keys");
        let inner = Arc::new(Inner {
            keys: vec![key(b"version"), key(b"records"), key(b"log")],
            heard: watch::Sender::new(Vec::new()),
            known: Mutex::default(),
            link,
            channel,
        });
        let notices = inner.link.subscribe(vec![inner.channel.clone()]);
        let watching = tokio::spawn(watch_token(Arc::clone(&inner), notices));
        Ok(Arc::new(Self { inner, watching }))
    }
}

impl Drop for RedisRegistry {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn watch_token(inner: Arc<Inner>, mut notices: Receiver<Notice>) {
    loop {
        match timeout(LOOK_EVERY, notices.recv()).await {
            Ok(Some(Notice::Message { payload, .. })) => inner.hear(payload),
            Ok(Some(Notice::Interrupted)) => {}
            // Silence, or messages again after a gap.
            Err(_) | Ok(Some(Notice::Resumed)) => inner.look().await,
            Ok(None) => {
                sleep(LOOK_EVERY).await;
                inner.look().await;
            }
        }
    }
}

impl Inner {
    fn hear(&self, token: Vec<u8>) {
        self.heard.send_if_modified(|heard| {
            let news = *heard != token;
            *heard = token;
            news
        });
    }

    async fn look(&self) {
        // Who asks hears of a server that is away; here the next look will do.
        if let Ok(answer) = self.call(&[b"token"]).await
            && let [token] = &answer[..]
        {
            self.hear(token.clone());
        }
    }

    /// Runs the script; sent again as long as that may help.
    async fn call(&self, args: &[&[u8]]) -> Result<Vec<Vec<u8>>, RegistryError> {
        let call = Call {
            tag: TAG,
            keys: self.keys.clone(),
            args: args.iter().map(|arg| arg.to_vec()).collect(),
        };
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            match self.link.call(&call).await {
                Ok(values) => return texts(values),
                Err(LinkError::Down { retry_after, .. }) if left > 0 => {
                    sleep(retry_after.min(LOOK_EVERY)).await;
                }
                Err(error) => return Err(RegistryError::Down(error.to_string())),
            }
        }
    }

    async fn load(&self) -> Result<Known, RegistryError> {
        let answer = self.call(&[b"load"]).await?;
        let [token, text] = &answer[..] else {
            return Err(strange());
        };
        let mut known = self.known.lock();
        if known.token != *token {
            let records = match text.is_empty() {
                true => Records::default(),
                false => serde_json::from_slice::<Records>(text).map_err(|error| {
                    let key = String::from_utf8_lossy(&self.keys[1]).into_owned();
                    RegistryError::Damaged(format!("the key {key} of the store: {error}"))
                })?,
            };
            if let Some(key) = records.unreadable() {
                let said = format!("the key `{}` has no hash that can be read", key.id);
                return Err(RegistryError::Damaged(said));
            }
            *known = Known {
                token: token.clone(),
                records: Arc::new(records),
            };
        }
        let known = known.clone();
        self.hear(known.token.clone());
        Ok(known)
    }

    async fn change(&self, change: &Change, author: &Author) -> Result<Arc<Records>, ChangeError> {
        let mut turns = TURNS;
        let mut known = self.known.lock().clone();
        loop {
            let mut records = Records::clone(&known.records);
            // What is refused by records that are out of date is not refused yet.
            let applied = records.apply(change, author);
            if let Ok(entry) = &applied
                && let Some(made) = self.put(&known, records, entry).await?
            {
                return Ok(made);
            }
            let token = std::mem::take(&mut known.token);
            known = self.load().await?;
            match applied {
                Err(refusal) if known.token == token => return Err(refusal.into()),
                _ if turns == 0 => {
                    let crowd = "others change them all the time".to_owned();
                    return Err(RegistryError::Down(crowd).into());
                }
                _ => turns -= 1,
            }
        }
    }

    /// Puts `records` in the place of those of `known`, if these are still there.
    async fn put(
        &self,
        known: &Known,
        records: Records,
        entry: &AuditEntry,
    ) -> Result<Option<Arc<Records>>, RegistryError> {
        let token = new_token(entry.seq);
        let seq = entry.seq.to_string();
        let kept = u64::try_from(AUDIT_KEPT).unwrap_or(u64::MAX);
        let over = entry.seq.saturating_sub(kept).to_string();
        let answer = self
            .call(&[
                b"change",
                &known.token,
                &token,
                &json(&records),
                seq.as_bytes(),
                &json(entry),
                over.as_bytes(),
                self.channel.as_bytes(),
            ])
            .await?;
        if answer.first().is_none_or(|said| said != b"done") {
            return Ok(None);
        }
        let records = Arc::new(records);
        *self.known.lock() = Known {
            token: token.clone(),
            records: Arc::clone(&records),
        };
        self.hear(token);
        Ok(Some(records))
    }
}

/// Two changes of one version, one of which a failover undid, have different tokens.
fn new_token(version: u64) -> Vec<u8> {
    let random = u64::from_le_bytes(names::random());
    format!("{version}:{random:016x}").into_bytes()
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("invariant: keys of these maps are texts")
}

fn texts(values: Vec<Value>) -> Result<Vec<Vec<u8>>, RegistryError> {
    let text = |value| match value {
        Value::BulkString(text) => Ok(text),
        _ => Err(strange()),
    };
    values.into_iter().map(text).collect()
}

fn strange() -> RegistryError {
    RegistryError::Damaged("the store answered what is no answer".to_owned())
}

impl Registry for RedisRegistry {
    fn load(&self) -> BoxFuture<'_, Result<Arc<Records>, RegistryError>> {
        Box::pin(async { Ok(self.inner.load().await?.records) })
    }

    fn change<'a>(
        &'a self,
        change: Change,
        author: &'a Author,
    ) -> BoxFuture<'a, Result<Arc<Records>, ChangeError>> {
        let (inner, author) = (Arc::clone(&self.inner), author.clone());
        Box::pin(async move {
            // A caller that leaves must not leave it half known whether it was done.
            let changing = tokio::spawn(async move { inner.change(&change, &author).await });
            changing.await.unwrap_or_else(|_| {
                Err(RegistryError::Down("the process is stopping".to_owned()).into())
            })
        })
    }

    fn audit(&self, page: AuditPage) -> BoxFuture<'_, Result<Vec<AuditEntry>, RegistryError>> {
        Box::pin(async move {
            let before = page
                .before
                .map_or("+inf".to_owned(), |seq| format!("({seq}"));
            let limit = page.limit.min(AUDIT_KEPT).to_string();
            let answer = self
                .inner
                .call(&[b"log", before.as_bytes(), limit.as_bytes()])
                .await?;
            // An entry that somebody damaged is left out.
            let entries = answer
                .iter()
                .filter_map(|text| serde_json::from_slice(text).ok());
            Ok(entries.collect())
        })
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, ()> {
        let mut heard = self.inner.heard.subscribe();
        Box::pin(async move {
            let other = |token: &Vec<u8>| {
                let known = self.inner.known.lock();
                known.token != *token || known.records.version() != seen
            };
            drop(heard.wait_for(other).await);
        })
    }

    fn lasts(&self) -> Lasting {
        Lasting::Beyond
    }
}
