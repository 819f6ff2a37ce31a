//! The arithmetic of a bucket: exact, in whole numbers.
//!
//! A bucket of `amount` per `every` is counted in *units* so that both a token and a nanosecond are a
//! whole number of them: a token costs `step = every / g` units and a nanosecond drains
//! `drain = amount / g`, with `g` their greatest common divisor. A level is then the instant at which
//! the bucket is full again, as nanoseconds and a rest of `frac / drain` of a nanosecond.
use crate::num;
use crate::time::{Span, Time};

/// An instant finer than a nanosecond: `nanos + frac / drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Point {
    pub(crate) nanos: u64,
    pub(crate) frac: u32,
}

impl Point {
    pub(crate) const fn at(now: Time) -> Self {
        Self {
            nanos: now.as_nanos(),
            frac: 0,
        }
    }
}

/// The refill of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rate {
    step: u64,
    drain: u32,
    burst: u64,
    burst_point: Point,
}

impl Rate {
    /// A refill of `amount` each `every`, with room for `burst`.
    ///
    /// Where the lowest terms of amount and window exceed 32 bits the token's cost is rounded up to
    /// 2^-32 of a nanosecond, so that the limit errs to the strict side.
    pub(crate) fn new(amount: u64, every: Span, burst: u64) -> Self {
        let g = gcd(amount, every.as_nanos()).max(1);
        let drain = amount.checked_div(g).unwrap_or(1).max(1);
        let step = every.as_nanos().checked_div(g).unwrap_or(1);
        let (step, drain) = match u32::try_from(drain) {
            Ok(drain) => (step, drain),
            Err(_) => scaled(step, drain),
        };
        let mut rate = Self {
            step,
            drain,
            burst,
            burst_point: Point::default(),
        };
        rate.burst_point = rate.cost(burst);
        rate
    }

    /// How many parts make a nanosecond.
    pub(crate) const fn parts(&self) -> u64 {
        num::wide32(self.drain)
    }

    pub(crate) const fn burst(&self) -> u64 {
        self.burst
    }

    /// Whether `amount` more fits a bucket at `level`.
    #[inline]
    pub(crate) fn admits(&self, level: Point, amount: u64, now: Time) -> bool {
        match self.drain {
            1 => {
                let after = self.whole_after(level, amount, now);
                after <= now.as_nanos().saturating_add(self.burst_point.nanos)
            }
            _ => self.fits(self.after(level, self.cost(amount), now), now),
        }
    }

    /// The level of a bucket at `level` once `amount` more is taken.
    #[inline]
    pub(crate) fn taken(&self, level: Point, amount: u64, now: Time) -> Point {
        match self.drain {
            1 => Point {
                nanos: self.whole_after(level, amount, now),
                frac: 0,
            },
            _ => self.after(level, self.cost(amount), now),
        }
    }

    /// The same in whole nanoseconds, for a bucket that drains one unit in each.
    #[inline]
    fn whole_after(&self, level: Point, amount: u64, now: Time) -> u64 {
        let from = level.nanos.max(now.as_nanos());
        from.saturating_add(amount.saturating_mul(self.step))
    }

    /// How long it takes from empty to full.
    pub(crate) const fn refill(&self) -> Span {
        Span::from_nanos(self.burst_point.nanos)
    }

    /// How long `amount` takes to refill.
    #[inline]
    pub(crate) fn cost(&self, amount: u64) -> Point {
        if let Some(units) = amount.checked_mul(self.step) {
            return self.point64(units);
        }
        self.point(num::wide(amount).saturating_mul(num::wide(self.step)))
    }

    /// The level after `cost` is taken from a bucket at `level`, not yet checked.
    #[inline]
    pub(crate) fn after(&self, level: Point, cost: Point, now: Time) -> Point {
        self.sum(level.max(Point::at(now)), cost)
    }

    /// Whether a bucket at `level` is within its burst.
    #[inline]
    pub(crate) fn fits(&self, level: Point, now: Time) -> bool {
        level <= self.sum(Point::at(now), self.burst_point)
    }

    /// The earliest instant at which a bucket whose level would be `after` is within its burst.
    pub(crate) fn fits_at(&self, after: Point) -> Time {
        let nanos = after.nanos.saturating_sub(self.burst_point.nanos);
        match after.frac > self.burst_point.frac {
            true => Time::from_nanos(nanos.saturating_add(1)),
            false => Time::from_nanos(nanos),
        }
    }

