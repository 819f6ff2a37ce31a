//! The state of a sliding limit: what was taken, in cells of a 32nd of the window.
//!
//! A cell opens at its first charge and takes what comes within a 32nd of the window; its whole sum
//! counts until the window has passed since its *last* charge. So nothing is forgotten early (never more than
//! the amount in any span), a burst comes back exactly one window later, and a trickle at most a 32nd of
//! the window late.
use crate::codec::{JournalError, Reader, put, put_length, put_time};
use crate::time::{Span, Time};
use std::collections::VecDeque;

/// How many cells make a window.
pub(crate) const CELLS: u64 = 32;

/// The cells that count, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ring(VecDeque<Cell>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    start: Time,
    last: Time,
    sum: u64,
}

impl Ring {
    /// How long a cell takes charges.
    pub(crate) fn width(every: Span) -> Span {
        Span::from_nanos(every.as_nanos().checked_div(CELLS).unwrap_or(1).max(1))
    }

    /// A ring of cells (beginning and last charge in microseconds, sum) and of `more` that counts from `now`.
    pub(crate) fn of(cells: &[[u64; 3]], more: u64, now: Time) -> Self {
        let at = |micros: u64| Time::from_nanos(micros.saturating_mul(1000));
        let cell = |[start, last, sum]: &[u64; 3]| Cell {
            start: at(*start),
            last: at(*last),
            sum: *sum,
        };
        let more = (more > 0).then_some(Cell {
            start: now,
            last: now,
            sum: more,
        });
        Self(cells.iter().map(cell).chain(more).collect())
    }

    /// Writes the cells; times are likely near `now`.
    pub(crate) fn write(&self, now: Time, out: &mut Vec<u8>) {
        put_length(out, self.0.len());
        for cell in &self.0 {
            put_time(out, cell.start, now);
            put_time(out, cell.last, cell.start);
            put(out, cell.sum);
        }
    }

    pub(crate) fn read(now: Time, from: &mut Reader<'_>) -> Result<Self, JournalError> {
        let mut cells = VecDeque::new();
        for _ in 0..from.number()? {
            let start = from.time(now)?;
            cells.push_back(Cell {
                start,
                last: from.time(start)?,
                sum: from.number()?,
            });
        }
        Ok(Self(cells))
    }

    /// What counts at `now`.
    pub(crate) fn used(&self, every: Span, now: Time) -> u64 {
        let live = self.0.iter().filter(|cell| cell.last.plus(every) > now);
        live.fold(0, |sum, cell| sum.saturating_add(cell.sum))
    }

    /// The earliest instant, not before `now`, at which at most `keep` counts.
    pub(crate) fn falls_to(&self, keep: u64, every: Span, now: Time) -> Time {
        let mut used = self.used(every, now);
        let mut at = now;
        for cell in self.0.iter().filter(|cell| cell.last.plus(every) > now) {
            if used <= keep {
                break;
            }
            used = used.saturating_sub(cell.sum);
            at = cell.last.plus(every);
        }
        at
    }

    /// When nothing counts any more.
    pub(crate) fn empty_at(&self, every: Span) -> Time {
        let last = self.0.iter().rev().find(|cell| cell.sum > 0);
        last.map_or(Time::ZERO, |cell| cell.last.plus(every))
    }

    /// Takes `amount` at `now`.
    pub(crate) fn charge(&mut self, amount: u64, every: Span, now: Time) {
        while self
            .0
            .front()
            .is_some_and(|cell| cell.last.plus(every) <= now)
        {
            self.0.pop_front();
        }
        let width = Self::width(every);
        match self.0.back_mut() {
            Some(cell) if now < cell.start.plus(width) => {
                cell.last = now;
                cell.sum = cell.sum.saturating_add(amount);
            }
            _ => self.0.push_back(Cell {
                start: now,
                last: now,
                sum: amount,
            }),
        }
    }

    /// Replaces `old`, taken at `then`, by `new`; nothing if that has left the window.
    pub(crate) fn adjust(&mut self, then: Time, old: u64, new: u64) {
        let mut cells = self.0.iter_mut();
        if let Some(cell) = cells.find(|cell| cell.start <= then && then <= cell.last) {
            cell.sum = cell.sum.saturating_add(new).saturating_sub(old);
        }
    }
}

#[cfg(test)]
mod tests;
