//! Rules as Python writes them.
use crate::failure;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;
use tallygate_core::{Calendar, Metrics, Mode, Policy, Rule, Shape, StoreDown};

/// One rule: name, when, per, limits of (metric, amount, shape).
pub(crate) type Written = (
    String,
    BTreeMap<String, Vec<String>>,
    Vec<String>,
    Vec<(String, u64, String)>,
);

/// The policy without the rules named in `gone` and with those `put`. Metrics whose names are new are added to its own.
///
/// # Errors
/// The first rule that cannot be, with its name and what to do.
pub(crate) fn amended(policy: &Policy, put: Vec<Written>, gone: &[String]) -> PyResult<Policy> {
    let metrics = grown(&put, policy.metrics())?;
    let put = put.into_iter().map(|rule| read(rule, &metrics));
    let put = put.collect::<PyResult<Vec<Rule>>>()?;
    let amended = policy.amended(put, gone, metrics);
    amended.map_err(|error| failure::value(error.to_string()))
}

/// The metrics with those that the rules name besides, in the order of their first mention.
fn grown(rules: &[Written], metrics: &Metrics) -> PyResult<Metrics> {
    let built_in = Metrics::default();
    let mut custom: Vec<&str> = metrics
        .iter()
        .map(|(_, name)| name)
        .filter(|name| built_in.find(name).is_none())
        .collect();
    for (_, _, _, limits) in rules {
        for (name, _, _) in limits {
            if built_in.find(name).is_none() && !custom.contains(&&**name) {
                custom.push(name);
            }
        }
    }
    let names = custom.join(", ");
    Metrics::with_custom(custom).map_err(|error| {
        failure::value(format!(
            "{error} beside requests, input_tokens, output_tokens, tokens, cost and concurrency (yours are {names})"
        ))
    })
}

fn read((name, when, per, limits): Written, metrics: &Metrics) -> PyResult<Rule> {
    let limit = |(metric, amount, text): (String, u64, String)| {
        let shape = shape(&text).map_err(|mend| {
            failure::value(format!("the limit `{name}` has the shape `{text}`: {mend}"))
        })?;
        let metric = metrics.find(&metric);
        Ok((
            metric.expect("invariant: every metric of the rules is known"),
            amount,
            shape,
        ))
    };
    let limits = limits
        .into_iter()
        .map(limit)
        .collect::<PyResult<Vec<_>>>()?;
    Ok(Rule {
        name,
        when: when.into_iter().collect(),
        per,
        limits,
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    })
}

const SHAPES: &str = "write `60s`, `bucket 60s burst=10`, `bucket 60s strict`, `sliding 60s`, `day`, `fixed day Europe/Berlin` or `concurrency`";

/// The shape that a text names.
fn shape(text: &str) -> Result<Shape, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match &words[..] {
        ["concurrency"] => Ok(Shape::Concurrency),
        ["bucket", every, options @ ..] => bucket(every, options),
        ["sliding", every] => Ok(Shape::Sliding {
            every: length(every)?.into(),
        }),
        ["fixed", word] => fixed(word, "UTC"),
        ["fixed", word, zone] => fixed(word, zone),
        [word] if Calendar::of_word(word).is_some() => fixed(word, "UTC"),
        [every] => bucket(every, &[]),
        _ => Err(SHAPES.to_owned()),
    }
}

fn bucket(every: &str, options: &[&str]) -> Result<Shape, String> {
    let (mut burst, mut strict) = (None, false);
    for option in options {
        match option.strip_prefix("burst=") {
            Some(amount) => burst = Some(u64::from_str(amount).map_err(|_| SHAPES.to_owned())?),
            None if *option == "strict" => strict = true,
            None => return Err(SHAPES.to_owned()),
        }
    }
    Ok(Shape::Bucket {
        every: length(every)?.into(),
        burst,
        strict,
    })
}

fn fixed(word: &str, zone: &str) -> Result<Shape, String> {
    let window = Calendar::of_word(word).ok_or_else(|| SHAPES.to_owned())?;
    let timezone = jiff::tz::TimeZone::get(zone)
        .map_err(|_| format!("there is no timezone `{zone}`: write one as Europe/Berlin"))?;
    Ok(Shape::Fixed { window, timezone })
}

/// A length of time: a whole number and one of ms, s, m, h, d.
fn length(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number = u64::from_str(number).map_err(|_| SHAPES.to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(SHAPES.to_owned()),
    };
    Ok(Duration::from_millis(number.saturating_mul(millis)))
}
