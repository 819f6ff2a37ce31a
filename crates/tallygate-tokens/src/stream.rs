//! Reading a streamed answer as it passes.

mod anthropic;
mod array;
mod gemini;
mod openai;
mod reading;
mod running;

use array::ArraySplitter;
use reading::{Fate, Reading};

use crate::dialect::Endpoint;
use crate::sse::{MAX_EVENT, Piece, SseEvent, SseSplitter};
use crate::usage::Usage;

/// What to do to a stream besides reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Remove the chunk that only tells usage: it was asked for by us and not by the caller
    /// ([`Call::with_usage_requested`](crate::Call::with_usage_requested)).
    pub drop_usage_chunk: bool,
}

/// What a stream has told so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The usage, as last told. Some dialects tell it as they go: of a stream that broke off,
    /// [`StreamReader::finish`] raises the output told so far to what was counted.
    pub usage: Option<Usage>,
    /// Whether the dialect's terminal event has come.
    pub complete: bool,
    /// The *type* of an error event, never its text.
    pub error: Option<String>,
    /// Our own count of text, reasoning and tool-call deltas. While the stream runs, the last
    /// kilobyte or so is estimated.
    pub output_tokens_counted: u64,
    /// Events over [`MAX_EVENT`] bytes; they were passed on unread.
    pub oversized_events: u64,
    /// The model that says it answered.
    pub response_model: Option<String>,
}

/// Reads a streamed answer as it passes, in bounded memory.
///
/// Server-sent events are read in all dialects, Gemini's JSON arrays too; an answer that turns
/// out to be one JSON object (a provider that does not stream, an error) is read at its end.
#[derive(Debug)]
pub struct StreamReader {
    endpoint: Endpoint,
    options: StreamOptions,
    format: Format,
    reading: Reading,
    /// Whether the last event was dropped.
    dropped: bool,
}

/// How the stream is written: found out from its first byte that is no blank.
#[derive(Debug)]
enum Format {
    Unknown,
    Events(SseSplitter),
    Array(ArraySplitter),
    /// One object, kept up to [`MAX_EVENT`] bytes.
    Object(Vec<u8>),
}

impl StreamReader {
    /// A reader at the start of an answer from `endpoint`.
    pub fn new(endpoint: Endpoint, options: StreamOptions) -> Self {
        Self {
            endpoint,
            options,
            format: Format::Unknown,
            reading: Reading::default(),
            dropped: false,
        }
    }

    /// Counts the answer's text as that of `model`. Otherwise it is counted as that of the model
    /// the stream names.
    #[must_use]
    pub fn counting_as(mut self, model: &str) -> Self {
        self.reading.count_as(model);
        self
    }

    /// Feeds a chunk and appends to `out` the bytes to send on: the same ones, except for a usage
    /// chunk to be dropped. A complete event is never held back; only where a chunk is to be
    /// dropped are incomplete events held.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if let Format::Unknown = self.format {
            self.format = detect(chunk);
        }
        match &mut self.format {
            Format::Unknown => out.extend_from_slice(chunk),
            Format::Events(_) => self.push_events(chunk, out),
            Format::Array(splitter) => {
                out.extend_from_slice(chunk);
                splitter.push(chunk, |data| {
                    self.reading
                        .read(self.endpoint, SseEvent { event: None, data });
                });
                self.reading.seen.complete |= splitter.closed();
                self.reading.seen.oversized_events = splitter.oversized();
            }
            Format::Object(held) => {
                out.extend_from_slice(chunk);
                if held.len() <= MAX_EVENT {
                    held.extend_from_slice(chunk);
                }
            }
        }
        self.reading.update_count();
    }

    /// The end of the stream, however it came: appends what was held back and tells all that was
    /// seen.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Seen {
        match &mut self.format {
            Format::Events(splitter) => {
                if let Some(piece) = splitter.rest() {
                    let mut pass = Pass {
                        endpoint: self.endpoint,
                        reading: &mut self.reading,
                        dropped: &mut self.dropped,
                    };
                    let raw = pass.on(piece);
                    if self.options.drop_usage_chunk {
                        out.extend_from_slice(raw);
                    }
                }
            }
            Format::Object(body) => self.reading.read_object(self.endpoint, body),
            Format::Unknown | Format::Array(_) => {}
        }
        self.reading.finish()
    }

    /// What was seen so far.
    pub fn seen(&self) -> &Seen {
        &self.reading.seen
    }
}

impl StreamReader {
    fn push_events(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let Format::Events(splitter) = &mut self.format else {
            return;
        };
        let holds = self.options.drop_usage_chunk;
        if !holds {
            out.extend_from_slice(chunk);
        }
        let mut pass = Pass {
            endpoint: self.endpoint,
            reading: &mut self.reading,
            dropped: &mut self.dropped,
        };
        for piece in splitter.pieces(chunk) {
            let raw = pass.on(piece);
            if holds {
                out.extend_from_slice(raw);
            }
        }
        self.reading.seen.oversized_events = splitter.oversized();
    }
}

/// Reads the pieces of an event stream and says which bytes of them stay.
struct Pass<'a> {
    endpoint: Endpoint,
    reading: &'a mut Reading,
    dropped: &'a mut bool,
}

impl Pass<'_> {
    /// Reads a piece; returns its bytes, or none of a chunk that only tells usage.
    fn on<'p>(&mut self, piece: Piece<'p>) -> &'p [u8] {
        let raw = match piece {
            Piece::Event { raw, event } => {
                let fate = event.map(|event| self.reading.read(self.endpoint, event));
                *self.dropped = fate == Some(Fate::UsageOnly);
                raw
            }
            Piece::Unread { raw } => {
                *self.dropped = false;
                raw
            }
            Piece::Late { raw } => raw,
        };
        if *self.dropped { &[] } else { raw }
    }
}

fn detect(chunk: &[u8]) -> Format {
    match chunk.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Format::Unknown,
        Some(b'{') => Format::Object(Vec::new()),
        Some(b'[') => Format::Array(ArraySplitter::default()),
        Some(_) => Format::Events(SseSplitter::new()),
    }
}
