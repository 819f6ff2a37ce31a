//! A report for a person: a table with a bar of what each row spent, and what was saved.

use serde_json::Value;
use tallygate_core::text::printable;

/// The widest bar, in cells.
const BAR: u64 = 24;

/// The widest value of a label that is shown whole.
const WIDEST: usize = 40;

/// Names of lengths of the calendar, whose rows stay in order.
const PERIODS: [&str; 4] = ["hour", "day", "week", "month"];

/// The sums that the table shows of each row, with their headings.
const SUMS: [(&str, &str); 5] = [
    ("calls", "calls"),
    ("denied", "denied"),
    ("downgraded", "downgraded"),
    ("input_tokens", "input"),
    ("output_tokens", "output"),
];

/// The report, with at most so many rows.
pub(super) fn text(report: &Value, most: usize) -> String {
    let by = names(report);
    let weight = Weight::of(report);
    let rows = chosen(report, &by, (weight, most));
    let largest = rows.iter().map(|row| weight.weigh(row)).max().unwrap_or(0);
    let mut lines = vec![heading(&by)];
    lines.extend(rows.iter().map(|row| line(row, &by, (weight, largest))));
    let totals = &report["totals"];
    lines.push(line(totals, &by, (weight, 0)));
    let mut out = aligned(&lines, by.len());
    let all = report["rows"].as_array().map_or(0, Vec::len);
    if all > rows.len() {
        let left = all - rows.len();
        out.push_str(&format!(
            "and {left} rows more: --rows N, --csv or --json show them\n"
        ));
    }
    if number(totals, "unpriced_calls") > 0 {
        let calls = grouped(number(totals, "unpriced_calls"));
        out.push_str(&format!(
            "{calls} of the calls have no price: what they cost is in no sum\n"
        ));
    }
    out.push_str(&saved(report));
    out
}

/// What rows are compared by.
#[derive(Clone, Copy)]
enum Weight {
    Cost,
    Tokens,
}

impl Weight {
    /// Cost, where anything cost something.
    fn of(report: &Value) -> Self {
        match number(&report["totals"], "cost") {
            0 => Self::Tokens,
            _ => Self::Cost,
        }
    }

    fn weigh(self, row: &Value) -> u64 {
        number(
            row,
            match self {
                Self::Cost => "cost",
                Self::Tokens => "tokens",
            },
        )
    }
}

fn names(report: &Value) -> Vec<String> {
    let by = report["by"].as_array().into_iter().flatten();
    by.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The heaviest rows, or the latest of a calendar.
fn chosen<'r>(report: &'r Value, by: &[String], (weight, most): (Weight, usize)) -> Vec<&'r Value> {
    let mut rows: Vec<&Value> = report["rows"].as_array().into_iter().flatten().collect();
    if by.iter().any(|name| PERIODS.contains(&name.as_str())) {
        return rows.split_off(rows.len().saturating_sub(most));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(weight.weigh(row)));
    rows.truncate(most);
    rows
}

fn heading(by: &[String]) -> Vec<String> {
    let sums = SUMS.iter().map(|(_, heading)| (*heading).to_owned());
    let last = ["cost".to_owned(), String::new()];
    by.iter()
        .map(|name| shown(name))
        .chain(sums)
        .chain(last)
        .collect()
}

fn line(row: &Value, by: &[String], (weight, largest): (Weight, u64)) -> Vec<String> {
    let is_total = row.get("key").is_none();
    let key = by
        .iter()
        .enumerate()
        .map(|(at, name)| match row["key"][name].as_str() {
            Some("") => "-".to_owned(),
            Some(value) => shown(value),
            None if is_total && at == 0 => "total".to_owned(),
            None => String::new(),
        });
    let sums = SUMS.iter().map(|(name, _)| grouped(number(row, name)));
    let last = [
        dollars(number(row, "cost")),
        bar(weight.weigh(row), largest),
    ];
    key.chain(sums).chain(last).collect()
}

