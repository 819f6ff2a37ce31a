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
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash);
        with_arguments(command, call)
    }

    fn by_text(&self, call: &Call) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.text);
        with_arguments(command, call)
    }
}

fn with_arguments(mut command: Cmd, call: &Call) -> Cmd {
    command.arg(call.keys.len());
    for word in call.keys.iter().chain(&call.args) {
        command.arg(word);
    }
    command
}
