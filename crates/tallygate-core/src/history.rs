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
//! At most [`EPOCHS`] are kept. Past that the two neighbours with the closest infima become one, with
//! the lower of the two; a refund inside it counts from its start, an overrun from its end. The level is a
//! monotone, 1-Lipschitz function of the infima, so the counter then stands at most the gap that was
//! closed below the exact account ([`History::slack`] adds the gaps up), and never above it.
use crate::num;

/// How many epochs are kept apart.
pub(crate) const EPOCHS: usize = 16;

/// The epochs of one bucket; empty when no reservation is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    z: i128,
    epochs: Vec<Epoch>,
    open: u32,
    slack: i128,
}

/// The stretch that begins with the charge of reservation `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch {
    seq: u64,
    inf: i128,
}

impl History {
    /// Charges `cost` at `now` (both in units) to a bucket at `level`; answers the new level.
    /// `seq` begins an epoch: it is larger than any before.
    pub(crate) fn reserve(&mut self, seq: u64, cost: i128, now: i128, level: i128) -> i128 {
        if self.epochs.is_empty() {
            self.z = level.max(now);
            self.epochs.push(Epoch { seq: 0, inf: 0 });
        }
        self.spend(cost, now);
        let inf = self.z.saturating_sub(now);
        self.epochs.push(Epoch { seq, inf });
        self.open = self.open.saturating_add(1);
        self.compact();
        self.level()
    }

    /// Charges `cost` that nobody will settle; answers the new level, or none while nothing is open.
    pub(crate) fn spend(&mut self, cost: i128, now: i128) -> Option<i128> {
        self.look(now)?;
        self.z = self.z.saturating_add(cost);
        Some(self.level())
    }

    /// Ends reservation `seq`, `change` more (or less) than it held; answers the new level.
    pub(crate) fn settle(&mut self, seq: u64, change: i128, now: i128) -> Option<i128> {
        self.look(now)?;
        let first = match change > 0 {
            true => self.epochs.partition_point(|epoch| epoch.seq < seq),
            false => self
                .epochs
                .partition_point(|epoch| epoch.seq <= seq)
                .saturating_sub(1),
        };
        for epoch in self.epochs.iter_mut().skip(first) {
            epoch.inf = epoch.inf.saturating_add(change);
        }
        self.z = self.z.saturating_add(change);
        let level = self.level();
        self.close(seq);
        Some(level)
    }

    /// How far below the exact account the level may stand, in units.
    #[cfg(test)]
    pub(crate) fn slack(&self) -> i128 {
        self.slack
    }

    /// The same history with every candidate level passed through `scale`: a limit's amount was changed.
    pub(crate) fn rescale(&mut self, scale: impl Fn(i128) -> i128) {
        for epoch in &mut self.epochs {
            epoch.inf = scale(self.z.saturating_sub(epoch.inf)).saturating_neg();
        }
        self.z = 0;
    }

    /// Takes the instant into the newest epoch's infimum.
    fn look(&mut self, now: i128) -> Option<()> {
        let x = self.z.saturating_sub(now);
        let last = self.epochs.last_mut()?;
        last.inf = last.inf.min(x);
        Some(())
    }

    fn level(&self) -> i128 {
        let inf = self.epochs.iter().map(|epoch| epoch.inf).min();
        self.z.saturating_sub(inf.unwrap_or(0))
    }

    fn close(&mut self, seq: u64) {
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.epochs.clear();
            self.slack = 0;
        } else if let Ok(at) = self.epochs.binary_search_by_key(&seq, |epoch| epoch.seq) {
            self.merge(at);
        }
    }

    fn compact(&mut self) {
        if self.epochs.len() <= EPOCHS {
            return;
        }
        let gap = |pair: &[Epoch]| match pair {
            [a, b] => num::positive(a.inf.saturating_sub(b.inf).saturating_abs()),
            _ => u128::MAX,
        };
        let closest = self
            .epochs
            .windows(2)
            .enumerate()
            .min_by_key(|(_, pair)| gap(pair));
        if let Some((at, pair)) = closest {
            self.slack = self.slack.saturating_add(num::signed(gap(pair)));
            self.merge(at.saturating_add(1));
        }
    }

    /// Makes epoch `at` part of the one before.
    fn merge(&mut self, at: usize) {
        let gone = self.epochs.remove(at);
        if let Some(before) = at.checked_sub(1).and_then(|at| self.epochs.get_mut(at)) {
            before.inf = before.inf.min(gone.inf);
        }
    }
}
