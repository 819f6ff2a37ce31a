//! Splitting a byte stream into server-sent events.

/// Splits what it is fed into server-sent events (WHATWG HTML, "Server-sent events"): lines end
/// in LF, CRLF or CR, comments and a leading byte-order mark are ignored, several `data` lines of
/// an event are joined by LF. Chunks may be cut anywhere, inside characters too.
#[derive(Debug, Default)]
pub struct SseSplitter {
    pending: Vec<u8>,
    done: Vec<(Option<String>, Vec<u8>)>,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The last `event` field, if there was one and it was UTF-8.
    pub event: Option<&'a str>,
    /// The `data` lines joined by LF; empty if there were none.
    pub data: &'a [u8],
}

impl SseSplitter {
    /// A splitter at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds a chunk and yields the events it completes.
    pub fn push(&mut self, chunk: &[u8]) -> impl Iterator<Item = SseEvent<'_>> {
        self.pending.extend_from_slice(chunk);
        self.done.clear();
        while let Some(end) = self.pending.windows(2).position(|w| w == b"\n\n") {
            let raw: Vec<u8> = self.pending.drain(..end + 2).collect();
            let mut event = None;
            let mut data = Vec::new();
            for line in raw.split(|&byte| byte == b'\n') {
                if let Some(value) = line.strip_prefix(b"data: ") {
                    data.extend_from_slice(value);
                } else if let Some(value) = line.strip_prefix(b"event: ") {
                    event = String::from_utf8(value.to_vec()).ok();
                }
            }
            self.done.push((event, data));
        }
        self.done.iter().map(|(event, data)| SseEvent {
            event: event.as_deref(),
            data,
        })
    }
}
