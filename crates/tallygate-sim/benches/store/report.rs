//! Figures, as tables or as JSON.

use serde::Serialize;

use super::machine;
use super::options::Options;

/// All that was measured.
#[derive(Serialize)]
pub(super) struct Report {
    engine: String,
    laps: usize,
    processors: usize,
    parts: Vec<Table>,
    #[serde(skip)]
    json: bool,
}

/// The figures of one part: contestants by measures.
#[derive(Serialize)]
pub(super) struct Table {
    part: &'static str,
    about: String,
    /// Processors in use by others just before, and the load of the minute before.
    busy: f64,
    load: f64,
    rows: Vec<Row>,
    bars: Vec<Bar>,
}

#[derive(Serialize)]
struct Row {
    contestant: String,
    figures: Vec<Figure>,
}

/// The median of the laps, and its extremes.
#[derive(Serialize, Clone)]
pub(super) struct Figure {
    measure: &'static str,
    median: f64,
    min: f64,
    max: f64,
}

/// What was to be reached.
#[derive(Serialize)]
struct Bar {
    what: String,
    value: f64,
    bar: f64,
    met: bool,
}

/// On which side of a bar it is good to be.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Figure {
    /// Of one figure a lap.
    pub(super) fn of(measure: &'static str, laps: impl IntoIterator<Item = f64>) -> Self {
        let mut laps: Vec<f64> = laps.into_iter().collect();
        laps.sort_by(f64::total_cmp);
        let at = |index: usize| laps.get(index).copied().unwrap_or(f64::NAN);
        Self {
            measure,
            median: at(laps.len() / 2),
            min: at(0),
            max: at(laps.len().saturating_sub(1)),
        }
    }

    pub(super) fn median(&self) -> f64 {
        self.median
    }
}

impl Table {
    pub(super) fn new(part: &'static str, about: impl Into<String>) -> Self {
        Self {
            part,
            about: about.into(),
            busy: machine::busy_processors().unwrap_or(f64::NAN),
            load: machine::load().unwrap_or(f64::NAN),
            rows: Vec::new(),
            bars: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, contestant: impl Into<String>, figures: Vec<Figure>) {
        self.rows.push(Row {
            contestant: contestant.into(),
            figures,
        });
    }

    pub(super) fn bar(&mut self, what: impl Into<String>, value: f64, wanted: Wanted) {
        let (bar, met) = match wanted {
            Wanted::AtLeast(bar) => (bar, value >= bar),
            Wanted::AtMost(bar) => (bar, value <= bar),
        };
        self.bars.push(Bar {
            what: what.into(),
            value,
            bar,
            met,
        });
    }

    fn print(&self) {
        println!("\n{}: {}", self.part, self.about);
        println!(
            "  (before it others used {:.2} processors; load {:.1})",
            self.busy, self.load
        );
        let mut header: Vec<&str> = Vec::new();
        for row in &self.rows {
            let measures: Vec<&str> = row.figures.iter().map(|figure| figure.measure).collect();
            if measures != header {
                println!(
                    "  {:<28}{}",
                    "",
                    cells(measures.iter().map(|measure| (*measure).to_owned()))
                );
                header = measures;
            }
            println!(
                "  {:<28}{}",
                row.contestant,
                cells(row.figures.iter().map(shown))
            );
        }
        for bar in &self.bars {
            let verdict = if bar.met { "met" } else { "MISSED" };
            println!(
                "  {:<58} {:>8} (bar {}): {verdict}",
                bar.what,
                number(bar.value),
                number(bar.bar)
            );
        }
    }
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            engine: options.engine.to_string(),
            laps: options.laps,
            processors: machine::processors(),
            parts: Vec::new(),
            json: options.json,
        }
    }

    pub(super) fn add(&mut self, table: Table) {
        if !self.json {
            table.print();
        }
        self.parts.push(table);
    }

    pub(super) fn end(&self) {
        if self.json {
            println!("{}", serde_json::to_string_pretty(self).unwrap_or_default());
        } else {
            println!(
                "\n{}, {} processors, medians of up to {} laps",
                self.engine, self.processors, self.laps
            );
        }
    }
}

fn cells(texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| format!("{text:>18}")).collect()
}

/// The median, and how far from it the extremes are.
fn shown(figure: &Figure) -> String {
    let apart = (figure.max - figure.median).max(figure.median - figure.min);
    if apart == 0.0 || figure.median == 0.0 {
        return number(figure.median);
    }
    format!(
        "{} ±{:.0}%",
        number(figure.median),
        100.0 * apart / figure.median
    )
}

fn number(value: f64) -> String {
    match value.abs() {
        1000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
