use super::*;
use jiff::civil::date;

const HOUR: u64 = 3_600_000_000_000;

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a zone of the database")
}

fn at(stamp: Timestamp) -> Time {
    let nanos = u64::try_from(stamp.as_nanosecond()).expect("after 1970");
    Time::from_nanos(nanos)
}

fn utc(text: &str) -> Time {
    at(text.parse().expect("a UTC instant"))
}

fn window(calendar: Calendar, zone: &TimeZone, now: Time) -> Window {
    window_at(calendar, zone, now, 0)
}

/// The first instant of a date, as the calendar library has it.
fn begins(date: Date, zone: &TimeZone) -> Time {
    let day = date.to_zoned(zone.clone()).expect("in range");
    at(day.start_of_day().expect("in range").timestamp())
}

/// Walks through the windows from `from` on: each begins where the one before ended, with a larger number, and is found
/// from its first to its last nanosecond. Answers where they begin.
fn walk(calendar: Calendar, zone: &TimeZone, from: Time, count: usize) -> Vec<Time> {
    let mut starts = Vec::new();
    let mut here = window(calendar, zone, from);
    assert!(here.start <= from && from < here.end);
    for _ in 0..count {
        starts.push(here.start);
        let last = Time::from_nanos(here.end.as_nanos() - 1);
        assert_eq!(
            window(calendar, zone, here.start),
            here,
            "its first instant"
        );
        assert_eq!(window(calendar, zone, last), here, "its last instant");
        assert_eq!(
            here.next_end(calendar, zone),
            window(calendar, zone, here.end).end
        );
        let next = window(calendar, zone, here.end);
        assert_eq!(next.start, here.end, "without a gap");
        assert!(next.number > here.number, "counted up");
        here = next;
    }
    starts
}

/// Days, weeks and months begin where the calendar library has them begin, through every clock change of two years.
#[test]
fn dated_windows_begin_as_the_calendar_has_it() {
    let zones = [
        ("Europe/Berlin", date(2026, 1, 1)),
        ("America/New_York", date(2026, 1, 1)),
        ("Asia/Kolkata", date(2026, 1, 1)),
        ("America/Sao_Paulo", date(2018, 1, 1)),
        ("Africa/Cairo", date(2023, 1, 1)),
        ("Australia/Lord_Howe", date(2026, 1, 1)),
        ("Pacific/Apia", date(2010, 7, 1)),
        ("UTC", date(2026, 1, 1)),
    ];
    for (name, first) in zones {
        let zone = zone(name);
        let mut days = walk(Calendar::Day, &zone, begins(first, &zone), 730).into_iter();
        let mut day = first;
        while let Some(start) = days.next() {
            assert_eq!(start, begins(day, &zone), "{name}: {day}");
            day = day.tomorrow().expect("in range");
            // A day that a zone left out altogether begins where the next one does.
            while days.len() > 0 && begins(day, &zone) == start {
                day = day.tomorrow().expect("in range");
            }
        }
        for start in walk(Calendar::Month, &zone, begins(first, &zone), 24) {
            let stamp = Timestamp::from_second(seconds(start)).expect("in range");
            let day = Zoned::new(stamp, zone.clone()).date();
            assert_eq!((day.day(), start), (1, begins(day, &zone)), "{name}");
        }
        for start in walk(Calendar::Week, &zone, begins(first, &zone), 104) {
            let stamp = Timestamp::from_second(seconds(start)).expect("in range");
            let day = Zoned::new(stamp, zone.clone()).date();
            assert_eq!(day.weekday(), jiff::civil::Weekday::Monday, "{name}: {day}");
            assert_eq!(start, begins(day, &zone), "{name}");
        }
    }
}

#[test]
fn a_day_is_as_long_as_its_clock_changes_make_it() {
    let hours = |name: &str, day: Date| {
        let zone = zone(name);
        let found = window(Calendar::Day, &zone, begins(day, &zone));
        found.end.since(found.start).as_nanos() / HOUR
    };
    assert_eq!(hours("Europe/Berlin", date(2026, 3, 29)), 23);
    assert_eq!(hours("Europe/Berlin", date(2026, 10, 25)), 25);
    assert_eq!(hours("America/New_York", date(2026, 3, 8)), 23);
    assert_eq!(hours("America/New_York", date(2026, 11, 1)), 25);
    assert_eq!(hours("Asia/Kolkata", date(2026, 3, 29)), 24);
}

