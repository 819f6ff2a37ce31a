//! Sending events to whoever asked for them: signed, retried, and never in the way of calls.
//!
//! Each hook has a queue of its own and sends one event at a time, in order. A receiver that cannot be reached is tried again
//! with growing pauses; then the event is given up. What does not fit into the queue is dropped. Both are counted and logged.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::Event;
use crate::config::Webhook;
use crate::gateway::connector;

/// Events that wait for one hook.
const QUEUE: usize = 1_000;

/// How often an event is tried, and the pauses between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The longest that one try may take.
    pub(crate) timeout: Duration,
    /// The pause after the first try; each further one is four times as long.
    pub(crate) first_pause: Duration,
    /// Tries in all.
    pub(crate) tries: u32,
}

impl Default for Pace {
    /// 6 tries over about half an hour.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            first_pause: Duration::from_secs(5),
            tries: 6,
        }
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The receiver answered 2xx.
    Delivered,
    /// A try failed and there will be another.
    Retried,
    /// The last try failed.
    GivenUp,
    /// Too many were waiting.
    Dropped,
}

impl Told {
    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retried => "retried",
            Self::GivenUp => "given_up",
            Self::Dropped => "dropped",
        }
    }
}

/// What is told of deliveries.
pub(crate) trait HookLog: Send + Sync + 'static {
    /// An event for the hook at `host` came to this; `why` says what was seen, if it went wrong.
    fn told(&self, host: &str, told: Told, why: &str);
}

/// All hooks of a configuration.
pub(crate) struct Hooks {
    pub(crate) log: Arc<dyn HookLog>,
    pub(crate) pace: Pace,
}

type Sender = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

impl Hooks {
    /// Sends `events` to the `hooks` in force until dropped. A hook that is configured as before keeps its queue.
    pub(crate) async fn run(
        self,
        mut events: broadcast::Receiver<Arc<Event>>,
        mut hooks: watch::Receiver<Vec<Arc<Webhook>>>,
    ) {
        let mut lines: Vec<Line> = Vec::new();
        let mut tasks = JoinSet::new();
        let first = hooks.borrow_and_update().clone();
        self.follow(&first, &mut lines, &mut tasks);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.hand_out(&lines, &event),
                    Err(RecvError::Lagged(missed)) => self.missed(&lines, missed),
                    Err(RecvError::Closed) => break,
                },
                changed = hooks.changed() => match changed {
                    Ok(()) => {
                        let next = hooks.borrow_and_update().clone();
                        self.follow(&next, &mut lines, &mut tasks);
                    }
                    Err(_) => break,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Keeps the lines of hooks that stay, ends those that have gone and begins those that are new.
    fn follow(&self, next: &[Arc<Webhook>], lines: &mut Vec<Line>, tasks: &mut JoinSet<()>) {
        lines.retain(|line| {
            let stays = next.contains(&line.hook);
            if !stays {
                self.taken_out(line);
            }
            stays
        });
        for hook in next {
            if lines.iter().any(|line| line.hook == *hook) {
                continue;
            }
            let (queue, waiting) = mpsc::channel(QUEUE);
            let courier = Courier {
                hook: Arc::clone(hook),
                client: Client::builder(TokioExecutor::new()).build(connector()),
                log: Arc::clone(&self.log),
                pace: self.pace,
            };
            let courier = tasks.spawn(courier.run(waiting));
            lines.push(Line {
                hook: Arc::clone(hook),
                queue,
                courier,
            });
        }
    }

    /// What waits for a hook that has gone is not sent any more.
    fn taken_out(&self, line: &Line) {
        line.courier.abort();
        for _ in line.queue.capacity()..line.queue.max_capacity() {
            let why = "its webhook was taken out of the configuration";
            self.log.told(line.hook.host(), Told::Dropped, why);
        }
    }

    fn hand_out(&self, lines: &[Line], event: &Arc<Event>) {
        for line in lines.iter().filter(|line| line.hook.wants(event.kind)) {
            if line.queue.try_send(Arc::clone(event)).is_err() {
                self.log.told(
                    line.hook.host(),
                    Told::Dropped,
                    "too many events wait for it",
                );
            }
        }
    }

    fn missed(&self, lines: &[Line], missed: u64) {
        for line in lines {
            for _ in 0..missed {
                self.log
                    .told(line.hook.host(), Told::Dropped, "events came too fast");
            }
        }
    }
}

/// A hook and the events that wait for it.
struct Line {
    hook: Arc<Webhook>,
    queue: mpsc::Sender<Arc<Event>>,
    courier: AbortHandle,
}

/// Who sends the events of one hook.
struct Courier {
    hook: Arc<Webhook>,
    client: Sender,
    log: Arc<dyn HookLog>,
    pace: Pace,
}

impl Courier {
    async fn run(self, mut waiting: mpsc::Receiver<Arc<Event>>) {
        while let Some(event) = waiting.recv().await {
            self.deliver(&event).await;
        }
    }

    async fn deliver(&self, event: &Event) {
        let body = Bytes::from(serde_json::to_vec(event).unwrap_or_default());
        let mut pause = self.pace.first_pause;
        for left in (0..self.pace.tries).rev() {
            let why = match self.send(event, body.clone()).await {
                Ok(()) => return self.log.told(self.hook.host(), Told::Delivered, ""),
                Err(why) => why,
            };
            if left == 0 {
                return self.log.told(self.hook.host(), Told::GivenUp, &why);
            }
            self.log.told(self.hook.host(), Told::Retried, &why);
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
    }

    /// One try. A redirect is not followed: the signature is for this receiver.
    async fn send(&self, event: &Event, body: Bytes) -> Result<(), String> {
        let request = self.request(event, body)?;
        let answer = tokio::time::timeout(self.pace.timeout, self.client.request(request)).await;
        match answer {
            Err(_) => Err(format!("no answer within {:?}", self.pace.timeout)),
            Ok(Err(error)) => Err(reason(&error)),
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(status(answer.status())),
        }
    }

    fn request(&self, event: &Event, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = now.map_or(0, |since| since.as_secs().cast_signed());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.hook.url())
            .header("content-type", "application/json")
            .header(
                "user-agent",
                concat!("tallygate/", env!("CARGO_PKG_VERSION")),
            )
            .header("webhook-id", &event.id)
            .header("webhook-timestamp", timestamp);
        if let Some(key) = self.hook.secret() {
            let signature = key.sign(&event.id, timestamp, &body);
            request = request.header("webhook-signature", signature);
        }
        request
            .body(Full::new(body))
            .map_err(|error| error.to_string())
    }
}

fn status(status: StatusCode) -> String {
    format!("it answered {}", status.as_u16())
}

/// The innermost cause: the outer ones say only that a request failed.
fn reason(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
