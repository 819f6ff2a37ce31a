//! The server of a simulation: a real one, whose script is told the time and who listens.
use crate::redis::link::Call;
use crate::redis::script::TOLD;
use redis::Value;
use tallygate_sim::servers::{Engine as Kind, Server};

/// Copies every key to the second database.
const COPY: &str =
    "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('COPY', key, key, 'DB', 1) end";

/// A real server.
pub(in crate::redis) struct Engine {
    _server: Server,
    connection: redis::Connection,
    sha: String,
}

/// What a call came to: its answer, and what was published by it.
pub(in crate::redis) struct Ran {
    pub(in crate::redis) values: Vec<Value>,
    pub(in crate::redis) told: Vec<(String, Vec<u8>)>,
}

impl Engine {
    pub(in crate::redis) fn start() -> Self {
        let server = Server::start(Kind::Redis, &[]).unwrap();
        let mut connection = server.connect().unwrap();
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(TOLD).to_owned();
        Self {
            _server: server,
            sha: load.query(&mut connection).unwrap(),
            connection,
        }
    }

    fn ask<T: redis::FromRedisValue>(&mut self, words: &[&[u8]]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut self.connection).unwrap()
    }

    pub(in crate::redis) fn clear(&mut self) {
        let _: () = self.ask(&[b"FLUSHALL"]);
    }

    /// Runs the script at `now`, with these processes listening.
    pub(in crate::redis) fn run(&mut self, call: &Call, hearing: &str, now: u64) -> Ran {
        let mut pipe = redis::pipe();
        let command = pipe.cmd("EVALSHA").arg(&self.sha).arg(call.keys.len());
        for part in call.keys.iter().chain(&call.args) {
            command.arg(part);
        }
        command.arg(hearing).arg(now);
        pipe.cmd("LRANGE").arg("told").arg(0).arg(-1);
        pipe.cmd("DEL").arg("told").ignore();
        let (values, told): (Vec<Value>, Vec<Vec<u8>>) = pipe.query(&mut self.connection).unwrap();
        let pairs = told.chunks_exact(2);
        let told = pairs.map(|pair| {
            let channel = String::from_utf8_lossy(&pair[0]).into_owned();
            (channel, pair[1].clone())
        });
        Ran {
            values,
            told: told.collect(),
        }
    }

    /// What is kept under a key.
    pub(in crate::redis) fn get(&mut self, key: &[u8]) -> Vec<u8> {
        let found: Option<Vec<u8>> = self.ask(&[b"GET", key]);
        found.unwrap_or_default()
    }

    /// A replica falls behind from here on.
    pub(in crate::redis) fn copy(&mut self) {
        let _: () = redis::pipe()
            .cmd("SELECT")
            .arg(1)
            .cmd("FLUSHDB")
            .cmd("SELECT")
            .arg(0)
            .cmd("EVAL")
            .arg(COPY)
            .arg(0)
            .ignore()
            .exec(&mut self.connection)
            .unwrap();
    }

    /// The replica takes over.
    pub(in crate::redis) fn fail_over(&mut self) {
        let _: () = self.ask(&[b"SWAPDB", b"0", b"1"]);
    }

    /// Every key, and when it ends by the clock of the script.
    pub(in crate::redis) fn keys(&mut self) -> Vec<(Vec<u8>, Option<u64>)> {
        let keys: Vec<Vec<u8>> = self.ask(&[b"KEYS", b"tg:*"]);
        let end = |key: Vec<u8>| {
            let end: Option<u64> = self.ask(&[b"HGET", b"ends:tg", &key]);
            (key, end)
        };
        keys.into_iter().map(end).collect()
    }
}
