//! One counter: the state of one limit for one value of its labels, and what can be done to it.
mod saved;

use crate::calendar::Window;
use crate::history::History;
use crate::meter::Meter;
use crate::num;
use crate::rate::{Point, Rate};
use crate::ring::Ring;
use crate::time::{Span, Time};

/// What a counter keeps while nothing is in motion: 16 bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// The instant at which the bucket is full again: `nanos + frac / drain`.
    Bucket { frac: u32, nanos: u64 },
    /// What was taken lately; none: nothing.
    Sliding(Option<Box<Ring>>),
    /// The low half of the number of the window last charged, and its sum.
    Fixed { window: u32, sum: u64 },
    /// How much is in flight.
    Gauge(u64),
}

/// What a counter keeps while reservations are open on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Track {
    /// The sum held by open reservations.
    pub(crate) held: u64,
    history: History,
    /// Deadline and amount of each open reservation of a gauge, the earliest first.
    ends: Vec<(Time, u64, u64)>,
}

/// A moment at which an amount was charged for a reservation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Orders the charges of a ledger.
    pub(crate) seq: u64,
    pub(crate) at: Time,
    /// When the reservation ends by itself.
    pub(crate) deadline: Time,
}

/// A counter's limit with the calendar window it is in: all that an operation needs to know but the state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate<'a> {
    pub(crate) meter: &'a Meter,
    /// The current window; of a `fixed` limit only.
    pub(crate) window: Option<&'a Window>,
    pub(crate) now: Time,
}

impl Track {
    /// What is known of a counter that is kept elsewhere: the sum held, and what ends when.
    pub(crate) fn read(held: u64, ends: impl Iterator<Item = (Time, u64)>) -> Self {
        Self {
            held,
            history: History::default(),
            ends: ends.map(|(at, amount)| (at, 0, amount)).collect(),
        }
    }
}

impl State {
    /// The initial state.
    pub(crate) fn fresh(meter: &Meter) -> Self {
        match meter {
            Meter::Bucket(_) => Self::Bucket { frac: 0, nanos: 0 },
            Meter::Sliding { .. } => Self::Sliding(None),
            Meter::Fixed { .. } => Self::Fixed { window: 0, sum: 0 },
            Meter::Gauge { .. } => Self::Gauge(0),
        }
    }

    #[inline]
    pub(crate) fn level(&self) -> Point {
        match self {
            Self::Bucket { frac, nanos } => Point {
                nanos: *nanos,
                frac: *frac,
            },
            _ => Point::default(),
        }
    }

    fn ring(&self) -> Option<&Ring> {
        match self {
            Self::Sliding(ring) => ring.as_deref(),
            _ => None,
        }
    }

    /// Takes `amount` from a bucket.
    #[inline]
    pub(crate) fn take(&mut self, rate: &Rate, amount: u64, now: Time) {
        if amount > 0 {
            self.set_level(rate.taken(self.level(), amount, now));
        }
    }

    #[inline]
    fn set_level(&mut self, level: Point) {
        *self = Self::Bucket {
            frac: level.frac,
            nanos: level.nanos,
        };
    }
}

