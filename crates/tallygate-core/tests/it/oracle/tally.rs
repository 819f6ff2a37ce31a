//! One counter: its log of charges and what follows from it.
use crate::setup::{Form, LimitSpec};
use tallygate_core::Calendar;

/// Something charged.
#[derive(Debug, Clone, Copy)]
struct Charge {
    at: u64,
    /// What is now known to be right.
    amount: u64,
    /// The instant from which a slot is free again; of gauges only.
    until: u64,
    /// The calendar window it belongs to.
    window: i64,
}

/// From the charge numbered `first` on a bucket drains so many units a nanosecond, a token being `every` units.
#[derive(Debug, Clone, Copy)]
struct Drain {
    at: u64,
    first: usize,
    units: i128,
}

/// One counter.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// The number of its rule, the values it is counted apart for, and the place of its limit.
    pub(crate) place: (usize, String, usize),
    pub(crate) spec: LimitSpec,
    charges: Vec<Charge>,
    drains: Vec<Drain>,
    /// The calendar window it is in.
    window: i64,
    /// How often its bucket was carried over to other amounts, each time rounded up by less than a token.
    conversions: u64,
}

/// How much is used: at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) least: u64,
    pub(crate) most: u64,
}

/// Whether an amount fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    Surely,
    /// Within the stated bound of the shape.
    Maybe,
    Not,
}

impl Tally {
    pub(crate) fn new(spec: LimitSpec, place: (usize, String, usize)) -> Self {
        let first = Drain {
            at: 0,
            first: 0,
            units: drain_of(&spec),
        };
        Self {
            place,
            spec,
            charges: Vec::new(),
            drains: vec![first],
            window: i64::MIN,
            conversions: 0,
        }
    }

    /// Brings the calendar window to the wall-clock instant `wall`; it never goes back.
    pub(crate) fn turn(&mut self, wall: u64) {
        if let Form::Fixed(calendar) = self.spec.form {
            self.window = self.window.max(number(calendar, wall));
        }
    }

    /// Charges; answers the place in the log.
    pub(crate) fn charge(&mut self, at: u64, amount: u64, until: u64) -> usize {
        self.charges.push(Charge {
            at,
            amount,
            until,
            window: self.window,
        });
        self.charges.len() - 1
    }

    /// The charge numbered `place` was `amount` in truth, as is known at `now`.
    pub(crate) fn correct(&mut self, place: usize, amount: u64, now: u64) {
        let charge = &mut self.charges[place];
        match self.spec.form {
            Form::Gauge => charge.until = now,
            _ => charge.amount = amount,
        }
    }

    /// The slots of the charge numbered `place` are free from `until` on.
    pub(crate) fn postpone(&mut self, place: usize, until: u64) {
        self.charges[place].until = until;
    }

    /// The limit has other amounts from `now` on.
    pub(crate) fn resize(&mut self, spec: LimitSpec, now: u64) {
        if spec == self.spec {
            return;
        }
        if matches!(spec.form, Form::Bucket { .. } | Form::Strict { .. }) {
            self.conversions += 1;
            self.drains.push(Drain {
                at: now,
                first: self.charges.len(),
                units: drain_of(&spec),
            });
        }
        self.spec = spec;
    }

    /// How much is used at `now`.
    pub(crate) fn used(&self, now: u64) -> Reading {
        match self.spec.form {
            Form::Bucket { every, .. } | Form::Strict { every, .. } => {
                let least = tokens(self.backlog(now), every);
                Reading {
                    least,
                    most: least + self.conversions,
                }
            }
            Form::Sliding { every } => Reading {
                least: self.lately(now, every),
                most: self.lately(now, every + (every / 32).max(1) - 1),
            },
            Form::Fixed(_) => exactly(self.sum(|charge| charge.window == self.window)),
            Form::Gauge => exactly(self.sum(|charge| charge.until > now)),
        }
    }

    /// Whether `amount` fits at `now`.
    pub(crate) fn fits(&self, amount: u64, now: u64) -> Fit {
        let (Form::Bucket { every, burst } | Form::Strict { every, burst }) = self.spec.form else {
            let used = self.used(now);
            return fit(
                used.least + amount <= self.spec.amount,
                used.most + amount <= self.spec.amount,
            );
        };
        let room = (i128::from(burst) - i128::from(amount)) * i128::from(every);
        let backlog = self.backlog(now);
        let rounded = i128::from(self.conversions) * i128::from(every);
        fit(backlog <= room, backlog + rounded <= room)
    }