    /// What is taken, rounded up to whole amounts.
    pub(crate) fn used(&self, level: Point, now: Time) -> u64 {
        if level <= Point::at(now) {
            return 0;
        }
        let nanos = level.nanos.saturating_sub(now.as_nanos());
        let small = nanos.checked_mul(u64::from(self.drain));
        match small.and_then(|units| units.checked_add(u64::from(level.frac))) {
            Some(units) => units.div_ceil(self.step),
            None => {
                let units = self.units(level).saturating_sub(self.units(Point::at(now)));
                num::saturate_u64(num::positive(units).div_ceil(num::wide(self.step)))
            }
        }
    }

    /// The first whole nanosecond at which a bucket at `level` is full.
    pub(crate) fn full_at(&self, level: Point) -> Time {
        Time::from_nanos(level.nanos.saturating_add(u64::from(level.frac > 0)))
    }

    /// Units of `other`'s bucket as units of this one: the same amount of the metric, rounded up.
    pub(crate) fn convert(&self, units: i128, other: &Self) -> i128 {
        let (step, other) = (num::wide(self.step), num::wide(other.step));
        let size = units.unsigned_abs();
        if units < 0 {
            let down = size
                .checked_mul(step)
                .and_then(|product| product.checked_div(other));
            return num::signed(down.unwrap_or(0)).saturating_neg();
        }
        num::signed(match size.checked_mul(step) {
            Some(product) => product.div_ceil(other),
            None => size.div_ceil(other).saturating_mul(step),
        })
    }

    /// An amount in units.
    pub(crate) fn units_of(&self, amount: u64) -> i128 {
        num::signed(num::wide(amount).saturating_mul(num::wide(self.step)))
    }

    /// A level in units since the epoch.
    pub(crate) fn units(&self, level: Point) -> i128 {
        let whole = num::wide(level.nanos).saturating_mul(num::wide(u64::from(self.drain)));
        num::signed(whole.saturating_add(num::wide(u64::from(level.frac))))
    }

    /// Units since the epoch as a level.
    pub(crate) fn level(&self, units: i128) -> Point {
        self.point(num::positive(units))
    }

    #[inline]
    fn sum(&self, a: Point, b: Point) -> Point {
        let nanos = a.nanos.saturating_add(b.nanos);
        if self.drain == 1 {
            return Point { nanos, frac: 0 };
        }
        let frac = u64::from(a.frac).saturating_add(u64::from(b.frac));
        let drain = u64::from(self.drain);
        match frac >= drain {
            true => Point {
                nanos: nanos.saturating_add(1),
                frac: num::low32(frac.saturating_sub(drain)),
            },
            false => Point {
                nanos,
                frac: num::low32(frac),
            },
        }
    }

    #[inline]
    fn point64(&self, units: u64) -> Point {
        if self.drain == 1 {
            return Point {
                nanos: units,
                frac: 0,
            };
        }
        let drain = u64::from(self.drain);
        Point {
            nanos: units.checked_div(drain).unwrap_or(0),
            frac: num::low32(units.checked_rem(drain).unwrap_or(0)),
        }
    }

    fn point(&self, units: u128) -> Point {
        if let Ok(units) = u64::try_from(units) {
            return self.point64(units);
        }
        let drain = num::wide(u64::from(self.drain));
        let nanos = units.checked_div(drain).unwrap_or(0);
        if nanos > num::wide(u64::MAX) {
            return Point {
                nanos: u64::MAX,
                frac: 0,
            };
        }
        let frac = units.checked_rem(drain).unwrap_or(0);
        Point {
            nanos: num::saturate_u64(nanos),
            frac: num::low32(num::saturate_u64(frac)),
        }
    }
}

/// Step and drain for a drain above 32 bits: the step at a drain of 2^32 − 1, rounded up.
fn scaled(step: u64, drain: u64) -> (u64, u32) {
    let units = num::wide(step).saturating_mul(num::wide(u64::from(u32::MAX)));
    (
        num::saturate_u64(units.div_ceil(num::wide(drain))),
        u32::MAX,
    )
}

fn gcd(a: u64, b: u64) -> u64 {
    match a.checked_rem(b) {
        None => a,
        Some(rest) => gcd(b, rest),
    }
}

#[cfg(test)]
mod tests;