impl Gate<'_> {
    /// Whether `amount` fits now.
    #[inline]
    pub(crate) fn fits(&self, state: &State, amount: u64) -> bool {
        match self.meter {
            Meter::Bucket(rate) => rate.admits(state.level(), amount, self.now),
            other => self.used(state).saturating_add(amount) <= other.largest(),
        }
    }

    /// The earliest instant at which `amount` fits if nothing else came, with `ahead` taken before it.
    pub(crate) fn fits_at(
        &self,
        state: &State,
        track: Option<&Track>,
        amount: u64,
        ahead: u64,
    ) -> Time {
        let wanted = amount.saturating_add(ahead);
        match (self.meter, state) {
            (Meter::Bucket(rate), _) => {
                let after = rate.after(state.level(), rate.cost(wanted), self.now);
                rate.fits_at(after).max(self.now)
            }
            (
                Meter::Sliding {
                    amount: limit,
                    every,
                },
                State::Sliding(Some(ring)),
            ) => ring.falls_to(limit.saturating_sub(wanted), *every, self.now),
            (Meter::Fixed { .. }, _) if !self.fits(state, wanted) => {
                self.later_window(state, wanted)
            }
            (Meter::Gauge { .. }, _) if !self.fits(state, wanted) => {
                self.freed_at(state, track, wanted)
            }
            _ => self.now,
        }
    }

    /// The earliest instant at which `amount` could fit if all that is held on the counter were given back.
    pub(crate) fn may_fit_by(&self, state: &State, track: Option<&Track>, amount: u64) -> Time {
        let held = track.map_or(0, |track| track.held);
        match self.meter {
            Meter::Bucket(rate) => {
                let level = rate
                    .units(state.level())
                    .saturating_sub(rate.units_of(held));
                let after = rate.after(rate.level(level), rate.cost(amount), self.now);
                rate.fits_at(after).max(self.now)
            }
            Meter::Sliding {
                amount: limit,
                every,
            } => {
                let keep = limit.saturating_sub(amount).saturating_add(held);
                let ring = state.ring();
                ring.map_or(self.now, |ring| ring.falls_to(keep, *every, self.now))
            }
            other
                if self.used(state).saturating_sub(held).saturating_add(amount)
                    <= other.largest() =>
            {
                self.now
            }
            _ => self.fits_at(state, track, amount, 0),
        }
    }

    /// How much is taken.
    pub(crate) fn used(&self, state: &State) -> u64 {
        match (self.meter, state) {
            (Meter::Bucket(rate), _) => rate.used(state.level(), self.now),
            (Meter::Sliding { every, .. }, State::Sliding(Some(ring))) => {
                ring.used(*every, self.now)
            }
            (Meter::Fixed { .. }, State::Fixed { window, sum }) if self.is_current(*window) => *sum,
            (Meter::Gauge { .. }, State::Gauge(count)) => *count,
            _ => 0,
        }
    }

    /// How long until the counter is back at its initial state.
    pub(crate) fn reset(&self, state: &State, track: Option<&Track>) -> Span {
        let at = match (self.meter, state) {
            (Meter::Bucket(rate), _) => rate.full_at(state.level()),
            (Meter::Sliding { every, .. }, State::Sliding(Some(ring))) => ring.empty_at(*every),
            (Meter::Fixed { .. }, _) if self.used(state) > 0 => {
                self.window.map_or(self.now, |w| w.end)
            }
            (Meter::Gauge { .. }, _) => {
                let last = track.and_then(|track| track.ends.last());
                last.map_or(self.now, |end| end.0)
            }
            _ => self.now,
        };
        at.since(self.now)
    }

    /// Whether the counter stands as a fresh one would.
    pub(crate) fn is_fresh(&self, state: &State) -> bool {
        match state {
            State::Bucket { .. } => state.level() <= Point::at(self.now),
            _ => self.used(state) == 0,
        }
    }

    /// Takes `amount` that nobody will settle. A gauge keeps nothing: what is over at once occupies no slot.
    #[inline]
    pub(crate) fn spend(&self, state: &mut State, amount: u64) {
        match self.meter {
            Meter::Bucket(rate) => state.take(rate, amount, self.now),
            Meter::Gauge { .. } => {}
            _ if amount > 0 => self.add(state, amount),
            _ => {}
        }
    }

    /// The same where reservations are open.
    pub(crate) fn spend_beside(&self, state: &mut State, track: &mut Track, amount: u64) {
        if let Meter::Bucket(rate) = self.meter {
            let now = rate.units(Point::at(self.now));
            if let Some(level) = track.history.spend(rate.units_of(amount), now) {
                return state.set_level(rate.level(level));
            }
        }
        self.spend(state, amount);
    }

    /// Takes `amount` for the reservation of `moment`.
    pub(crate) fn reserve(
        &self,
        state: &mut State,
        track: &mut Track,
        amount: u64,
        moment: Moment,
    ) {
        track.held = track.held.saturating_add(amount);
        match self.meter {
            Meter::Bucket(rate) => {
                let now = rate.units(Point::at(self.now));
                let level = rate.units(state.level());
                let cost = rate.units_of(amount);
                let level = track.history.reserve(moment.seq, cost, now, level);
                state.set_level(rate.level(level));
            }
            Meter::Gauge { .. } => self.occupy(state, track, amount, moment),
            _ => self.add(state, amount),
        }
    }

    /// Takes `amount` of a gauge until the reservation of `moment` ends.
    fn occupy(&self, state: &mut State, track: &mut Track, amount: u64, moment: Moment) {
        if amount > 0 {
            self.add(state, amount);
            let end = (moment.deadline, moment.seq, amount);
            let at = track.ends.partition_point(|other| *other < end);
            track.ends.insert(at, end);
        }
    }

    /// Ends what `moment` took: `held` then, `used` in truth.
    pub(crate) fn settle(
        &self,
        state: &mut State,
        track: &mut Track,
        moment: Moment,
        amounts: Held,
    ) {
        track.held = track.held.saturating_sub(amounts.held);
        match (self.meter, state) {
            (Meter::Bucket(rate), state) => {
                let now = rate.units(Point::at(self.now));
                let change = rate
                    .units_of(amounts.used)
                    .saturating_sub(rate.units_of(amounts.held));
                if let Some(level) = track.history.settle(moment.seq, change, now) {
                    state.set_level(rate.level(level));
                }
            }
            (Meter::Sliding { .. }, State::Sliding(Some(ring))) => {
                ring.adjust(moment.at, amounts.held, amounts.used);
            }
            (Meter::Fixed { .. }, State::Fixed { window, sum })
                if self.is_current(*window)
                    && self.window.is_some_and(|w| w.start <= moment.at) =>
            {
                *sum = sum
                    .saturating_add(amounts.used)
                    .saturating_sub(amounts.held);
            }
            (Meter::Gauge { .. }, State::Gauge(count)) => {
                *count = count.saturating_sub(amounts.held);
                track.ends.retain(|end| end.1 != moment.seq);
            }
            _ => {}
        }
    }

    /// Moves the deadline of what `moment` took.
    pub(crate) fn postpone(&self, track: &mut Track, moment: Moment) {
        for end in &mut track.ends {
            if end.1 == moment.seq {
                end.0 = moment.deadline;
            }
        }
        track.ends.sort_unstable();
    }

    /// Whether the number of a stored window is the current one's. Half of it tells: the other windows of
    /// that number are 136 years away at least.
    fn is_current(&self, number: u32) -> bool {
        self.window
            .is_some_and(|window| num::wrapped32(window.number) == number)
    }

    fn add(&self, state: &mut State, amount: u64) {
        match (self.meter, state) {
            (Meter::Sliding { every, .. }, State::Sliding(ring)) => {
                ring.get_or_insert_default()
                    .charge(amount, *every, self.now);
            }
            (Meter::Fixed { .. }, State::Fixed { window, sum }) => {
                let number = self.window.map_or(0, |current| current.number);
                let before = if self.is_current(*window) { *sum } else { 0 };
                *window = num::wrapped32(number);
                *sum = before.saturating_add(amount);
            }
            (Meter::Gauge { .. }, State::Gauge(count)) => *count = count.saturating_add(amount),
            _ => {}
        }
    }

    /// The start of the window in which `wanted` has gone through, one limit's worth a window.
    fn later_window(&self, state: &State, wanted: u64) -> Time {
        let (
            Some(mut current),
            Meter::Fixed {
                amount,
                window,
                timezone,
            },
        ) = (self.window.copied(), self.meter)
        else {
            return self.now;
        };
        let room = amount.saturating_sub(self.used(state));
        let mut left = wanted.saturating_sub(room.min(wanted.saturating_sub(1)));
        for _ in 0..LOOK_AHEAD {
            if left <= *amount {
                break;
            }
            left = left.saturating_sub(*amount);
            current.end = current.next_end(*window, timezone);
        }
        current.end
    }

    fn freed_at(&self, state: &State, track: Option<&Track>, wanted: u64) -> Time {
        let keep = self.meter.largest().saturating_sub(wanted);
        let mut used = self.used(state);
        let ends = track.map_or(&[][..], |track| &track.ends);
        for (deadline, _, amount) in ends {
            used = used.saturating_sub(*amount);
            if used <= keep {
                return (*deadline).max(self.now);
            }
        }
        ends.last().map_or(self.now, |end| end.0.max(self.now))
    }
}

/// What a reservation held and what it used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    pub(crate) held: u64,
    pub(crate) used: u64,
}

/// How many calendar windows a denial looks ahead past those already waiting.
const LOOK_AHEAD: usize = 64;

/// Carries a bucket over from one rate to another: what is taken stays, in the metric's unit.
pub(crate) fn rescale(
    state: &mut State,
    track: Option<&mut Track>,
    rates: (&Rate, &Rate),
    now: Time,
) {
    let (old, new) = rates;
    let scale = |level: i128| {
        let backlog = level.saturating_sub(old.units(Point::at(now)));
        new.units(Point::at(now))
            .saturating_add(new.convert(backlog, old))
    };
    let level = scale(old.units(state.level()));
    state.set_level(new.level(level.max(0)));
    if let Some(track) = track {
        track.history.rescale(scale);
    }
}
