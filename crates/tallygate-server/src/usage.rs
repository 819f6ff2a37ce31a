//! Reports of usage as JSON and CSV: the same from a server and from a data folder.

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use tallygate_core::Time;
use tallygate_core::text::printable;
use tallygate_store::usage::{Query, Report, Row, Totals};

use crate::wire::rfc3339;

/// How each saving is worked out, by its name.
pub const FORMULAS: [(&str, &str); 6] = [
    ("refused_tokens", "sum of held over calls denied for now"),
    ("refused_cost", "sum of held cost over calls denied for now"),
    (
        "downgraded_cost",
        "sum of (cost on the model asked for - cost) over downgraded calls",
    ),
    (
        "refunded_tokens",
        "sum of max(held - used, 0) over admitted calls",
    ),
    (
        "refunded_cost",
        "sum of max(held cost - cost, 0) over admitted calls",
    ),
    (
        "overrun_tokens",
        "sum of max(used - held, 0) over admitted calls; no saving",
    ),
];

/// A report, with what was asked. Costs are micro-dollars.
#[must_use]
pub fn json(report: &Report, query: &Query) -> Value {
    let at = |millis: u64, unbounded: u64| match millis == unbounded {
        true => Value::Null,
        false => rfc3339(Time::from_millis(millis)).into(),
    };
    let by: Vec<&str> = report.by.iter().map(|by| by.name()).collect();
    let formulas = FORMULAS
        .iter()
        .map(|(name, formula)| ((*name).to_owned(), (*formula).into()));
    json!({
        "by": by,
        "from": at(query.from, 0),
        "to": at(query.to, u64::MAX),
        "timezone": query.zone.iana_name().unwrap_or("UTC"),
        "rows": report.rows.iter().map(|one| row(one, &by)).collect::<Vec<_>>(),
        "totals": Value::Object(sums(&report.totals)),
        "formulas": Value::Object(formulas.collect()),
        "calls_without_row": report.without_row,
        "damaged": report.damaged,
    })
}

fn row(row: &Row, by: &[&str]) -> Value {
    let key = by.iter().zip(&row.key);
    let key = key.map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
    let mut told = Map::new();
    told.insert("key".to_owned(), Value::Object(key.collect()));
    told.extend(sums(&row.totals));
    Value::Object(told)
}

fn sums(totals: &Totals) -> Map<String, Value> {
    let named = |(name, sum): (&str, Value)| (name.to_owned(), sum);
    let own = own_sums(totals).map(|(name, sum)| (name, sum.into()));
    let mut told: Map<String, Value> = own.into_iter().map(named).collect();
    let savings = savings(totals).into_iter().map(named).collect();
    told.insert("savings".to_owned(), Value::Object(savings));
    told
}

