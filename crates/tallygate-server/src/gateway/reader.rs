//! Reading what an answer used, in the form it comes in.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tallygate_tokens::{Counter, Endpoint, Seen, StreamReader, Usage, usage_of_body};

use tokio::task::spawn_blocking;

use super::unreported;
use crate::pipeline::{Account, Served};

/// The most of an answer that is kept to be read at its end. Beyond it the answer passes unread.
const MOST_KEPT: usize = 64 * 1024 * 1024;

/// Answers above this are read off the async workers, which are to be held for no more than a millisecond.
const READ_IN_PLACE: usize = 64 * 1024;

/// How one answer is read.
pub(super) enum Reader {
    /// Events or elements, as they pass.
    Stream {
        /// Reads them.
        stream: Box<StreamReader>,
        /// How they are written.
        form: Form,
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

/// How an answer is written, as far as its end must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events.
    Events,
    /// Anything else.
    Other,
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
    /// How the answer is written.
    pub(super) fn form(&self) -> Form {
        match self {
            Self::Stream { form, .. } => *form,
            Self::Text { .. } | Self::Blind => Form::Other,
        }
    }

    /// Takes a piece of the answer and gives what of it goes on.
    pub(super) fn read(&mut self, data: Bytes) -> Bytes {
        match self {
            Self::Stream {
                stream, pass_on, ..
            } => {
                let mut left = Vec::new();
                stream.push(&data, &mut left);
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
            Self::Stream { stream, .. } => stream.seen().output_tokens_counted,
            Self::Text { .. } | Self::Blind => 0,
        }
    }

    /// The answer is over, or breaks off.
    pub(super) fn finish(self) -> Finished {
        let (rest, finding, model) = match self {
            Self::Stream {
                stream, pass_on, ..
            } => {
                let mut rest = Vec::new();
                let seen = stream.finish(&mut rest);
                let rest = pass_on.choose(Bytes::new(), rest);
                (rest, Finding::Known(of_stream(&seen)), seen.response_model)
            }
            Self::Text {
                endpoint,
                kept: Some(text),
            } => (Bytes::new(), Finding::Text(endpoint, text.freeze()), None),
            Self::Text { kept: None, .. } | Self::Blind => (Bytes::new(), Finding::Unknown, None),
        };
        Finished {
            rest,
            finding,
            model,
        }
    }
}

/// What the reader has at the end of an answer.
pub(super) struct Finished {
    /// What it had kept back, still to go on.
    pub(super) rest: Bytes,
    /// What the answer used.
    pub(super) finding: Finding,
    /// The model that says it answered.
    pub(super) model: Option<String>,
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
#[derive(Default)]
pub(super) enum Finding {
    /// Nobody can say.
    #[default]
    Unknown,
    /// It is known.
    Known(Served),
    /// It stands in this answer of the endpoint.
    Text(Endpoint, Bytes),
}

impl Finding {
    /// What an answer used that did not come to its end. Half a text tells nothing.
    pub(super) fn of_part(self) -> Served {
        match self {
            Self::Known(served) => served,
            Self::Text(..) | Self::Unknown => Served::Unknown,
        }
    }

    /// Settles `account` by it.
    pub(super) async fn settle(self, account: Account) {
        let served = match self {
            Self::Known(served) => served,
            Self::Unknown => Served::Unknown,
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
    let usage = usage_of_body(endpoint, text);
    if let Some(usage) = usage.filter(|usage| !endpoint.generates() || says_something(usage)) {
        return Served::Reported(usage);
    }
    if !endpoint.generates() {
        return Served::Counted {
            input: None,
            output: 0,
        };
    }
    match unreported::answer_text(text) {
        Some(answer) => Served::Counted {
            input: None,
            output: counter.output(model, &answer),
        },
        None => Served::Unknown,
    }
}

/// Whether a usage is more than a form left blank: no generated answer takes no tokens at all.
fn says_something(usage: &Usage) -> bool {
    usage.input_tokens > 0 || usage.output_tokens > 0
}

fn of_stream(seen: &Seen) -> Served {
    match seen.usage {
        Some(usage) if seen.complete && says_something(&usage) => Served::Reported(usage),
        _ if seen.oversized_events > 0 => Served::Unknown,
        partial => Served::Counted {
            input: partial.filter(|usage| usage.input_tokens > 0),
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
