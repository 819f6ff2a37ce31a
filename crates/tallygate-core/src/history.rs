//! What a bucket must remember so that a late settlement counts from the moment of its reservation.
//!
//! Let `z` be all that was ever charged minus all that was ever given back, in units, and
//! `x(t) = z − t · drain`. A bucket refills until it is full and no further, so its level (the instant
//! at which it is full again) is `z − inf x`, the infimum over all instants so far: Lindley's formula for
//! a reflected process. Charging a reservation `d` more at its own moment shifts `x` by `d` from that
//! moment on, and nothing else. So it is enough to keep the infimum of `x` apart for each stretch
//! between the moments of the open reservations (an *epoch*): a settlement shifts the epochs from its own
//! on, and the level follows exactly. For a refund that is
//! `min(reserved − used, burst − highest level since)`; for an overrun it is the excess less what the
//! bucket, being full, let go by since.
//!
//! The epoch of a reservation that has ended is never shifted apart from the one before, and becomes part of it: at
//! once where there are few, else when there is no room for another.
use crate::codec::{JournalError, Reader, put, put_length, put_wide};
use crate::infima::Infima;

/// The epochs of one bucket; empty when no reservation is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    z: i128,
    /// Beside each epoch its infimum.
    epochs: Vec<Epoch>,
    infima: Infima,
    open: usize,
}

/// The stretch that begins with the charge of reservation `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch {
    seq: u64,
    is_open: bool,
}

impl History {
    /// Charges `cost` at `now` (both in units) to a bucket at `level`; answers the new level.
    /// `seq` begins an epoch: it is larger than any before.
    #[inline]
    pub(crate) fn reserve(&mut self, seq: u64, cost: i128, now: i128, level: i128) -> i128 {
        if self.open == 0 {
            self.z = level.max(now);
            self.begin(0, 0);
        }
        self.spend(cost, now);
        self.begin(seq, self.z.saturating_sub(now));
        self.open = self.open.saturating_add(1);
        self.level()
    }

    /// Charges `cost` that nobody will settle; answers the new level, or none while nothing is open.
    pub(crate) fn spend(&mut self, cost: i128, now: i128) -> Option<i128> {
        self.look(now)?;
        self.z = self.z.saturating_add(cost);
        Some(self.level())
    }

    /// Ends reservation `seq`, `change` more (or less) than it held; answers the new level.
    #[inline]
    pub(crate) fn settle(&mut self, seq: u64, change: i128, now: i128) -> Option<i128> {
        self.look(now)?;
        let at = self
            .epochs
            .binary_search_by_key(&seq, |epoch| epoch.seq)
            .ok()?;
        self.infima.shift(at, change);
        self.z = self.z.saturating_add(change);
        let level = self.level();
        self.close(at);
        Some(level)
    }

    /// The same history with every candidate level passed through `scale`: a limit's amount was changed.
    pub(crate) fn rescale(&mut self, scale: impl Fn(i128) -> i128) {
        let numbers = self.infima.numbers().into_iter();
        let scaled = numbers.map(|inf| scale(self.z.saturating_sub(inf)).saturating_neg());
        self.infima.replace(scaled.collect());
        self.z = 0;
    }

    /// How many reservations are open on it.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Writes what later settlements can tell apart.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_wide(out, self.z);
        let merged = self.merged();
        put_length(out, merged.len());
        let mut before = 0u64;
        for (seq, inf) in merged {
            put(out, seq.saturating_sub(before));
            put_wide(out, inf);
            before = seq;
        }
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, JournalError> {
        let z = from.wide()?;
        let mut epochs: Vec<Epoch> = Vec::new();
        let mut numbers = Vec::new();
        for _ in 0..from.number()? {
            let more = from.number()?;
            // The first epoch is nobody's, and each of the others of one reservation.
            let seq = match epochs.last() {
                None => Some(more).filter(|seq| *seq == 0),
                Some(last) => last.seq.checked_add(more).filter(|_| more > 0),
            };
            let seq = seq.ok_or_else(|| from.damaged("number of a later charge"))?;
            epochs.push(Epoch { seq, is_open: true });
            numbers.push(from.wide()?);
        }
        let open = epochs.len().saturating_sub(1);
        if open == 0 {
            return Err(from.damaged("open reservation"));
        }
        let mut infima = Infima::default();
        infima.replace(numbers);
        Ok(Self {
            z,
            epochs,
            infima,
            open,
        })
    }

    /// Takes the instant into the newest epoch's infimum.
    fn look(&mut self, now: i128) -> Option<()> {
        self.epochs.last()?;
        self.infima.lower_last(self.z.saturating_sub(now));
        Some(())
    }

    fn level(&self) -> i128 {
        self.z.saturating_sub(self.infima.least().unwrap_or(0))
    }

    fn begin(&mut self, seq: u64, inf: i128) {
        if self.infima.is_full() {
            self.put_together();
        }
        self.epochs.push(Epoch { seq, is_open: true });
        self.infima.push(inf);
    }

    fn close(&mut self, at: usize) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.epochs.clear();
            self.infima.clear();
        } else if self.infima.join(at) {
            self.epochs.remove(at);
        } else if let Some(epoch) = self.epochs.get_mut(at) {
            epoch.is_open = false;
        }
    }

    /// Makes each epoch of an ended reservation part of the one before.
    fn put_together(&mut self) {
        let merged = self.merged();
        self.epochs.retain(|epoch| epoch.is_open);
        self.infima
            .replace(merged.into_iter().map(|(_, inf)| inf).collect());
    }

    /// The reservations whose epochs can be told apart, each with its infimum.
    fn merged(&self) -> Vec<(u64, i128)> {
        let mut merged: Vec<(u64, i128)> = Vec::with_capacity(self.infima.len());
        for (epoch, inf) in self.epochs.iter().zip(self.infima.numbers()) {
            match merged.last_mut().filter(|_| !epoch.is_open) {
                Some((_, before)) => *before = inf.min(*before),
                None => merged.push((epoch.seq, inf)),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests;
