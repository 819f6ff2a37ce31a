//! A real server that runs the timed script.
use crate::redis::script::{self, Answers, Batch, Node, Op, TIMED};
use redis::Value;
use tallygate_core::Time;
use tallygate_sim::servers::{Engine, Server};

/// A server and a connection to it.
pub(in crate::redis) struct Bench {
    pub(super) server: Server,
    connection: redis::Connection,
    sha: String,
    cases: u64,
    /// Whether processes think that the server writes many keys at one go.
    pub(super) writes_many: bool,
}

impl Bench {
    pub(in crate::redis) fn open(engine: Engine) -> Self {
        Self::running(engine, TIMED)
    }

    /// A bench that runs another script of the same kind.
    pub(super) fn running(engine: Engine, script: &str) -> Self {
        let server = Server::start(engine, &[]).unwrap();
        let mut connection = server.connect().unwrap();
        let sha = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(script)
            .query(&mut connection)
            .unwrap();
        Self {
            server,
            connection,
            sha,
            cases: 0,
            writes_many: true,
        }
    }

    /// A process that shares keys with none that was made before.
    pub(in crate::redis) fn node(&mut self) -> Node {
        self.cases += 1;
        Node {
            name: *b"node0001",
            prefix: format!("t{}", self.cases).into(),
            sees_subscribers: true,
            writes_many: self.writes_many,
        }
    }

    /// One call of the script.
    pub(in crate::redis) fn call(&mut self, node: &Node, ops: &[&Op], now: Time) -> Answers {
        let [answers] = self.calls(node, [ops], now);
        answers
    }

    /// Some calls one after the other in one trip.
    pub(in crate::redis) fn calls<const N: usize>(
        &mut self,
        node: &Node,
        calls: [&[&Op]; N],
        now: Time,
    ) -> [Answers; N] {
        let batches = calls.map(|ops| {
            let mut batch = script::write(node, ops, now);
            script::timed(&mut batch, now);
            batch
        });
        let mut answers = self.send(&batches).into_iter();
        [(); N].map(|()| answers.next().unwrap())
    }

    /// Calls as they are written, one after the other in one trip.
    pub(super) fn send(&mut self, batches: &[Batch]) -> Vec<Answers> {
        let mut pipe = redis::pipe();
        for batch in batches {
            let command = pipe.cmd("EVALSHA").arg(&self.sha).arg(batch.keys.len());
            for part in batch.keys.iter().chain(&batch.args) {
                command.arg(part);
            }
        }
        let values: Vec<Vec<Value>> = pipe.query(&mut self.connection).unwrap();
        let answers = batches.iter().zip(values);
        answers
            .map(|(batch, values)| script::read(batch, values).unwrap())
            .collect()
    }

    /// Whether the server answers a call with an error.
    pub(super) fn refuses(&mut self, batch: &Batch) -> bool {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.sha).arg(batch.keys.len());
        for part in batch.keys.iter().chain(&batch.args) {
            command.arg(part);
        }
        command.exec(&mut self.connection).is_err()
    }

    /// Forgets all keys.
    pub(super) fn clear(&mut self) {
        let _: () = self.ask(&["FLUSHALL"]);
    }

    /// All keys of a node's store, and when each of them ends by the clock of the timed script, in microseconds.
    pub(in crate::redis) fn ends(&mut self, node: &Node) -> Vec<(String, Option<u64>)> {
        let keys: Vec<Vec<u8>> = self.ask(&["KEYS", &format!("{}:*", node.prefix)]);
        let ends = format!("ends:{}", node.prefix).into_bytes();
        let end = |key: Vec<u8>| {
            let shown = String::from_utf8_lossy(&key).into_owned();
            (shown, self.ask(&[b"HGET", &ends[..], &key]))
        };
        keys.into_iter().map(end).collect()
    }

    pub(super) fn query<T: redis::FromRedisValue>(&mut self, pipe: &redis::Pipeline) -> T {
        pipe.query(&mut self.connection).unwrap()
    }

    pub(in crate::redis) fn ask<T: redis::FromRedisValue>(
        &mut self,
        words: &[impl redis::ToRedisArgs],
    ) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.connection).unwrap()
    }
}
