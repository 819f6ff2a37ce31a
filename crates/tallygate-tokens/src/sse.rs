//! Splitting a byte stream into server-sent events.

use std::ops::Range;

/// Splits what it is fed into server-sent events (WHATWG HTML, "Server-sent events"): lines end
/// in LF, CRLF or CR, comments and a leading byte-order mark are ignored, several `data` lines of
/// an event are joined by LF. Chunks may be cut anywhere, inside characters too; the events are
/// the same however the stream is cut.
///
/// Memory is bounded: an event of more than [`MAX_EVENT`] bytes, its line ends included, is not read.
#[derive(Debug, Default)]
pub struct SseSplitter {
    /// Bytes of the events cut last, then of the event that is not complete yet.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that belong to events cut last.
    consumed: usize,
    /// The next byte of `buffer` to look at.
    scanned: usize,
    /// Where the line at `scanned` begins.
    line: usize,
    /// The line at `scanned` has bytes that are no longer in `buffer`.
    line_carried: bool,
    /// The event under way is too large and passed by unread.
    skipping: bool,
    /// The last event ended in a CR whose LF may still come.
    awaits_lf: bool,
    /// Anything but the first event of the stream.
    started: bool,
    oversized: u64,
    cuts: Vec<Cut>,
    /// The data of events that have several `data` lines.
    joined: Vec<u8>,
}

/// The largest event that is read, in bytes: the terminal event of a Responses stream holds the
/// whole answer.
pub const MAX_EVENT: usize = 4 << 20;

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The last `event` field, if there was one and it was UTF-8.
    pub event: Option<&'a str>,
    /// The `data` lines joined by LF.
    pub data: &'a [u8],
}

/// A stretch of the stream, in order and without gaps.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    raw: Range<usize>,
    kind: CutKind,
}

#[derive(Clone, Debug)]
enum CutKind {
    /// A whole event or a run of comments; `data` is `None` for the latter.
    Event {
        name: Option<Range<usize>>,
        data: Option<Data>,
    },
    /// Part of an event too large to be read.
    Unread,
    /// The LF of a CRLF whose CR ended the event before.
    LateLf,
}

#[derive(Clone, Debug)]
enum Data {
    Buffer(Range<usize>),
    Joined(Range<usize>),
}

