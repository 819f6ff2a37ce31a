//! What is due when.
use crate::account::Key;
use crate::time::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that happens at an instant unless it was overtaken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// The deadline of the hold at this place with this number.
    Deadline(usize, u64),
    /// The turn of the first in this counter's line.
    Turn(Key, usize),
    /// The end of a caller's patience: order and place.
    Patience(u64, u32),
}

/// All events to come. An event that was overtaken stays until it is due or until half of all have been.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, Event)>>,
}

impl Timers {
    pub(crate) fn push(&mut self, at: Time, event: Event) {
        self.heap.push(Reverse((at, event)));
    }

    #[inline]
    pub(crate) fn due(&self, now: Time) -> bool {
        self.heap.peek().is_some_and(|Reverse((at, _))| *at <= now)
    }

    pub(crate) fn first(&self) -> Option<(Time, Event)> {
        self.heap.peek().map(|Reverse(first)| *first)
    }

    pub(crate) fn pop(&mut self) {
        self.heap.pop();
    }

    /// Whether so many events were overtaken that they are worth dropping, with `live` still to come.
    pub(crate) fn is_stale(&self, live: usize) -> bool {
        self.heap.len() > live.saturating_mul(2).saturating_add(SPARE)
    }

    pub(crate) fn retain(&mut self, live: impl Fn(Time, Event) -> bool) {
        self.heap.retain(|Reverse((at, event))| live(*at, *event));
    }
}

/// How many overtaken events are never worth dropping.
const SPARE: usize = 1024;
