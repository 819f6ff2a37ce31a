//! The words of a script's line, and the limits they write.
use jiff::tz::TimeZone;
use tallygate_core::{Calendar, Metric, Metrics, Mode, Rule, Shape, Span, StoreDown};

/// The words of a line: taken one by one, or found by their name.
pub(crate) struct Words<'a> {
    words: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Self {
            words: line.split_whitespace().collect(),
            at: 0,
        }
    }

    pub(crate) fn next(&mut self) -> &'a str {
        let word = self.words.get(self.at).copied().unwrap_or("");
        self.at += 1;
        word
    }

    /// The next word if it is an amount.
    pub(crate) fn number(&mut self) -> Option<u64> {
        let word = self.words.get(self.at)?;
        word.starts_with(|c: char| c.is_ascii_digit())
            .then(|| amount(self.next()))
    }

    /// The value of `name=value`.
    pub(crate) fn option(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.words.iter().filter_map(|word| word.split_once('='));
        pairs
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }
}

/// `limit NAME per=user,tenant when=tier:free tokens=500/60s requests=60/minute concurrency=2 burst=50 strict sliding
/// shadow tz=Europe/Berlin`
pub(crate) fn rule_of(words: &mut Words<'_>, metrics: &Metrics) -> Rule {
    let name = words.next().to_owned();
    let labels = |text: &str| text.split(',').map(str::to_owned).collect();
    let when = words.option("when").and_then(|text| text.split_once(':'));
    let limited = metrics.iter().filter_map(|(metric, metric_name)| {
        let written = words.option(metric_name)?;
        Some(limit_of(words, metric, written))
    });
    Rule {
        name,
        when: when
            .map(|(label, patterns)| (label.to_owned(), labels(patterns)))
            .into_iter()
            .collect(),
        per: words.option("per").map(labels).unwrap_or_default(),
        limits: limited.collect(),
        mode: match words.has("shadow") {
            true => Mode::Shadow,
            false => Mode::Enforce,
        },
        store_down: StoreDown::default(),
    }
}

fn limit_of(words: &Words<'_>, metric: Metric, written: &str) -> (Metric, u64, Shape) {
    let Some((most, every)) = written.split_once('/') else {
        return (metric, amount(written), Shape::Concurrency);
    };
    let shape = match Calendar::of_word(every) {
        Some(window) => Shape::Fixed {
            window,
            timezone: zone(words.option("tz").unwrap_or("UTC")),
        },
        None if words.has("sliding") => Shape::Sliding {
            every: length(every),
        },
        None => Shape::Bucket {
            every: length(every),
            burst: words.option("burst").map(amount),
            strict: words.has("strict"),
        },
    };
    (metric, amount(most), shape)
}

pub(crate) fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a time zone")
}

/// `10_000`
pub(crate) fn amount(text: &str) -> u64 {
    text.replace('_', "").parse().expect("an amount")
}

/// `250ms`, `1.5s`, `2m`, `3h`, `1d`, `7ns`
pub(crate) fn length(text: &str) -> Span {
    const UNITS: [(&str, u128); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    let found = UNITS.iter().find_map(|(unit, nanos)| {
        let number = text.strip_suffix(unit)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let scale = 10u128.pow(u32::try_from(part.len()).ok()?);
        let digits: u128 = format!("{whole}{part}").parse().ok()?;
        Some(Span::from_nanos(
            u64::try_from(digits * nanos / scale).ok()?,
        ))
    });
    found.unwrap_or_else(|| panic!("`{text}` is no length of time"))
}

/// `+1h` or `-30m`: how far a wall clock is ahead, in nanoseconds.
pub(crate) fn lead(text: &str) -> i64 {
    let nanos = length(text.trim_start_matches(['+', '-'])).as_nanos();
    let nanos = i64::try_from(nanos).expect("a lead of less than 292 years");
    if text.starts_with('-') { -nanos } else { nanos }
}