/// What was called and used, by its name.
fn own_sums(totals: &Totals) -> [(&'static str, u64); 14] {
    let used = &totals.used;
    [
        ("calls", totals.calls),
        ("admitted", totals.admitted),
        ("denied", totals.denied),
        ("downgraded", totals.downgraded),
        ("input_tokens", used.input),
        ("cached_input_tokens", used.cached_input),
        ("cache_write_tokens", used.cache_write),
        ("output_tokens", used.output),
        ("reasoning_tokens", used.reasoning),
        ("tokens", used.tokens()),
        ("cost", totals.cost),
        ("unpriced_calls", totals.unpriced),
        ("waited_ms", totals.waited_ms),
        ("latency_ms", totals.latency_ms),
    ]
}

/// What governance saved, by the names of [`FORMULAS`].
fn savings(totals: &Totals) -> [(&'static str, Value); 6] {
    let saved = &totals.savings;
    [
        ("refused_tokens", saved.refused_tokens.into()),
        ("refused_cost", saved.refused_cost.into()),
        ("downgraded_cost", saved.downgraded_cost.into()),
        ("refunded_tokens", saved.refunded_tokens.into()),
        ("refunded_cost", saved.refunded_cost.into()),
        ("overrun_tokens", saved.overrun_tokens.into()),
    ]
}

/// A report made by [`json()`] as comma-separated values (RFC 4180): a line of names, then a line a row.
#[must_use]
pub fn csv(report: &Value) -> String {
    let mut text = Vec::new();
    // Nothing that is written to memory fails.
    drop(write_csv(report, &mut text));
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes what [`csv()`] gives.
///
/// # Errors
/// Those of `out`.
pub(crate) fn write_csv(report: &Value, out: &mut dyn Write) -> io::Result<()> {
    let by: Vec<&str> = listed(&report["by"]).filter_map(Value::as_str).collect();
    let sums = own_sums(&Totals::default()).map(|(name, _)| name);
    let saved = FORMULAS.map(|(name, _)| name);
    let ours = sums.iter().chain(&saved).map(|name| (*name).to_owned());
    let names = by.iter().map(|name| cell(name)).chain(ours);
    out.write_all(line(names).as_bytes())?;
    for row in listed(&report["rows"]) {
        let key = by
            .iter()
            .map(|name| cell(row["key"][name].as_str().unwrap_or_default()));
        let sums = sums.iter().map(|name| row[name].to_string());
        let saved = saved.iter().map(|name| row["savings"][name].to_string());
        out.write_all(line(key.chain(sums).chain(saved)).as_bytes())?;
    }
    Ok(())
}

fn listed(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value that may come from anybody. A spreadsheet takes what begins like a formula for one, so that begins with a `'`
/// (OWASP, "CSV Injection").
fn cell(value: &str) -> String {
    let mark = match value.starts_with(FORMULA_MARKS) {
        true => "'",
        false => "",
    };
    format!("{mark}{}", printable(value))
}

const FORMULA_MARKS: [char; 11] = [
    '=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
];

fn line(fields: impl Iterator<Item = String>) -> String {
    let quoted = fields.map(|field| match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    });
    format!("{}\r\n", quoted.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use tallygate_store::usage::{Dimension, Query, Report, Row, Totals};

    use super::{csv, json};

    #[test]
    fn values_with_commas_and_quotes_stay_one_field() {
        let row = Row {
            key: vec!["a \"b\", c".to_owned(), String::new()],
            totals: Totals {
                calls: 2,
                ..Totals::default()
            },
        };
        let report = Report {
            by: vec![Dimension::Label("tenant".to_owned()), Dimension::Model],
            rows: vec![row],
            ..Report::default()
        };
        let written = csv(&json(&report, &Query::default()));
        let lines: Vec<&str> = written.lines().collect();
        assert!(lines[0].starts_with("tenant,model,calls,admitted,denied,"));
        assert!(
            lines[1].starts_with("\"a \"\"b\"\", c\",,2,0,0,"),
            "{}",
            lines[1]
        );
        assert_eq!(lines[0].split(',').count(), 22);
    }

    #[test]
    fn no_value_is_a_formula_or_moves_the_cursor() {
        let row = |value: &str| Row {
            key: vec![value.to_owned()],
            totals: Totals::default(),
        };
        let sly = [
            "=1+1",
            "+1",
            "-1",
            "@x",
            "\ta",
            "\ra",
            "\u{ff1d}1",
            "a\u{1b}[2J\u{202e}",
            "a=b",
        ];
        let mut saved = Totals::default();
        saved.savings.downgraded_cost = -5;
        let mut rows: Vec<Row> = sly.map(row).into();
        rows[8].totals = saved;
        let report = Report {
            by: vec![Dimension::Label("=team".to_owned())],
            rows,
            ..Report::default()
        };
        let written = csv(&json(&report, &Query::default()));
        let first = written.lines().map(|line| line.split(',').next());
        let first: Vec<&str> = first.map(|cell| cell.expect("a cell")).collect();
        assert_eq!(
            first,
            [
                "'=team",
                "'=1+1",
                "'+1",
                "'-1",
                "'@x",
                "'\u{fffd}a",
                "'\u{fffd}a",
                "'\u{ff1d}1",
                "a\u{fffd}[2J\u{fffd}",
                "a=b"
            ]
        );
        assert!(written.contains(",-5,"), "a number stays one: {written}");
    }
}