/// A cut with its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// A whole event (or comments, without one) as it came.
    Event {
        raw: &'a [u8],
        event: Option<SseEvent<'a>>,
    },
    /// Bytes to be treated as nobody could read them.
    Unread { raw: &'a [u8] },
    /// Bytes that belong to the event before.
    Late { raw: &'a [u8] },
}

impl SseSplitter {
    /// A splitter at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds a chunk and yields the events it completes.
    pub fn push(&mut self, chunk: &[u8]) -> impl Iterator<Item = SseEvent<'_>> {
        self.pieces(chunk).filter_map(Piece::event)
    }

    /// The event that the end of the stream left without its blank line, if it has data. Browsers
    /// drop it; the SDKs of LLM providers read it.
    pub fn finish(&mut self) -> Option<SseEvent<'_>> {
        self.rest().and_then(Piece::event)
    }

    /// How many events were too large to be read.
    pub fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Feeds a chunk and yields every byte that is now decided, in order.
    pub(crate) fn pieces(&mut self, chunk: &[u8]) -> impl Iterator<Item = Piece<'_>> {
        self.forget_cuts();
        self.buffer.extend_from_slice(chunk);
        self.take_late_lf();
        while let Some(end) = self.next_boundary() {
            self.cut_event(end);
        }
        self.skip_oversized();
        self.cuts.iter().map(|cut| self.piece(cut))
    }

    /// All bytes that are left at the end of the stream.
    pub(crate) fn rest(&mut self) -> Option<Piece<'_>> {
        self.forget_cuts();
        if self.buffer.is_empty() {
            return None;
        }
        self.cut_event(self.buffer.len());
        self.cuts.first().map(|cut| self.piece(cut))
    }

    fn forget_cuts(&mut self) {
        self.buffer.drain(..self.consumed);
        self.scanned -= self.consumed;
        self.line = self.line.saturating_sub(self.consumed);
        self.consumed = 0;
        self.cuts.clear();
        self.joined.clear();
    }

    fn take_late_lf(&mut self) {
        if self.awaits_lf && self.consumed < self.buffer.len() {
            self.awaits_lf = false;
            if self.buffer[self.consumed] == b'\n' {
                self.scanned += 1;
                self.line = self.scanned;
                self.cut(self.scanned, CutKind::LateLf);
            }
        }
    }

    /// The end of the next blank line.
    fn next_boundary(&mut self) -> Option<usize> {
        loop {
            let ends = |&byte: &u8| byte == b'\n' || byte == b'\r';
            let Some(length) = self.buffer[self.scanned..].iter().position(ends) else {
                self.scanned = self.buffer.len();
                return None;
            };
            let end = self.scanned + length;
            let blank = end == self.line && !self.line_carried;
            let next = match (self.buffer[end], self.buffer.get(end + 1)) {
                (b'\r', Some(b'\n')) => end + 2,
                (b'\r', None) if blank => {
                    self.awaits_lf = true;
                    end + 1
                }
                (b'\r', None) => {
                    self.scanned = end;
                    return None;
                }
                _ => end + 1,
            };
            self.scanned = next;
            self.line = next;
            self.line_carried = false;
            if blank {
                return Some(next);
            }
        }
    }

    fn cut_event(&mut self, end: usize) {
        let too_large = !self.skipping && end - self.consumed > MAX_EVENT;
        self.oversized += u64::from(too_large);
        let kind = if self.skipping || too_large {
            CutKind::Unread
        } else {
            self.read_fields(self.consumed..end)
        };
        self.skipping = false;
        self.started = true;
        self.cut(end, kind);
    }

    fn cut(&mut self, end: usize, kind: CutKind) {
        let raw = self.consumed..end;
        self.consumed = end;
        self.cuts.push(Cut { raw, kind });
    }

    fn skip_oversized(&mut self) {
        let held = self.scanned - self.consumed;
        if !self.skipping {
            if held <= MAX_EVENT {
                return;
            }
            self.skipping = true;
            self.oversized += 1;
        }
        if held > 0 {
            self.line_carried |= self.line < self.scanned;
            self.line = self.scanned;
            self.cut(self.scanned, CutKind::Unread);
        }
    }

    fn read_fields(&mut self, raw: Range<usize>) -> CutKind {
        let mut at = raw.start;
        if !self.started && self.buffer[raw.clone()].starts_with(b"\xEF\xBB\xBF") {
            at += 3;
        }
        let mut name = None;
        let mut data = None;
        while at < raw.end {
            let ends = |&byte: &u8| byte == b'\n' || byte == b'\r';
            let length = self.buffer[at..raw.end].iter().position(ends);
            let end = length.map_or(raw.end, |length| at + length);
            let (field, value) = field(&self.buffer, at..end);
            match field {
                b"data" => data = Some(join(&mut self.joined, &self.buffer, data, value)),
                b"event" => name = Some(value),
                _ => {}
            }
            at = end + 1;
        }
        CutKind::Event { name, data }
    }

    fn piece(&self, cut: &Cut) -> Piece<'_> {
        let raw = &self.buffer[cut.raw.clone()];
        match &cut.kind {
            CutKind::Unread => Piece::Unread { raw },
            CutKind::LateLf => Piece::Late { raw },
            CutKind::Event { name, data } => {
                let event = data.as_ref().map(|data| SseEvent {
                    event: name.clone().and_then(|name| self.text(name)),
                    data: match data {
                        Data::Buffer(range) => &self.buffer[range.clone()],
                        Data::Joined(range) => &self.joined[range.clone()],
                    },
                });
                Piece::Event { raw, event }
            }
        }
    }

    fn text(&self, range: Range<usize>) -> Option<&str> {
        std::str::from_utf8(&self.buffer[range]).ok()
    }
}

impl<'a> Piece<'a> {
    fn event(self) -> Option<SseEvent<'a>> {
        match self {
            Self::Event { event, .. } => event,
            Self::Unread { .. } | Self::Late { .. } => None,
        }
    }
}

/// A line's field name, and where its value lies. A comment has an empty name.
fn field(buffer: &[u8], line: Range<usize>) -> (&[u8], Range<usize>) {
    let text = &buffer[line.clone()];
    let Some(colon) = text.iter().position(|&byte| byte == b':') else {
        return (text, line.end..line.end);
    };
    let mut value = line.start + colon + 1..line.end;
    if buffer.get(value.start) == Some(&b' ') && !value.is_empty() {
        value.start += 1;
    }
    (&text[..colon], value)
}

/// The data so far with one more line. Only the event's last data lies at the end of `joined`.
fn join(joined: &mut Vec<u8>, buffer: &[u8], data: Option<Data>, line: Range<usize>) -> Data {
    let start = match data {
        None => return Data::Buffer(line),
        Some(Data::Buffer(first)) => {
            let start = joined.len();
            joined.extend_from_slice(&buffer[first]);
            start
        }
        Some(Data::Joined(range)) => range.start,
    };
    joined.push(b'\n');
    joined.extend_from_slice(&buffer[line]);
    Data::Joined(start..joined.len())
}
