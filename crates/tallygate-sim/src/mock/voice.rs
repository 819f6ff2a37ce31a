//! How an answer sounds in each dialect.

mod anthropic;
mod chat;
mod completions;
mod embeddings;
mod gemini;
mod responses;

use std::sync::Arc;

use tallygate_tokens::Endpoint;

use super::plan::Plan;

pub(crate) use embeddings::{Vectors, embeddings};

/// A piece of a streamed text.
pub(crate) struct Piece<'a> {
    /// The choice it belongs to.
    pub(crate) choice: usize,
    /// The text; it needs no escaping.
    pub(crate) text: &'a str,
    /// How many pieces came before it.
    pub(crate) number: u64,
    /// Output tokens produced so far, this piece included.
    pub(crate) produced: u64,
}

/// The events of a streamed answer. Each call appends whole events.
pub(crate) trait Voice: Send {
    /// What comes before the first text.
    fn head(&self, out: &mut String);
    /// One piece of text.
    fn delta(&self, piece: &Piece<'_>, out: &mut String);
    /// What comes between the last text and the last event; `deltas` pieces were sent.
    fn tail(&self, deltas: u64, out: &mut String);
    /// The last event, by which a caller knows that the answer is whole.
    fn terminal(&self, deltas: u64, out: &mut String);
    /// An event that says nothing in at least `bytes` bytes.
    fn padding(&self, bytes: usize, out: &mut String);
    /// The error event, as the provider sends it when it is overloaded.
    fn error(&self, out: &mut String);
}

/// How a stream is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Sse,
    /// Gemini without `alt=sse`: the members of one JSON array.
    JsonArray,
}

/// The streamed answer.
pub(crate) fn voice(plan: &Arc<Plan>, framing: Framing) -> Box<dyn Voice> {
    let plan = Arc::clone(plan);
    match plan.endpoint {
        Endpoint::Responses => Box::new(responses::Responses::new(plan)),
        Endpoint::Completions => Box::new(completions::Completions::new(plan)),
        Endpoint::Messages => Box::new(anthropic::Messages::new(plan)),
        Endpoint::StreamGenerateContent => Box::new(gemini::Contents::new(plan, framing)),
        _ => Box::new(chat::Chat::new(plan)),
    }
}

/// The whole answer as one JSON object.
pub(crate) fn whole(plan: &Plan) -> String {
    let mut out = String::with_capacity(1_024);
    match plan.endpoint {
        Endpoint::Responses => responses::whole(plan, &mut out),
        Endpoint::Completions => completions::whole(plan, &mut out),
        Endpoint::Messages => anthropic::whole(plan, &mut out),
        Endpoint::CountTokens => anthropic::count(plan, &mut out),
        Endpoint::GenerateContent => gemini::whole(plan, &mut out),
        _ => chat::whole(plan, &mut out),
    }
    out
}

/// Appends formatted text; writing to a `String` cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        let _ = std::fmt::Write::write_fmt($out, format_args!($($arg)*));
    }};
}
pub(crate) use put;

/// Appends `bytes` letters.
pub(crate) fn pad(bytes: usize, out: &mut String) {
    out.extend(std::iter::repeat_n('x', bytes));
}
