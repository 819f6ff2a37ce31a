//! A small bench harness: contestants take turns in one run, and the median of their rounds is quoted.
use std::time::Instant;

/// One way to do the work; `ops` is how many operations a call of `run` makes.
pub(crate) struct Contestant<'a> {
    pub(crate) name: &'static str,
    pub(crate) ops: u64,
    pub(crate) run: Box<dyn FnMut() + 'a>,
}

/// A contestant's figure: the median of its rounds, in nanoseconds an operation, with the fastest and slowest.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Figure {
    pub(crate) work: String,
    pub(crate) name: &'static str,
    pub(crate) median_ns: f64,
    pub(crate) min_ns: f64,
    pub(crate) max_ns: f64,
}

/// How often each contestant runs after one warm-up.
const ROUNDS: usize = 9;

/// Lets the contestants run in turns: A B C A B C …
pub(crate) fn race(work: &str, mut contestants: Vec<Contestant<'_>>) -> Vec<Figure> {
    let mut laps: Vec<Vec<f64>> = contestants.iter().map(|_| Vec::new()).collect();
    for round in 0..=ROUNDS {
        for (contestant, laps) in contestants.iter_mut().zip(&mut laps) {
            let start = Instant::now();
            (contestant.run)();
            let nanos = start.elapsed().as_nanos() as f64 / contestant.ops as f64;
            if round > 0 {
                laps.push(nanos);
            }
        }
    }
    let figures = contestants.iter().zip(laps);
    figures
        .map(|(contestant, mut laps)| {
            laps.sort_by(f64::total_cmp);
            Figure {
                work: work.to_owned(),
                name: contestant.name,
                median_ns: laps[ROUNDS / 2],
                min_ns: laps[0],
                max_ns: laps[ROUNDS - 1],
            }
        })
        .collect()
}

/// Prints the figures as a table, or as JSON where `--json` was given.
pub(crate) fn print(figures: &[Figure]) {
    if std::env::args().any(|argument| argument == "--json") {
        println!(
            "{}",
            serde_json::to_string_pretty(figures).expect("figures are plain data")
        );
        return;
    }
    println!(
        "{:<44} {:<34} {:>10} {:>10} {:>10}",
        "work", "contestant", "median ns", "min", "max"
    );
    for figure in figures {
        println!(
            "{:<44} {:<34} {:>10.1} {:>10.1} {:>10.1}",
            figure.work, figure.name, figure.median_ns, figure.min_ns, figure.max_ns
        );
    }
}

/// A small generator of numbers that are the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}
