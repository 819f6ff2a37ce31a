//! The same answers, record by record, by the formulas as the documents state them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::usage::{Dimension, Method, Outcome, Query, Record, Report, Row, Totals};

pub(in super::super) fn answer(records: &[Record], query: &Query) -> Report {
    let mut rows: BTreeMap<Vec<String>, Totals> = BTreeMap::new();
    let mut totals = Totals::default();
    for record in records.iter().filter(|record| is_wanted(record, query)) {
        let key = query.by.iter().map(|by| value(record, by, query)).collect();
        count(record, rows.entry(key).or_default());
        count(record, &mut totals);
    }
    let row = |(key, totals)| Row { key, totals };
    Report {
        by: query.by.clone(),
        rows: rows.into_iter().map(row).collect(),
        totals,
        without_row: 0,
        damaged: 0,
    }
}

fn is_wanted(record: &Record, query: &Query) -> bool {
    let has = |(dimension, values): &(Dimension, Vec<String>)| {
        values.contains(&value(record, dimension, query))
    };
    (query.from..query.to).contains(&record.time) && query.only.iter().all(has)
}

fn value(record: &Record, by: &Dimension, query: &Query) -> String {
    let call = &record.call;
    let at = Timestamp::from_millisecond(record.time.try_into().expect("a time")).expect("a time");
    let at = at.to_zoned(query.zone.clone());
    match by {
        Dimension::Model => call.model.to_string(),
        Dimension::Asked => call.asked.to_string(),
        Dimension::Upstream => call.upstream.to_string(),
        Dimension::Limit => call.limit.to_string(),
        Dimension::Outcome => call.outcome.word().to_owned(),
        Dimension::Method => call.method.word().to_owned(),
        Dimension::Hour => at.strftime("%Y-%m-%dT%H:00%:z").to_string(),
        Dimension::Day => at.strftime("%Y-%m-%d").to_string(),
        Dimension::Week => at.strftime("%G-W%V").to_string(),
        Dimension::Month => at.strftime("%Y-%m").to_string(),
        Dimension::Label(name) => record.labels.get(name).unwrap_or_default().to_owned(),
    }
}

fn count(record: &Record, sum: &mut Totals) {
    let used = record.used;
    let tokens = used.input + used.output;
    let cost = record.cost.unwrap_or(0);
    let denied = matches!(record.call.outcome, Outcome::Denied | Outcome::Never);
    sum.calls += 1;
    sum.used.input += used.input;
    sum.used.cached_input += used.cached_input;
    sum.used.cache_write += used.cache_write;
    sum.used.output += used.output;
    sum.used.reasoning += used.reasoning;
    sum.cost += cost;
    sum.waited_ms += record.waited_ms;
    sum.latency_ms += record.latency_ms;
    let unknown = (record.call.outcome, record.call.method) == (Outcome::Settled, Method::Kept);
    if record.cost.is_none() && (tokens > 0 || unknown) {
        sum.unpriced += 1;
    }
    let held_cost = record.held_cost.unwrap_or(0);
    if denied {
        sum.denied += 1;
        if record.call.outcome == Outcome::Denied {
            sum.savings.refused_tokens += record.held;
            sum.savings.refused_cost += held_cost;
        }
        return;
    }
    sum.admitted += 1;
    sum.savings.refunded_tokens += record.held.saturating_sub(tokens);
    sum.savings.refunded_cost += held_cost.saturating_sub(cost);
    sum.savings.overrun_tokens += tokens.saturating_sub(record.held);
    if record.call.model != record.call.asked {
        sum.downgraded += 1;
        if let (Some(asked), Some(cost)) = (record.asked_cost, record.cost) {
            sum.savings.downgraded_cost +=
                i64::try_from(asked).expect("small") - i64::try_from(cost).expect("small");
        }
    }
}