/// Where the clock goes from midnight to one, the day begins at one.
#[test]
fn a_midnight_that_is_left_out_is_at_one() {
    let sao_paulo = zone("America/Sao_Paulo");
    let day = window(Calendar::Day, &sao_paulo, utc("2018-11-04T12:00:00Z"));
    assert_eq!(day.start, utc("2018-11-04T03:00:00Z"));
    assert_eq!(day.end, utc("2018-11-05T02:00:00Z"));
    let cairo = zone("Africa/Cairo");
    let day = window(Calendar::Day, &cairo, utc("2023-04-28T12:00:00Z"));
    assert_eq!(day.start, utc("2023-04-27T22:00:00Z"));
    assert_eq!(day.end, utc("2023-04-28T21:00:00Z"));
}

/// St. John's put its clocks back from one past midnight to the day before: the new day had begun and goes on.
#[test]
fn a_clock_set_back_over_midnight_stays_in_its_day() {
    let zone = zone("America/St_Johns");
    let first = window(Calendar::Day, &zone, utc("2010-11-07T02:30:30Z"));
    let again = window(Calendar::Day, &zone, utc("2010-11-07T03:00:00Z"));
    assert_eq!(first, again);
    assert!(first.end > utc("2010-11-07T03:30:00Z"));
    walk(Calendar::Day, &zone, utc("2010-11-05T12:00:00Z"), 5);
    walk(Calendar::Month, &zone, utc("2009-12-05T12:00:00Z"), 13);
}

#[test]
fn hours_begin_with_the_hours_of_the_zone() {
    let kolkata = zone("Asia/Kolkata");
    for start in walk(Calendar::Hour, &kolkata, utc("2026-03-28T20:00:00Z"), 48) {
        let stamp = Timestamp::from_second(seconds(start)).expect("in range");
        assert_eq!(Zoned::new(stamp, kolkata.clone()).minute(), 0);
    }
    let hour = window(Calendar::Hour, &kolkata, utc("2026-03-28T20:29:59Z"));
    assert_eq!(hour.start, utc("2026-03-28T19:30:00Z"));
    // The hour that comes twice in Berlin is two.
    let berlin = zone("Europe/Berlin");
    let hours = walk(Calendar::Hour, &berlin, utc("2026-10-24T22:00:00Z"), 25);
    assert_eq!(hours.last(), Some(&utc("2026-10-25T22:00:00Z")));
}

/// Lord Howe Island shifts by half an hour: an hour then has thirty or ninety minutes, and minutes go on as ever.
#[test]
fn half_an_hour_splits_an_hour() {
    let zone = zone("Australia/Lord_Howe");
    let hour = |text: &str| window(Calendar::Hour, &zone, utc(text));
    let longer = hour("2026-10-03T14:45:00Z");
    assert_eq!(longer.end, utc("2026-10-03T16:00:00Z"));
    assert_eq!(hour("2026-10-03T15:45:00Z").number, longer.number);
    assert_eq!(hour("2026-10-03T16:00:00Z").number, longer.number + 1);
    let whole = hour("2026-04-04T14:45:00Z");
    assert_eq!(whole.end, utc("2026-04-04T15:00:00Z"));
    let shorter = hour("2026-04-04T15:00:00Z");
    assert_eq!(shorter.end, utc("2026-04-04T15:30:00Z"));
    assert!(shorter.number > whole.number);
    for change in ["2026-10-03T15:20:00Z", "2026-04-04T14:50:00Z"] {
        walk(Calendar::Minute, &zone, utc(change), 60);
        walk(Calendar::Second, &zone, utc(change), 3_600);
    }
}

#[test]
fn seconds_and_minutes_are_those_of_the_clock() {
    let zone = zone("Europe/Berlin");
    let now = utc("2026-03-29T00:59:59.999999999Z");
    let second = window(Calendar::Second, &zone, now);
    assert_eq!(second.start, utc("2026-03-29T00:59:59Z"));
    assert_eq!(second.end, utc("2026-03-29T01:00:00Z"));
    let minute = window(Calendar::Minute, &zone, now);
    assert_eq!(minute.start, utc("2026-03-29T00:59:00Z"));
    assert_eq!(minute.end, utc("2026-03-29T01:00:00Z"));
}

/// A wall clock that is ahead brings the end of a window nearer by as much, and the one after it as well.
#[test]
fn a_lead_moves_the_edges() {
    let berlin = zone("Europe/Berlin");
    let now = utc("2026-03-28T12:00:00Z");
    let hours = |lead: i64| lead * 3_600_000_000_000;
    let ahead = window_at(Calendar::Day, &berlin, now, hours(5));
    assert_eq!(ahead.end, utc("2026-03-28T18:00:00Z"));
    assert_eq!(
        ahead.next_end(Calendar::Day, &berlin),
        utc("2026-03-29T17:00:00Z")
    );
    let behind = ahead.led(hours(-1));
    assert_eq!((behind.number, behind.start), (ahead.number, ahead.start));
    assert_eq!(behind.end, utc("2026-03-29T00:00:00Z"));
}
