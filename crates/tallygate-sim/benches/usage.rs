//! A ledger of millions of records in a folder: `cargo xtask bench usage [--records N] [--days N] [--json]`.
//!
//! Writes them as a server would, has them merged, and asks the questions that people ask. Each question is asked in
//! turn, the files in the system's cache; the median is told, and beside it the processor time, which a machine that others
//! use does not lengthen: sums are made on as many threads as there are processors, up to four.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench, not an API"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::usage::{
    Call, Dimension, FolderShelf, Labels, Method, Outcome, Query, Record, Shelf, Used,
};

const ASKED: usize = 7;
const BATCH: usize = 8_192;
const USERS: u64 = 10_000;
const DAY: u64 = 86_400_000;
const BEGIN: u64 = 1_790_000_000_000 / DAY * DAY;

struct Options {
    records: u64,
    days: u64,
    json: bool,
}

fn main() {
    let options = options();
    let scratch = Scratch::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let folder = DataFolder::open(&scratch.0, Purpose::Own).unwrap();
    let shelf = FolderShelf::open(folder).unwrap();
    let written = runtime.block_on(write(&shelf, &options));
    let bytes = length(&scratch.0.join("usage"));
    let each = bytes as f64 / options.records as f64;
    if !options.json {
        println!(
            "{} records over {} days, {USERS} users",
            options.records, options.days
        );
        println!("  written and merged in {:.1} s", written.as_secs_f64());
        println!(
            "  on disk {:.1} MB, {each:.1} B a record",
            bytes as f64 / 1e6
        );
    }
    let mut rows = vec![json!({ "bytes_a_record": each, "written_s": written.as_secs_f64() })];
    for (name, query) in questions(&options) {
        let before = cpu();
        let (took, groups) = runtime.block_on(ask(&shelf, &query, options.records));
        let cpu = (cpu() - before).as_secs_f64() / ASKED as f64;
        let seconds = took.as_secs_f64();
        rows.push(json!({ "question": name, "median_s": seconds, "cpu_s": cpu, "rows": groups }));
        if !options.json {
            println!("  {name:<34} {seconds:>8.3} s  {cpu:>8.3} s of processor  {groups:>7} rows");
        }
    }
    if options.json {
        println!("{}", json!(rows));
    }
}

fn options() -> Options {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, otherwise| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(otherwise, |at| arguments[at + 1].parse().unwrap())
    };
    Options {
        records: number("--records", 10_000_000),
        days: number("--days", 30),
        json: arguments.iter().any(|argument| argument == "--json"),
    }
}

fn questions(options: &Options) -> Vec<(&'static str, Query)> {
    let label = |name: &str| Dimension::Label(name.to_owned());
    let by = |by: Vec<Dimension>| Query {
        by,
        ..Query::default()
    };
    let one_day = Query {
        from: BEGIN + options.days / 2 * DAY,
        to: BEGIN + (options.days / 2 + 1) * DAY,
        ..by(vec![label("user")])
    };
    let one_tenant = Query {
        only: vec![(label("tenant"), vec!["tenant-7".to_owned()])],
        ..by(vec![label("user"), Dimension::Model])
    };
    vec![
        ("everything in one sum", by(Vec::new())),
        (
            "by tenant and day",
            by(vec![label("tenant"), Dimension::Day]),
        ),
        (
            "by model, outcome and hour",
            by(vec![Dimension::Model, Dimension::Outcome, Dimension::Hour]),
        ),
        ("by user", by(vec![label("user")])),
        ("by user, of one day", one_day),
        ("by user and model, of one tenant", one_tenant),
    ]
}

async fn ask(shelf: &FolderShelf, query: &Query, records: u64) -> (Duration, usize) {
    let mut times = Vec::new();
    let mut rows = 0;
    for _ in 0..ASKED {
        let begun = Instant::now();
        let report = shelf.answer(query).await.unwrap();
        times.push(begun.elapsed());
        rows = report.rows.len();
        assert_eq!(report.damaged, 0);
        if query.only.is_empty() && query.from == 0 {
            assert_eq!(report.totals.calls, records);
        }
    }
    times.sort();
    (times[ASKED / 2], rows)
}

