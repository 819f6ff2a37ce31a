//! Messages of the servers, over a connection of their own.
mod outbox;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSub, PubSubSink};
use redis::{Msg, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use self::outbox::Outbox;
use super::Servers;
use super::backoff::Backoff;
use super::dialer::Dialer;
use crate::redis::options::Node;

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A message.
    Message {
        /// Where it was sent to.
        channel: String,
        payload: Vec<u8>,
    },
    /// Messages were lost, or are being lost: the server is out of reach, or the subscriber is too slow.
    Interrupted,
    /// From here on messages arrive. The first notice of all.
    Resumed,
}

/// A subscription to some channels.
pub(super) struct News {
    pub(super) channels: Vec<String>,
    pub(super) servers: Servers,
    pub(super) dialer: Arc<Dialer>,
    /// The longest an answer may take.
    pub(super) patience: Duration,
}

impl News {
    /// Listens until nobody receives, or the sender of `gone` is dropped: the link is no more.
    pub(super) async fn listen(self, to: mpsc::Sender<Notice>, mut gone: watch::Receiver<()>) {
        let receiver = to.clone();
        tokio::select! {
            () = receiver.closed() => {}
            _ = gone.changed() => {}
            () = self.keep_listening(Outbox::new(to)) => {}
        }
    }

    async fn keep_listening(self, mut outbox: Outbox) {
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        for turn in 0.. {
            if let Ok((node, radio)) = self.tune_in(turn).await {
                backoff = Backoff::up_to(LONGEST_PAUSE);
                self.hear(&node, radio, &mut outbox).await;
                // Who is gone for messages may be gone for calls: nobody need call to find out.
                let (servers, patience) = (self.servers.clone(), self.patience);
                tokio::spawn(async move { servers.ping(&servers.all(), patience).await });
                outbox.interrupt().await;
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Subscribes at a server: the primary, or one node of a Cluster after the other, as each hears all messages.
    async fn tune_in(&self, turn: usize) -> Result<(Node, PubSub), String> {
        let node = match &self.servers {
            Servers::One(server) => server.node(turn).await?,
            Servers::Cluster(cluster) => cluster.any_node().ok_or("there is no node")?,
        };
        let radio = self.dialer.pubsub(&node).await;
        let mut radio = radio.map_err(|error| error.to_string())?;
        match timeout(self.patience, radio.subscribe(&self.channels)).await {
            Ok(subscribed) => subscribed.map_err(|error| error.to_string())?,
            Err(_) => return Err(format!("no answer within {:?}", self.patience)),
        }
        Ok((node, radio))
    }

    /// Passes messages on until the connection fails or another server is the primary.
    async fn hear(&self, node: &Node, radio: PubSub, outbox: &mut Outbox) {
        let (sink, mut messages) = radio.split();
        let mut broken = std::pin::pin!(self.silence(sink));
        let mut moved = std::pin::pin!(self.moved_from(node));
        outbox.post(Notice::Resumed);
        loop {
            tokio::select! {
                message = messages.next() => match message {
                    Some(message) => outbox.post(notice(&message)),
                    None => return,
                },
                () = outbox.catch_up() => {}
                () = &mut broken => return,
                () = &mut moved => return,
            }
        }
    }

    /// Ends when the server no longer answers: a connection whose other end is gone looks like one without news.
    async fn silence(&self, mut sink: PubSubSink) {
        loop {
            sleep(PING_EVERY).await;
            let answer = timeout(self.patience, sink.ping::<Value>()).await;
            if !matches!(answer, Ok(Ok(_))) {
                return;
            }
        }
    }

    async fn moved_from(&self, node: &Node) {
        match &self.servers {
            Servers::One(server) => server.moved_from(node).await,
            Servers::Cluster(_) => std::future::pending().await,
        }
    }
}

fn notice(message: &Msg) -> Notice {
    Notice::Message {
        channel: message.get_channel_name().to_owned(),
        payload: message.get_payload_bytes().to_vec(),
    }
}

/// How many notices wait for a subscriber before it is too slow.
pub(super) const WAITING: usize = 1024;

/// Silence is looked into as often.
const PING_EVERY: Duration = Duration::from_secs(1);

/// Who waits for messages looks by itself from time to time: it need not wait much longer than that.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