/// What governance saved, each line with its formula.
fn saved(report: &Value) -> String {
    let savings = &report["totals"]["savings"];
    let downgraded = savings["downgraded_cost"].as_i64().unwrap_or(0);
    let rows = [
        (
            "refused",
            Some(number(savings, "refused_tokens")),
            number(savings, "refused_cost"),
            "held of calls that were denied",
        ),
        (
            "downgraded",
            None,
            downgraded.unsigned_abs(),
            "cost on the model asked for, less the cost, of calls that went to another",
        ),
        (
            "refunded",
            Some(number(savings, "refunded_tokens")),
            number(savings, "refunded_cost"),
            "held less used, of calls that were let through",
        ),
    ];
    let largest = rows.iter().map(|(_, _, cost, _)| *cost).max().unwrap_or(0);
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, tokens, cost, formula)| {
            let sign = match downgraded < 0 && *name == "downgraded" {
                true => "-",
                false => "",
            };
            vec![
                (*name).to_owned(),
                tokens.map_or(String::new(), |tokens| {
                    format!("{} tokens", grouped(tokens))
                }),
                format!("{sign}{}", dollars(*cost)),
                format!(
                    "{:<width$}  {formula}",
                    bar(*cost, largest),
                    width = BAR as usize
                ),
            ]
        })
        .collect();
    format!("\nsaved\n{}", aligned(&lines, 1))
}

/// Columns of one width each; the first few stand left, numbers right, and the last as it comes.
fn aligned(lines: &[Vec<String>], left: usize) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let cell = match at {
                _ if at + 1 == columns => cell.clone(),
                _ if at < left => format!("{cell:<width$}  "),
                _ => format!("{cell:>width$}  "),
            };
            text.push_str(&cell);
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or(0)
}

/// A bar as long as its part of the largest; what is more than nothing is seen.
fn bar(part: u64, largest: u64) -> String {
    if part == 0 || largest == 0 {
        return String::new();
    }
    let eighths = u128::from(part) * u128::from(BAR) * 8 / u128::from(largest);
    let eighths = usize::try_from(eighths).unwrap_or(0).max(1);
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{}{rest}", "█".repeat(eighths / 8))
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Micro-dollars as dollars: to the cent, and further where there is more.
fn dollars(micro: u64) -> String {
    let fraction = format!("{:06}", micro % 1_000_000);
    let cents = fraction.trim_end_matches('0').len().max(2);
    format!("${}.{}", grouped(micro / 1_000_000), &fraction[..cents])
}

/// A value that may come from anybody, so that it moves no terminal's cursor.
fn shown(value: &str) -> String {
    let mut out: String = printable(value).chars().take(WIDEST).collect();
    if value.chars().count() > WIDEST {
        out.pop();
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{bar, dollars, grouped, shown, text};

    #[test]
    fn numbers_are_grouped_and_dollars_exact() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1_000, 12_345_678].map(grouped)
        );
        let micro = [0, 1, 10_000, 1_250_000, 1_234_567_890_000];
        assert_eq!(
            ["$0.00", "$0.000001", "$0.01", "$1.25", "$1,234,567.89"],
            micro.map(dollars)
        );
    }

    #[test]
    fn bars_are_parts_of_the_largest() {
        assert_eq!(bar(0, 10), "");
        assert_eq!(bar(10, 10).chars().count(), 24);
        assert_eq!(bar(5, 10).chars().count(), 12);
        assert_eq!(bar(1, u64::MAX), "▏");
    }

    #[test]
    fn no_label_moves_the_cursor() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(shown(&"x".repeat(41)).chars().count(), 40);
    }

    #[test]
    fn the_dearest_rows_come_first_and_the_rest_is_told() {
        let row = |tenant: &str, cost: u64| json!({ "key": { "tenant": tenant }, "calls": 1_200, "cost": cost });
        let report = json!({
            "by": ["tenant"],
            "rows": [row("acme", 5), row("globex", 2_500_000), row("", 1)],
            "totals": { "calls": 3_600, "cost": 2_500_006, "savings": { "refused_tokens": 70 } },
        });
        let shown = text(&report, 2);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("tenant"), "{shown}");
        assert!(
            lines[1].starts_with("globex") && lines[1].contains("$2.50  █"),
            "{shown}"
        );
        assert!(lines[2].starts_with("acme"), "{shown}");
        assert!(
            lines[3].starts_with("total") && lines[3].contains("3,600"),
            "{shown}"
        );
        assert_eq!(
            lines[4],
            "and 1 rows more: --rows N, --csv or --json show them"
        );
        assert!(shown.contains("70 tokens"), "{shown}");
    }
}