async fn write(shelf: &FolderShelf, options: &Options) -> Duration {
    let mut traffic = Traffic::new(options);
    let mut spent = Duration::ZERO;
    let mut left = options.records;
    while left > 0 {
        let count = left.min(BATCH as u64);
        let batch: Vec<Record> = (0..count).map(|_| traffic.next()).collect();
        left -= count;
        let begun = Instant::now();
        shelf.append(&batch).await.unwrap();
        if (left / count).is_multiple_of(16) {
            shelf.drop_before(0).await.unwrap();
        }
        spent += begun.elapsed();
    }
    shelf.drop_before(0).await.unwrap();
    spent
}

/// Calls evenly over the days; users by chance, four models, one call in fifty denied.
struct Traffic {
    dice: u64,
    time: f64,
    step: f64,
    users: Vec<Labels>,
    kinds: Vec<Call>,
}

impl Traffic {
    fn new(options: &Options) -> Self {
        let user = |user: u64| {
            let (tenant, name) = (format!("tenant-{}", user % 100), format!("user-{user}"));
            let key = format!("key-{}", user % 1_000);
            Labels::new([
                ("tenant", &*tenant),
                ("user", &*name),
                ("key", &*key),
                ("tier", "pro"),
            ])
        };
        let kind = |model: &str| Call {
            model: model.into(),
            asked: model.into(),
            upstream: "openai".into(),
            ..Call::default()
        };
        let mut kinds: Vec<Call> = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3"].map(kind).into();
        kinds.push(Call {
            outcome: Outcome::Denied,
            limit: "pro-day".into(),
            ..kind("gpt-4o")
        });
        kinds.push(Call {
            model: "gpt-4o-mini".into(),
            ..kind("gpt-4o")
        });
        kinds.push(Call {
            method: Method::Counted,
            ..kind("gpt-4o")
        });
        Self {
            dice: 42,
            time: BEGIN as f64,
            step: (options.days * DAY) as f64 / options.records as f64,
            users: (0..USERS).map(user).collect(),
            kinds,
        }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % below
    }

    fn next(&mut self) -> Record {
        self.time += self.step;
        let user = self.roll(USERS) as usize;
        let labels = self.users[user].clone();
        let call = match self.roll(50) {
            0 => self.kinds[4].clone(),
            1 | 2 => self.kinds[5].clone(),
            3 => self.kinds[6].clone(),
            other => self.kinds[other as usize % 4].clone(),
        };
        // Lengths as in real traffic: many short ones, few long ones.
        let input = 30 + (1 << self.roll(12)) + self.roll(500);
        let output = 5 + (1 << self.roll(10)) + self.roll(100);
        let denied = call.outcome == Outcome::Denied;
        let cost = input * 5 / 2 + output * 10;
        let used = match denied {
            true => Used::default(),
            false => Used {
                input,
                cached_input: if self.roll(3) == 0 { input / 2 } else { 0 },
                output,
                ..Used::default()
            },
        };
        Record {
            time: self.time as u64,
            labels,
            used,
            held: input + 1_000,
            cost: Some(if denied { 0 } else { cost }),
            held_cost: Some(input * 5 / 2 + 10_000),
            asked_cost: Some(if denied { 0 } else { cost }),
            waited_ms: if self.roll(20) == 0 {
                self.roll(3_000)
            } else {
                0
            },
            latency_ms: if denied { 0 } else { 200 + self.roll(9_000) },
            call,
        }
    }
}

/// A folder that goes with its value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let name = format!("tallygate-usage-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn length(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

/// User and system time of this process so far, in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The second field is the name in brackets and may hold blanks: fields are counted from behind it.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