    /// The earliest instant from `now` on at which `amount` fits if nothing else comes: at least and at most.
    pub(crate) fn fits_at(&self, amount: u64, now: u64) -> Option<(u64, u64)> {
        if amount > self.spec.largest() || self.is_rough() {
            return None;
        }
        match self.spec.form {
            Form::Bucket { every, burst } | Form::Strict { every, burst } => {
                let room = (i128::from(burst) - i128::from(amount)) * i128::from(every);
                let at = now + self.drained_in(self.backlog(now) - room);
                Some((at, at))
            }
            Form::Sliding { every } => {
                let wide = every + (every / 32).max(1) - 1;
                Some((
                    self.slides_at(amount, now, every),
                    self.slides_at(amount, now, wide),
                ))
            }
            Form::Fixed(calendar) if self.fits(amount, now) == Fit::Not => {
                let end = ends(calendar, now);
                Some((end, end))
            }
            Form::Gauge => {
                let at = self.freed_at(amount, now);
                Some((at, at))
            }
            Form::Fixed(_) => Some((now, now)),
        }
    }

    /// How long until a bucket is full, a gauge or window empty; none where it is not exact.
    pub(crate) fn reset(&self, now: u64) -> Option<u64> {
        match self.spec.form {
            _ if self.is_rough() => None,
            Form::Bucket { .. } | Form::Strict { .. } => Some(self.drained_in(self.backlog(now))),
            Form::Sliding { .. } => None,
            Form::Fixed(_) if self.used(now).least == 0 => Some(0),
            Form::Fixed(calendar) => Some(ends(calendar, now) - now),
            Form::Gauge => {
                let taken = self.charges.iter().filter(|charge| charge.amount > 0);
                let live = taken.map(|charge| charge.until);
                Some(live.max().unwrap_or(now).max(now) - now)
            }
        }
    }

    /// Whether the engine may stand apart from it.
    fn is_rough(&self) -> bool {
        let bucket = matches!(self.spec.form, Form::Bucket { .. } | Form::Strict { .. });
        bucket && self.conversions > 0
    }

    /// The log keeps the promise of the shape over every span of time: none charged over the limit.
    pub(crate) fn check_promise(&self) {
        for last in 0..self.charges.len() {
            let kept = match self.spec.form {
                Form::Fixed(_) => {
                    let window = self.charges[last].window;
                    self.sum(|charge| charge.window == window) <= self.spec.amount
                }
                Form::Gauge => {
                    let at = self.charges[last].at;
                    self.sum(|charge| charge.at <= at && charge.until > at) <= self.spec.amount
                }
                _ => self.keeps_every_span_to(last),
            };
            assert!(kept, "over {:?} at charge {last}: {self:#?}", self.spec);
        }
    }

    fn keeps_every_span_to(&self, last: usize) -> bool {
        let mut sum = 0;
        (0..=last).rev().all(|first| {
            sum += i128::from(self.charges[first].amount);
            let length = i128::from(self.charges[last].at - self.charges[first].at);
            self.keeps_span(sum, length)
        })
    }

    /// Whether so much may be taken in a span of so many nanoseconds, both its ends counted.
    fn keeps_span(&self, sum: i128, length: i128) -> bool {
        let limit = i128::from(self.spec.amount);
        let envelope = |every: u64, burst: u64| {
            let every = i128::from(every);
            sum * every <= i128::from(burst) * every + drain_of(&self.spec) * length
        };
        match self.spec.form {
            Form::Bucket { every, burst } => envelope(every, burst),
            Form::Strict { every, burst } => {
                envelope(every, burst) && (sum <= limit || length >= i128::from(every))
            }
            Form::Sliding { every } => sum <= limit || length >= i128::from(every),
            Form::Fixed(_) | Form::Gauge => true,
        }
    }

    /// What is taken from a bucket, in units.
    fn backlog(&self, now: u64) -> i128 {
        let (Form::Bucket { every, .. } | Form::Strict { every, .. }) = self.spec.form else {
            return 0;
        };
        let mut level = Level {
            backlog: 0,
            at: 0,
            drain: self.drains[0].units,
        };
        let mut changes = self.drains[1..].iter().peekable();
        for (number, charge) in self.charges.iter().enumerate() {
            while let Some(change) = changes.next_if(|change| change.first <= number) {
                level.pass(change.at);
                level.drain = change.units;
            }
            level.pass(charge.at);
            level.backlog += i128::from(charge.amount) * i128::from(every);
        }
        for change in changes {
            level.pass(change.at);
            level.drain = change.units;
        }
        level.pass(now);
        level.backlog
    }

