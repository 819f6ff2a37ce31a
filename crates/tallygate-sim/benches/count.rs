//! Our counter against bpe-openai on documents of 8 KB, one thread, CPU time, in turn in one run.
//!
//! `cargo xtask bench count [--rounds N] [--json]`
//!
//! Every document must get the same count from both before anything is measured. Nothing is remembered between counts: the
//! cache by message is off, so the figures are of counting itself, with warm tables.
#![expect(clippy::print_stdout, reason = "a benchmark speaks on standard output")]

#[path = "count/corpus.rs"]
mod corpus;
#[path = "count/cpu.rs"]
mod cpu;

use std::error::Error;
use std::hint::black_box;

use corpus::Corpus;
use tallygate_tokens::Counter;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A counter of tokens under test.
type Count<'a> = &'a dyn Fn(&str) -> u64;

/// What the rounds over one corpus gave: CPU nanoseconds each.
#[derive(Default)]
struct Rounds {
    ours: Vec<u64>,
    theirs: Vec<u64>,
}

fn main() -> Outcome {
    let options = Options::from_args(std::env::args().skip(1))?;
    let counter = Counter::new([0, 0], 0);
    let ours = |text: &str| counter.text("gpt-4o", text).tokens;
    let theirs = |text: &str| bpe_openai::o200k_base().count(text) as u64;
    let mut rows = Vec::new();
    for corpus in corpus::all()? {
        let tokens = compare(&corpus, &ours, &theirs)?;
        let rounds = measure(&corpus, options.rounds, [&ours, &theirs])?;
        rows.push(Row::new(&corpus, tokens, rounds));
    }
    report(&rows, &options);
    Ok(())
}

/// The tokens of a corpus; an error where the two differ.
fn compare(corpus: &Corpus, ours: Count<'_>, theirs: Count<'_>) -> Outcome<u64> {
    let mut tokens = 0;
    for (index, document) in corpus.documents.iter().enumerate() {
        let (one, other) = (ours(document), theirs(document));
        if one != other {
            return Err(format!(
                "{} document {index}: {one} tokens here, {other} there",
                corpus.name
            )
            .into());
        }
        tokens += one;
    }
    Ok(tokens)
}

fn measure(corpus: &Corpus, rounds: usize, [ours, theirs]: [Count<'_>; 2]) -> Outcome<Rounds> {
    let passes = (BYTES_A_ROUND / corpus.bytes().max(1)).max(1);
    let time = |count: Count<'_>| -> Outcome<u64> {
        let before = cpu::nanos()?;
        for _ in 0..passes {
            for document in &corpus.documents {
                black_box(count(black_box(document)));
            }
        }
        Ok((cpu::nanos()? - before) / passes as u64)
    };
    let mut measured = Rounds::default();
    for _ in 0..rounds {
        measured.ours.push(time(ours)?);
        measured.theirs.push(time(theirs)?);
    }
    Ok(measured)
}

struct Row {
    name: &'static str,
    bytes: usize,
    tokens: u64,
    ours: f64,
    theirs: f64,
}

impl Row {
    fn new(corpus: &Corpus, tokens: u64, rounds: Rounds) -> Self {
        let rate = |mut nanos: Vec<u64>| {
            nanos.sort_unstable();
            corpus.bytes() as f64 * 1e3 / nanos[nanos.len() / 2].max(1) as f64
        };
        Self {
            name: corpus.name,
            bytes: corpus.bytes(),
            tokens,
            ours: rate(rounds.ours),
            theirs: rate(rounds.theirs),
        }
    }

    fn ratio(&self) -> f64 {
        self.ours / self.theirs
    }
}

fn report(rows: &[Row], options: &Options) {
    // The bar is set on the three Latin corpora.
    let latin: Vec<f64> = rows
        .iter()
        .filter(|row| row.name != "CJK")
        .map(Row::ratio)
        .collect();
    let mean = latin.iter().product::<f64>().powf(1.0 / latin.len() as f64);
    if options.json {
        let row = |row: &Row| serde_json::json!({ "corpus": row.name, "bytes": row.bytes, "tokens": row.tokens, "ours_mb_s": row.ours, "bpe_openai_mb_s": row.theirs, "ratio": row.ratio() });
        let rows: Vec<_> = rows.iter().map(row).collect();
        println!(
            "{}",
            serde_json::json!({ "bench": "count", "rows": rows, "geometric_mean": mean, "bar": BAR })
        );
        return;
    }
    println!(
        "o200k_base, documents of 8 KB, one thread, medians of {} rounds of CPU time; all counts equal",
        options.rounds
    );
    println!(
        "{:<8} {:>10} {:>9} {:>12} {:>18} {:>8}",
        "corpus", "bytes", "tokens", "ours MB/s", "bpe-openai MB/s", "ratio"
    );
    for row in rows {
        println!(
            "{:<8} {:>10} {:>9} {:>12.0} {:>18.0} {:>8.2}",
            row.name,
            row.bytes,
            row.tokens,
            row.ours,
            row.theirs,
            row.ratio()
        );
    }
    println!("geometric mean of prose, code and JSON: {mean:.2} × (bar: {BAR} × or more)");
}

struct Options {
    rounds: usize,
    json: bool,
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            rounds: 7,
            json: false,
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--rounds" => {
                    options.rounds = args
                        .next()
                        .and_then(|text| text.parse().ok())
                        .ok_or("--rounds needs a number")?
                }
                "--json" => options.json = true,
                // Cargo's own.
                "--bench" => {}
                other => return Err(format!("unknown argument `{other}`").into()),
            }
        }
        options.rounds = options.rounds.max(1);
        Ok(options)
    }
}

/// A round is long against the granularity of the CPU clock.
const BYTES_A_ROUND: usize = 16 << 20;

/// How much faster than bpe-openai counting should be.
const BAR: f64 = 3.0;
