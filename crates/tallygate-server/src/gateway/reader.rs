//! Reading what an answer used, in the form it comes in.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tallygate_tokens::{Counter, Endpoint, Seen, StreamReader, usage_of_body};

use tokio::task::spawn_blocking;

use super::unreported;
use crate::pipeline::{Account, Served};

/// The most of an answer that is kept to be read at its end. Beyond it the answer passes unread.
const MOST_KEPT: usize = 64 * 1024 * 1024;

/// Answers above this are read off the async workers, which are to be held for no more than a millisecond.
const READ_IN_PLACE: usize = 64 * 1024;

/// How one answer is read.
pub(super) enum Reader {
    /// Events, as they pass.
    Events {
        /// Reads them.
        events: Box<StreamReader>,
        /// Which bytes go on.
        pass_on: PassOn,
    },
    /// One JSON text, at its end.
    Text {
        /// What was called.
        endpoint: Endpoint,
        /// What came so far; `None` once it was too much.
        kept: Option<BytesMut>,
    },
    /// Not at all.
    Blind,
}

/// Which bytes of a stream go on to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassOn {
    /// Those that came.
    Original,
    /// Those without the usage chunk that only the gateway asked for.
    WithoutUsage,
}

impl Reader {
    /// Whether the answer is a stream of events.
    pub(super) fn reads_events(&self) -> bool {
        matches!(self, Self::Events { .. })
    }

    /// Takes a piece of the answer and gives what of it goes on.
    pub(super) fn read(&mut self, data: Bytes) -> Bytes {
        match self {
            Self::Events { events, pass_on } => {
                let mut left = Vec::new();
                events.push(&data, &mut left);
                pass_on.choose(data, left)
            }
            Self::Text { kept, .. } => {
                keep(kept, &data);
                data
            }
            Self::Blind => data,
        }
    }

    /// Our own count of the output that passed so far.
    pub(super) fn passed(&self) -> u64 {
        match self {
            Self::Events { events, .. } => events.seen().output_tokens_counted,
            Self::Text { .. } | Self::Blind => 0,
        }
    }

    /// The answer is over: what is left to go on, and what it used.
    pub(super) fn finish(self) -> (Bytes, Finding) {
        match self {
            Self::Events { events, pass_on } => {
                let mut rest = Vec::new();
                let served = of_events(&events.finish(&mut rest));
                (pass_on.choose(Bytes::new(), rest), Finding::Known(served))
            }
            Self::Text {
                endpoint,
                kept: Some(text),
            } => (Bytes::new(), Finding::Text(endpoint, text.freeze())),
            Self::Text { kept: None, .. } | Self::Blind => {
                (Bytes::new(), Finding::Known(Served::Unknown))
            }
        }
    }

    /// What the answer used so far, as far as can be told before its end.
    pub(super) fn so_far(&self) -> Served {
        match self {
            Self::Events { events, .. } => of_events(events.seen()),
            Self::Text { .. } | Self::Blind => Served::Unknown,
        }
    }
}

impl PassOn {
    fn choose(self, original: Bytes, left: Vec<u8>) -> Bytes {
        match self {
            Self::Original => original,
            Self::WithoutUsage => left.into(),
        }
    }
}

/// What an answer used, or the text that tells.
pub(super) enum Finding {
    /// It is known.
    Known(Served),
    /// It stands in this answer of the endpoint.
    Text(Endpoint, Bytes),
}

impl Finding {
    /// Settles `account` by it.
    pub(super) async fn settle(self, account: Account) {
        let served = match self {
            Self::Known(served) => served,
            Self::Text(endpoint, text) if text.len() <= READ_IN_PLACE => {
                of_text(endpoint, &text, account.counter(), account.model())
            }
            Self::Text(endpoint, text) => {
                let (counter, model) = (Arc::clone(account.counter()), Arc::clone(account.model()));
                let reading = spawn_blocking(move || of_text(endpoint, &text, &counter, &model));
                reading.await.unwrap_or(Served::Unknown)
            }
        };
        account.settle(served).await;
    }
}

/// What a whole JSON answer used: by its own word, else by our count of what it says.
fn of_text(endpoint: Endpoint, text: &[u8], counter: &Counter, model: &str) -> Served {
    if let Some(usage) = usage_of_body(endpoint, text) {
        return Served::Reported(usage);
    }
    match unreported::answer_text(text) {
        Some(answer) => Served::Counted {
            input: None,
            output: counter.output(model, &answer),
        },
        None => Served::Unknown,
    }
}

fn of_events(seen: &Seen) -> Served {
    match seen.usage {
        Some(usage) if seen.complete => Served::Reported(usage),
        _ if seen.oversized_events > 0 => Served::Unknown,
        partial => Served::Counted {
            input: partial
                .map(|usage| usage.input_tokens)
                .filter(|input| *input > 0),
            output: partial
                .map_or(0, |usage| usage.output_tokens)
                .max(seen.output_tokens_counted),
        },
    }
}

fn keep(kept: &mut Option<BytesMut>, data: &[u8]) {
    match kept {
        Some(text) if text.len() + data.len() <= MOST_KEPT => text.extend_from_slice(data),
        _ => *kept = None,
    }
}
