//! Hours, days, weeks and months of a time zone.

use std::ops::Range;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::Dimension;

/// One hour, day, week or month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Period {
    /// Its first millisecond, and the first after it.
    pub(super) span: Range<u64>,
    /// Its name in reports, which sort as the periods do.
    pub(super) name: String,
}

impl Period {
    /// The period of the kind `dimension` that `time` falls in. What is no time of the calendar is a period by itself.
    pub(super) fn of(dimension: &Dimension, time: u64, zone: &TimeZone) -> Self {
        found(dimension, time, zone).unwrap_or_else(|| Self {
            span: time..time.saturating_add(1),
            name: time.to_string(),
        })
    }
}

fn found(dimension: &Dimension, time: u64, zone: &TimeZone) -> Option<Period> {
    let at = Timestamp::from_millisecond(i64::try_from(time).ok()?).ok()?;
    let at = at.to_zoned(zone.clone());
    let day = at.start_of_day().ok()?;
    let (begin, end, name) = match dimension {
        Dimension::Hour => return hour(&at),
        Dimension::Week => {
            let back = i64::from(at.weekday().since(Weekday::Monday));
            let monday = day.checked_sub(back.days()).ok()?.start_of_day().ok()?;
            let end = monday.checked_add(7.days()).ok()?;
            let name = monday.strftime("%G-W%V").to_string();
            (monday, end, name)
        }
        Dimension::Month => {
            let first = day.first_of_month().ok()?.start_of_day().ok()?;
            let end = first.checked_add(1.month()).ok()?;
            let name = first.strftime("%Y-%m").to_string();
            (first, end, name)
        }
        _ => {
            let end = day.checked_add(1.day()).ok()?;
            let name = day.strftime("%Y-%m-%d").to_string();
            (day, end, name)
        }
    };
    let span = millis(&begin)?..millis(&end.start_of_day().ok()?)?;
    Some(Period { span, name })
}

/// An hour of the clock on the wall. Where clocks are set back it comes twice, told apart by its offset.
fn hour(at: &Zoned) -> Option<Period> {
    let into = i64::from(at.minute()) * 60_000
        + i64::from(at.second()) * 1_000
        + i64::from(at.millisecond());
    let begin = at.timestamp().as_millisecond().checked_sub(into)?;
    let begin = u64::try_from(begin).ok()?;
    Some(Period {
        span: begin..begin.checked_add(3_600_000)?,
        name: at.strftime("%Y-%m-%dT%H:00%:z").to_string(),
    })
}

fn millis(at: &Zoned) -> Option<u64> {
    u64::try_from(at.timestamp().as_millisecond()).ok()
}
