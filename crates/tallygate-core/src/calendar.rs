//! Windows of the calendar: which one an instant is in, and when it ends.
use crate::num;
use crate::shape::Calendar;
use crate::time::Time;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// One calendar window, on the ledger's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Counts the windows up.
    pub(crate) number: i64,
    pub(crate) start: Time,
    pub(crate) end: Time,
    /// How far the wall clock is ahead of the ledger's, in nanoseconds.
    pub(crate) lead: i64,
}

/// The window that `now` is in by a wall clock that is `lead` nanoseconds ahead.
pub(crate) fn window_at(calendar: Calendar, timezone: &TimeZone, now: Time, lead: i64) -> Window {
    let by_wall = window_by(calendar, timezone, shifted(now, lead));
    Window {
        start: shifted(by_wall.start, lead.saturating_neg()),
        ..by_wall.led(lead)
    }
}

impl Window {
    /// The same window, begun when it did, ending by a wall clock that is `lead` nanoseconds ahead.
    pub(crate) fn led(self, lead: i64) -> Self {
        Self {
            end: shifted(self.end, self.lead.saturating_sub(lead)),
            lead,
            ..self
        }
    }

    /// The end of the window that comes after this one.
    pub(crate) fn next_end(&self, calendar: Calendar, timezone: &TimeZone) -> Time {
        window_at(calendar, timezone, self.end, self.lead).end
    }
}

fn window_by(calendar: Calendar, timezone: &TimeZone, wall: Time) -> Window {
    match calendar {
        Calendar::Second => clock(1, timezone, wall),
        Calendar::Minute => clock(60, timezone, wall),
        Calendar::Hour => clock(3600, timezone, wall),
        Calendar::Day | Calendar::Week | Calendar::Month => {
            dated(calendar, timezone, wall).unwrap_or_else(|| clock(86_400, &TimeZone::UTC, wall))
        }
    }
}

/// Seconds, minutes and hours: time zones shift them by parts of an hour only, and a clock change repeats no number.
fn clock(length: i64, timezone: &TimeZone, wall: Time) -> Window {
    let (number, start) = numbered(length, timezone, seconds(wall));
    let end = start.saturating_add(length);
    // Where a zone shifts by half an hour the hour may go on.
    let end = match numbered(length, timezone, end) {
        (next, start) if next <= number => start.saturating_add(length),
        _ => end,
    };
    Window {
        number,
        start: instant(start),
        end: instant(end),
        lead: 0,
    }
}

/// The number of the window of so many seconds that an instant is in, and its beginning.
fn numbered(length: i64, timezone: &TimeZone, seconds: i64) -> (i64, i64) {
    let stamp = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let offset = i64::from(timezone.to_offset(stamp).seconds()).rem_euclid(length);
    let number = seconds.saturating_add(offset).div_euclid(length);
    let start = number.saturating_mul(length).saturating_sub(offset);
    (number, start)
}

/// Days, weeks and months begin at midnight of the time zone, which a clock change may move.
fn dated(calendar: Calendar, timezone: &TimeZone, wall: Time) -> Option<Window> {
    let stamp = Timestamp::from_second(seconds(wall)).ok()?;
    let today = today(stamp, timezone)?;
    let (first, next) = match calendar {
        Calendar::Week => {
            let back = i64::from(today.weekday().to_monday_zero_offset());
            let monday = today.checked_sub(back.days()).ok()?;
            (monday, monday.checked_add(7.days()).ok()?)
        }
        Calendar::Month => {
            let first = today.first_of_month();
            (first, first.checked_add(1.month()).ok()?)
        }
        _ => (today, today.tomorrow().ok()?),
    };
    Some(Window {
        number: day_number(first)?,
        start: midnight(first, timezone)?,
        end: midnight(next, timezone)?,
        lead: 0,
    })
}

/// The date, once its midnight has passed: a clock set back over midnight does not return to the day before.
fn today(stamp: Timestamp, timezone: &TimeZone) -> Option<Date> {
    let date = Zoned::new(stamp, timezone.clone()).date();
    let tomorrow = date.tomorrow().ok()?;
    let begun = instant(stamp.as_second()) >= midnight(tomorrow, timezone)?;
    Some(if begun { tomorrow } else { date })
}

fn day_number(date: Date) -> Option<i64> {
    let noon = date.to_zoned(TimeZone::UTC).ok()?;
    Some(noon.timestamp().as_second().div_euclid(86_400))
}

fn midnight(date: Date, timezone: &TimeZone) -> Option<Time> {
    let start = date.to_zoned(timezone.clone()).ok()?.start_of_day().ok()?;
    Some(instant(start.timestamp().as_second()))
}

fn seconds(wall: Time) -> i64 {
    let whole = wall.as_nanos().checked_div(1_000_000_000).unwrap_or(0);
    i64::try_from(whole).unwrap_or(i64::MAX)
}

fn shifted(time: Time, lead: i64) -> Time {
    Time::from_nanos(time.as_nanos().saturating_add_signed(lead))
}

fn instant(seconds: i64) -> Time {
    Time::from_secs(num::saturate_u64(num::positive(i128::from(seconds))))
}

#[cfg(test)]
mod tests;
