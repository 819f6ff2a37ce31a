//! The script, by its hash and by its text.
use redis::{Cmd, Value};
use tokio::time::Instant;

use super::Call;
use super::said::Said;
use super::server::{Server, Trouble};
use super::wire::Order;

/// A Lua script. Servers know it by the SHA-1 of its text once they have run it.
pub(super) struct Script {
    text: String,
    hash: String,
}

/// How a server is asked.
#[derive(Clone, Copy)]
pub(super) enum Manner {
    Plain,
    /// For a slot that is on its way to it.
    Asking,
}

impl Manner {
    fn order(self, command: Cmd) -> Order {
        match self {
            Self::Plain => Order::Plain(command),
            Self::Asking => Order::asking(command),
        }
    }
}

impl Script {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            hash: redis::Script::new(text).get_hash().to_owned(),
        }
    }

    /// Runs it on `server`, which is given the text if it does not know the hash: it was started anew, or flushed.
    pub(super) async fn run(
        &self,
        server: &Server,
        call: &Call,
        (manner, by): (Manner, Instant),
    ) -> Result<Value, Trouble> {
        match server.ask(&manner.order(self.by_hash(call)), by).await {
            Err(Trouble::Said(Said::NoScript, _)) => {
                server.ask(&manner.order(self.by_text(call)), by).await
            }
            answer => answer,
        }
    }

    fn by_hash(&self, call: &Call) -> Cmd {
        command(["EVALSHA", &self.hash], call)
    }

    fn by_text(&self, call: &Call) -> Cmd {
        command(["EVAL", &self.text], call)
    }
}

/// A call of many operations has tens of thousands of bytes: room is made for them once.
fn command(head: [&str; 2], call: &Call) -> Cmd {
    let words = call.keys.iter().chain(&call.args);
    let bytes: usize = words.clone().map(Vec::len).sum();
    let bytes = bytes + head.iter().map(|word| word.len()).sum::<usize>() + DIGITS;
    let count = head.len() + 1 + call.keys.len() + call.args.len();
    let mut command = Cmd::with_capacity(count, bytes);
    head.iter().for_each(|word| _ = command.arg(word));
    command.arg(call.keys.len());
    words.for_each(|word| _ = command.arg(word));
    command
}

/// Those of the number of keys, at most.
const DIGITS: usize = 20;