    fn drained_in(&self, units: i128) -> u64 {
        let drain = drain_of(&self.spec);
        let nanos = (units.max(0) + drain - 1) / drain;
        u64::try_from(nanos).expect("a case's waits are short")
    }

    /// What was charged in the last `length` nanoseconds.
    fn lately(&self, now: u64, length: u64) -> u64 {
        self.sum(|charge| charge.at + length > now)
    }

    fn slides_at(&self, amount: u64, now: u64, length: u64) -> u64 {
        let ends = self.charges.iter().map(|charge| charge.at + length);
        let fits = |at: &u64| self.lately(*at, length) + amount <= self.spec.amount;
        let later = ends.filter(|end| *end > now).collect::<Vec<_>>();
        let mut instants = std::iter::once(now).chain(later);
        instants.find(fits).expect("it fits once all has gone")
    }

    fn freed_at(&self, amount: u64, now: u64) -> u64 {
        let used = |at: u64| self.sum(|charge| charge.until > at);
        let mut ends: Vec<u64> = self.charges.iter().map(|charge| charge.until).collect();
        ends.retain(|end| *end > now);
        ends.sort_unstable();
        let mut instants = std::iter::once(now).chain(ends);
        let free = instants.find(|at| used(*at) + amount <= self.spec.amount);
        free.expect("it fits once all has gone")
    }

    fn sum(&self, which: impl Fn(&Charge) -> bool) -> u64 {
        let counted = self.charges.iter().filter(|charge| which(charge));
        counted.map(|charge| charge.amount).sum()
    }
}

/// A bucket on its way through the log.
struct Level {
    backlog: i128,
    at: u64,
    drain: i128,
}

impl Level {
    fn pass(&mut self, to: u64) {
        let gone = self.drain * i128::from(to.saturating_sub(self.at));
        self.backlog = (self.backlog - gone).max(0);
        self.at = self.at.max(to);
    }
}

/// The number of a UTC calendar window.
pub(crate) fn number(calendar: Calendar, wall: u64) -> i64 {
    let seconds = i64::try_from(wall / 1_000_000_000).expect("seconds fit");
    let days = seconds / 86_400;
    match calendar {
        Calendar::Second => seconds,
        Calendar::Minute => seconds / 60,
        Calendar::Hour => seconds / 3600,
        Calendar::Day => days,
        // 1970-01-01 was a Thursday: three days into its week.
        Calendar::Week => (days + 3) / 7,
        Calendar::Month => month(days),
    }
}

/// The first instant of the next UTC calendar window.
fn ends(calendar: Calendar, wall: u64) -> u64 {
    let here = number(calendar, wall);
    let days = wall / 86_400_000_000_000;
    let day = |day: u64| day * 86_400_000_000_000;
    let unit = |nanos: u64| (wall / nanos + 1) * nanos;
    match calendar {
        Calendar::Second => unit(1_000_000_000),
        Calendar::Minute => unit(60_000_000_000),
        Calendar::Hour => unit(3_600_000_000_000),
        _ => (days + 1..)
            .map(day)
            .find(|at| number(calendar, *at) > here)
            .expect("there is a next window"),
    }
}

/// Months since the year 0 of a day since the epoch, by counting the days of each year and month.
fn month(mut days: i64) -> i64 {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut year = 1970;
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let february = 28 + i64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    year * 12 + month
}

fn drain_of(spec: &LimitSpec) -> i128 {
    match spec.form {
        Form::Strict { burst, .. } => i128::from(spec.amount - burst),
        _ => i128::from(spec.amount),
    }
}

fn tokens(units: i128, every: u64) -> u64 {
    let every = i128::from(every);
    u64::try_from((units + every - 1) / every).expect("a case's amounts are small")
}

fn exactly(used: u64) -> Reading {
    Reading {
        least: used,
        most: used,
    }
}

fn fit(perhaps: bool, surely: bool) -> Fit {
    match (perhaps, surely) {
        (_, true) => Fit::Surely,
        (true, false) => Fit::Maybe,
        (false, false) => Fit::Not,
    }
}
