//! The yardstick: what one would write by hand. One connection, one script a decision, two buckets, and no more than that.
//!
//! It is tuned as well as we know how: server time, one packed string for both buckets, packed arguments and answers,
//! parts of strings overwritten in place. It knows nothing of other shapes, several scopes, debts, lines or denials that
//! name their limit; it gives back by clipping, and a bucket that has been full since gets too much.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};

use super::Outcome;
use super::policies::{REQUESTS, TOKENS};

/// A connection for all tasks of a process.
pub(super) struct Yardstick {
    connection: MultiplexedConnection,
    reserve: Script,
    settle: Script,
    /// Makes names of records that no other process makes.
    salt: u64,
    made: AtomicU32,
}

/// A script, by its hash.
struct Script(String);

/// An open reservation: the keys of account and record, and what is held.
pub(super) struct Held {
    keys: [Vec<u8>; 2],
    tokens: u64,
}

const RESERVE: &str = include_str!("yardstick/reserve.lua");
const SETTLE: &str = include_str!("yardstick/settle.lua");

/// The window of both buckets.
const WINDOW: u64 = 60_000_000;
/// How long a record is kept.
const TTL: Duration = Duration::from_secs(60);

impl Yardstick {
    pub(super) async fn open(url: &str) -> Outcome<Self> {
        let info = url.into_connection_info()?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let client = Client::open(info.set_tcp_settings(tcp))?;
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(Self {
            reserve: Script::load(&connection, RESERVE).await?,
            settle: Script::load(&connection, SETTLE).await?,
            connection,
            salt: std::hash::RandomState::new().hash_one(()),
            made: AtomicU32::new(0),
        })
    }

    pub(super) async fn reserve(&self, user: &str, tokens: u64) -> Outcome<Held> {
        let held = Held {
            keys: [format!("y:{{{user}}}a").into_bytes(), self.record(user)],
            tokens,
        };
        let mut numbers = Vec::with_capacity(32);
        for number in [cost(1, REQUESTS), WINDOW, cost(tokens, TOKENS), WINDOW] {
            numbers.extend(&number.to_le_bytes()[..7]);
        }
        numbers.extend((TTL.as_millis() as u32).to_le_bytes());
        let answer = self
            .reserve
            .run(&self.connection, &held.keys, &numbers)
            .await?;
        match answer.first() {
            Some(1) => Ok(held),
            _ => Err("the limits are wide enough".into()),
        }
    }

    fn record(&self, user: &str) -> Vec<u8> {
        let mut key = format!("y:{{{user}}}r").into_bytes();
        key.extend(self.salt.to_le_bytes());
        key.extend(self.made.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        key
    }

    pub(super) async fn settle(&self, held: &Held, used: u64) -> Outcome {
        let back = cost(held.tokens.saturating_sub(used), TOKENS);
        let mut numbers = Vec::with_capacity(16);
        numbers.extend(&back.to_le_bytes()[..7]);
        numbers.extend(&used.to_le_bytes()[..7]);
        let answer = self
            .settle
            .run(&self.connection, &held.keys, &numbers)
            .await?;
        match answer.first() {
            Some(2) => Ok(()),
            _ => Err("the reservation is open".into()),
        }
    }
}

impl Script {
    async fn load(connection: &MultiplexedConnection, text: &str) -> Outcome<Self> {
        let mut load = redis::cmd("SCRIPT");
        let load = load.arg("LOAD").arg(text);
        Ok(Self(load.query_async(&mut connection.clone()).await?))
    }

    async fn run(
        &self,
        connection: &MultiplexedConnection,
        keys: &[Vec<u8>; 2],
        numbers: &[u8],
    ) -> Outcome<Vec<u8>> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.0).arg(2).arg(keys).arg(numbers);
        Ok(command.query_async(&mut connection.clone()).await?)
    }
}

/// How far an amount moves the instant at which a bucket is full, in microseconds.
fn cost(amount: u64, limit: u64) -> u64 {
    (amount * WINDOW).div_ceil(limit)
}
