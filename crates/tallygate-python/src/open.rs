//! How many reservations a limiter has open, without those whose lifetime is over.
//!
//! Nobody tells of a lifetime's end, and no list of reservations is kept. They are counted by when they began, in spans of a lifetime's
//! 32nd part: the count of a span that is over as a whole is taken off at once, when there is no room otherwise or somebody asks.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// The count, for reservations of one lifetime.
pub(crate) struct Open {
    /// All, those that are waited for too.
    total: AtomicUsize,
    /// Each a span, the newest of those that share its place, and how many that began in it are open.
    spans: [AtomicU64; PLACES],
    /// Nanoseconds.
    width: u64,
}

/// When a reservation began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(u32);

const PLACES: usize = 64;
const SPANS_A_LIFETIME: u64 = 32;

/// So many spans later all that began in one is over: the lifetime's own, the one it began in, and one for what division drops.
const OVER: u32 = 34;

impl Open {
    pub(crate) fn new(lifetime: Duration) -> Self {
        let lifetime = u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX);
        Self {
            total: AtomicUsize::new(0),
            spans: std::array::from_fn(|_| AtomicU64::new(0)),
            width: (lifetime / SPANS_A_LIFETIME).max(1),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts one more, and answers how many there were.
    pub(crate) fn enter(&self) -> usize {
        self.total.fetch_add(1, Ordering::Relaxed)
    }

    /// One of those that have entered began now; none if it is too old to be told from others.
    pub(crate) fn begin(&self, now: Duration) -> Option<Span> {
        let span = self.span(now);
        let began = self
            .place(span)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                match parts(word) {
                    (newest, count) if newest == span => Some(word_of(span, count + 1)),
                    (_, 0) => Some(word_of(span, 1)),
                    (newest, _) if age(newest, span) >= OVER => Some(word_of(span, 1)),
                    _ => None,
                }
            });
        let (newest, count) = parts(began.ok()?);
        if newest != span {
            self.leave(count);
        }
        Some(span)
    }

    /// Counts one less, unless its lifetime was over and it was taken off.
    pub(crate) fn exit(&self, began: Option<Span>) {
        let Some(span) = began else {
            return self.leave(1);
        };
        let left = self
            .place(span)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                match parts(word) {
                    (newest, count) if newest == span && count > 0 => {
                        Some(word_of(span, count - 1))
                    }
                    _ => None,
                }
            });
        if left.is_ok() {
            self.leave(1);
        }
    }

    /// Takes off what is over.
    pub(crate) fn forget(&self, now: Duration) {
        let now = self.span(now);
        for place in &self.spans {
            let over = place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (newest, count) = parts(word);
                (count > 0 && age(newest, now) >= OVER).then(|| word_of(newest, 0))
            });
            if let Ok(word) = over {
                self.leave(parts(word).1);
            }
        }
    }

    fn leave(&self, count: u32) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.total.fetch_sub(count, Ordering::Relaxed);
    }

    fn span(&self, at: Duration) -> Span {
        let spans = at.as_nanos() / u128::from(self.width);
        // Spans are told apart by their distance, which is far below what is cut off.
        Span(u32::try_from(spans % (1 << 32)).unwrap_or_default())
    }

    fn place(&self, span: Span) -> &AtomicU64 {
        &self.spans[usize::try_from(span.0).unwrap_or_default() % PLACES]
    }
}

/// How many spans `now` is after `then`; 0 if it is before.
fn age(then: Span, now: Span) -> u32 {
    let distance = now.0.wrapping_sub(then.0);
    if distance <= u32::MAX / 2 {
        distance
    } else {
        0
    }
}

fn parts(word: u64) -> (Span, u32) {
    let [a, b, c, d, count @ ..] = word.to_be_bytes();
    let span = u32::from_be_bytes([a, b, c, d]);
    (Span(span), u32::from_be_bytes(count))
}

fn word_of(Span(span): Span, count: u32) -> u64 {
    u64::from(span) << 32 | u64::from(count)
}
