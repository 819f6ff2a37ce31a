//! Policies, as the rules they were made of.
use super::{JournalError, Reader, put, put_length, put_signed, put_text};
use crate::metric::{Metric, Metrics};
use crate::num;
use crate::policy::{CompiledRule, Policy, Rule};
use crate::shape::{Calendar, Mode, Shape, StoreDown};
use crate::time::Span;
use jiff::tz::{Offset, TimeZone};

impl Policy {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let custom = || self.metrics().iter().skip(Metrics::BUILT_IN);
        put_length(out, custom().count());
        custom().for_each(|(_, name)| put_text(out, name));
        put_length(out, self.rules().len());
        self.rules().iter().for_each(|rule| write_rule(rule, out));
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, JournalError> {
        let custom = texts(from)?;
        let metrics =
            Metrics::with_custom(&custom).map_err(|_| from.damaged("names of metrics"))?;
        let mut rules = Vec::new();
        for _ in 0..from.number()? {
            rules.push(read_rule(from)?);
        }
        Ok(Self::new(rules, metrics)?)
    }
}

fn write_rule(rule: &CompiledRule, out: &mut Vec<u8>) {
    put_text(out, rule.name());
    out.push(match rule.mode {
        Mode::Enforce => 0,
        Mode::Shadow => 1,
    });
    out.push(match rule.store_down() {
        StoreDown::Closed => 0,
        StoreDown::Open => 1,
        StoreDown::Share => 2,
    });
    put_length(out, rule.when.len());
    for (label, any) in &rule.when {
        put_text(out, label);
        put_length(out, any.len());
        any.iter()
            .for_each(|pattern| put_text(out, &pattern.text()));
    }
    put_length(out, rule.per.len());
    rule.per.iter().for_each(|label| put_text(out, label));
    put_length(out, rule.limits.len());
    for limit in &rule.limits {
        put_length(out, limit.metric.index());
        put(out, limit.info.amount);
        write_shape(&limit.info.shape, out);
    }
}

fn read_rule(from: &mut Reader<'_>) -> Result<Rule, JournalError> {
    let name = from.text()?.to_owned();
    let mode = match from.byte()? {
        0 => Mode::Enforce,
        1 => Mode::Shadow,
        _ => return Err(from.damaged("mode")),
    };
    let store_down = match from.byte()? {
        0 => StoreDown::Closed,
        1 => StoreDown::Open,
        2 => StoreDown::Share,
        _ => return Err(from.damaged("choice for a lost store")),
    };
    let mut when = Vec::new();
    for _ in 0..from.number()? {
        when.push((from.text()?.to_owned(), texts(from)?));
    }
    let per = texts(from)?;
    let mut limits = Vec::new();
    for _ in 0..from.number()? {
        limits.push((metric(from)?, from.number()?, read_shape(from)?));
    }
    Ok(Rule {
        name,
        when,
        per,
        limits,
        mode,
        store_down,
    })
}

fn metric(from: &mut Reader<'_>) -> Result<Metric, JournalError> {
    let index = from.number32()?;
    let metric = Metric::all().nth(num::index(index));
    metric.ok_or_else(|| from.damaged("metric"))
}

fn texts(from: &mut Reader<'_>) -> Result<Vec<String>, JournalError> {
    let mut texts = Vec::new();
    for _ in 0..from.number()? {
        texts.push(from.text()?.to_owned());
    }
    Ok(texts)
}

fn write_shape(shape: &Shape, out: &mut Vec<u8>) {
    match shape {
        Shape::Bucket {
            every,
            burst,
            strict,
        } => {
            out.push(match strict {
                false => BUCKET,
                true => STRICT,
            });
            put(out, every.as_nanos());
            // No burst is zero.
            put(out, burst.unwrap_or(0));
        }
        Shape::Sliding { every } => {
            out.push(SLIDING);
            put(out, every.as_nanos());
        }
        Shape::Fixed { window, timezone } => {
            out.push(FIXED);
            let place = Calendar::ALL.iter().position(|known| known == window);
            put_length(out, place.unwrap_or(0));
            write_zone(timezone, out);
        }
        Shape::Concurrency => out.push(CONCURRENCY),
    }
}

fn read_shape(from: &mut Reader<'_>) -> Result<Shape, JournalError> {
    match from.byte()? {
        kind @ (BUCKET | STRICT) => Ok(Shape::Bucket {
            every: Span::from_nanos(from.number()?),
            burst: Some(from.number()?).filter(|burst| *burst > 0),
            strict: kind == STRICT,
        }),
        SLIDING => Ok(Shape::Sliding {
            every: Span::from_nanos(from.number()?),
        }),
        FIXED => {
            let place = num::index(from.number32()?);
            let window = Calendar::ALL.get(place).copied();
            Ok(Shape::Fixed {
                window: window.ok_or_else(|| from.damaged("calendar window"))?,
                timezone: read_zone(from)?,
            })
        }
        CONCURRENCY => Ok(Shape::Concurrency),
        _ => Err(from.damaged("shape of a limit")),
    }
}

const BUCKET: u8 = 0;
const STRICT: u8 = 1;
const SLIDING: u8 = 2;
const FIXED: u8 = 3;
const CONCURRENCY: u8 = 4;

/// A zone by its name, or by its seconds from UTC if it has none.
fn write_zone(timezone: &TimeZone, out: &mut Vec<u8>) {
    let name = timezone.iana_name().unwrap_or("");
    put_text(out, name);
    if name.is_empty() {
        let offset = timezone.to_fixed_offset();
        let seconds = offset.map_or(0, |offset| offset.seconds());
        put_signed(out, i64::from(seconds));
    }
}

fn read_zone(from: &mut Reader<'_>) -> Result<TimeZone, JournalError> {
    let name = from.text()?;
    if !name.is_empty() {
        return TimeZone::get(name).map_err(|_| JournalError::Zone(name.to_owned()));
    }
    let seconds = i32::try_from(from.signed()?).ok();
    let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok());
    offset
        .map(TimeZone::fixed)
        .ok_or_else(|| from.damaged("offset of a time zone"))
}

#[cfg(test)]
mod tests;
