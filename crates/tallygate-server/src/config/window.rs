//! `every`, `shape` and `timezone` of a limit, as one window.

use std::time::Duration;

use jiff::tz::TimeZone;
use tallygate_core::{Calendar, MAX_WINDOW};

use super::amount;
use super::fields::{Fields, Reading, nearest};
use super::problem::{Kind, Problem};
use super::tree::Node;

/// The window of a limit that is not of concurrency.
pub(super) enum Window {
    /// Refills continuously.
    Bucket(Duration),
    /// Any span of this length.
    Sliding(Duration),
    /// A calendar window of a time zone.
    Fixed(Calendar, TimeZone),
}

impl Window {
    /// The word of its shape.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Bucket(_) => "bucket",
            Self::Sliding(_) => "sliding",
            Self::Fixed(..) => "fixed",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ShapeWord {
    Bucket,
    Sliding,
    Fixed,
}

const SHAPES: [(&str, ShapeWord); 3] = [
    ("bucket", ShapeWord::Bucket),
    ("sliding", ShapeWord::Sliding),
    ("fixed", ShapeWord::Fixed),
];

/// What `every` says.
enum Every {
    Length(Duration),
    Word(Calendar),
}

/// The window of a limit; `None` when it was refused.
pub(super) fn read(fields: &Fields<'_>, reading: &mut Reading<'_>) -> Option<Window> {
    let shape = fields
        .get("shape")
        .map(|node| reading.word(node, "`shape`", &SHAPES));
    let every_node = fields.need("every", reading);
    let every = every_node.and_then(|node| every(node, reading));
    let timezone = fields.get("timezone").map(|node| timezone(node, reading));
    let (every, every_node) = (every?, every_node?);
    let window = match (shape, every) {
        (Some(None), _) => return None,
        (None, Every::Word(word)) | (Some(Some(ShapeWord::Fixed)), Every::Word(word)) => {
            return Some(Window::Fixed(
                word,
                timezone.unwrap_or(Some(TimeZone::UTC))?,
            ));
        }
        (Some(Some(ShapeWord::Fixed)), Every::Length(length)) => {
            let word = word_of_length(length, every_node, reading)?;
            return Some(Window::Fixed(
                word,
                timezone.unwrap_or(Some(TimeZone::UTC))?,
            ));
        }
        (None | Some(Some(ShapeWord::Bucket)), Every::Length(length)) => Window::Bucket(length),
        (Some(Some(ShapeWord::Sliding)), Every::Length(length)) => Window::Sliding(length),
        (Some(Some(ShapeWord::Bucket)), Every::Word(word)) => {
            Window::Bucket(length_of_word(word, every_node, reading)?)
        }
        (Some(Some(ShapeWord::Sliding)), Every::Word(word)) => {
            Window::Sliding(length_of_word(word, every_node, reading)?)
        }
    };
    refuse_timezone(fields, &window, reading);
    Some(window)
}

/// A limit of concurrency alone has no window; whatever speaks of one is refused.
pub(super) fn refuse_any(fields: &Fields<'_>, reading: &mut Reading<'_>) {
    for key in ["every", "shape", "timezone", "burst", "strict"] {
        if fields.get(key).is_some() {
            let message =
                format!("`{key}` has no meaning for concurrency, which counts calls in flight");
            reading.report(
                Problem::error(Kind::Conflict, fields.key_at(key), message)
                    .mend(format!("remove `{key}`")),
            );
        }
    }
}

fn refuse_timezone(fields: &Fields<'_>, window: &Window, reading: &mut Reading<'_>) {
    if fields.get("timezone").is_some() {
        let message = format!(
            "`timezone` goes with a calendar window, not with a {} one",
            window.word()
        );
        let how = "remove `timezone`, or write a calendar word such as `day` in `every`";
        reading
            .report(Problem::error(Kind::Conflict, fields.key_at("timezone"), message).mend(how));
    }
}

fn every(node: &Node, reading: &mut Reading<'_>) -> Option<Every> {
    let text = reading.text(node, "`every`")?;
    if let Some(word) = Calendar::of_word(text) {
        return Some(Every::Word(word));
    }
    let refusal = match amount::length(text) {
        Ok(length) if length.is_zero() => "is no time at all".to_owned(),
        Ok(length) if length > Duration::from(MAX_WINDOW) => "is longer than 366 days".to_owned(),
        Ok(length) => return Some(Every::Length(length)),
        Err(refusal) => refusal,
    };
    let message = format!("the window `{text}` {refusal}");
    reading.report(Problem::error(Kind::Value, node.at, message).mend(every_mend(text)));
    None
}

fn every_mend(text: &str) -> String {
    let words = || Calendar::ALL.iter().map(|window| window.word());
    if text.chars().all(|c| c.is_ascii_digit()) {
        return format!("add a unit: {text}s, {text}m or {text}h");
    }
    if let Some(days) = text
        .strip_suffix('d')
        .filter(|d| !d.is_empty())
        .and_then(|d| d.parse::<u32>().ok())
    {
        return format!(
            "write {}h for a rolling window, or `day` for the calendar's",
            u64::from(days) * 24
        );
    }
    let singular = text.trim_start_matches("per ").trim_end_matches('s');
    match nearest(singular, words()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "write a length (500ms, 60s, 5m, 1h) or one of: {}",
            words().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The length of a calendar word, for a bucket or sliding limit.
fn length_of_word(word: Calendar, node: &Node, reading: &mut Reading<'_>) -> Option<Duration> {
    let seconds = match word {
        Calendar::Second => 1,
        Calendar::Minute => 60,
        Calendar::Hour => 3_600,
        Calendar::Day => 86_400,
        Calendar::Week => 7 * 86_400,
        Calendar::Month => {
            let message = "a month has no one length, so only a fixed window can have it";
            reading.report(
                Problem::error(Kind::Conflict, node.at, message)
                    .mend("remove `shape`, or write a length such as 720h"),
            );
            return None;
        }
    };
    Some(Duration::from_secs(seconds))
}

/// The calendar word of a length, for a fixed limit.
fn word_of_length(length: Duration, node: &Node, reading: &mut Reading<'_>) -> Option<Calendar> {
    let word = match length.as_millis() {
        1_000 => Calendar::Second,
        60_000 => Calendar::Minute,
        3_600_000 => Calendar::Hour,
        86_400_000 => Calendar::Day,
        _ => {
            let message = "a fixed window is one of the calendar's";
            let how = "write second, minute, hour, day, week or month; or remove `shape: fixed`";
            reading.report(Problem::error(Kind::Conflict, node.at, message).mend(how));
            return None;
        }
    };
    Some(word)
}

fn timezone(node: &Node, reading: &mut Reading<'_>) -> Option<TimeZone> {
    let name = reading.text(node, "`timezone`")?;
    let database = jiff::tz::db();
    if let Ok(zone) = database.get(name) {
        return Some(zone);
    }
    let known: Vec<String> = database
        .available()
        .map(|name| name.as_str().to_owned())
        .collect();
    let how = match nearest(name, known.iter().map(String::as_str)).or_else(|| city(name, &known)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write an IANA name such as Europe/Berlin, or UTC".to_owned(),
    };
    reading.report(
        Problem::error(
            Kind::Unknown,
            node.at,
            format!("the time zone `{name}` is not known"),
        )
        .mend(how),
    );
    None
}

/// The zone whose city is `name`: people write "Berlin".
fn city<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let city = name.rsplit('/').next().unwrap_or(name);
    known.iter().map(String::as_str).find(|zone| {
        zone.rsplit('/')
            .next()
            .is_some_and(|c| c.eq_ignore_ascii_case(city))
    })
}
