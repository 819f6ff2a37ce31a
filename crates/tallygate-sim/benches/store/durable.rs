//! The store in a folder beside the one in memory alone: reserve and settle, two limits of one user, with one, 64 and 1024 callers in
//! flight; and how long the next start takes after that.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tallygate_core::{Amounts, Decision, Metric};
use tallygate_sim::Rng;
use tallygate_store::folder::{DataFolder, FolderError, Purpose};
use tallygate_store::{
    Durability, MemoryOptions, MemoryStore, Reserve, SettledBy, Settlement, Store, WaitsFor,
};
use tokio::runtime::Runtime;

use super::histogram::Histogram;
use super::options::Options;
use super::report::{Figure, Report, Table};
use super::{Outcome, policies};

const USERS: u64 = 10_000;
const IN_FLIGHT: [usize; 3] = [1, 64, 1024];
const LAP: Duration = Duration::from_secs(2);

/// How often the disk alone is synced for its figure.
const SYNCS: usize = 200;

/// Whether and how a store lasts.
const KINDS: [(&str, Option<Durability>); 3] = [
    ("off", None),
    ("relaxed", Some(Durability::Relaxed)),
    ("sync", Some(Durability::Sync)),
];

/// What came of a lap.
struct Lap {
    pairs_a_second: f64,
    reserve: Histogram,
    /// How long the next start took.
    start: Duration,
    /// What was in the folder then.
    bytes: u64,
}

pub(super) fn run(options: &Options, report: &mut Report) -> Outcome {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("durable-{}", std::process::id()));
    let sync = synced(&folder)?;
    let about = format!(
        "reserve and settle in this process, two limits of one of {USERS} users; a sync of 512 bytes takes the disk {:.0} us",
        sync.as_secs_f64() * 1e6
    );
    let mut table = Table::new("durable", about);
    let runtime = Runtime::new()?;
    for callers in IN_FLIGHT {
        let mut laps: [Vec<Lap>; 3] = Default::default();
        for _ in 0..options.laps {
            for (laps, (_, durability)) in laps.iter_mut().zip(KINDS) {
                laps.push(lap(&runtime, &folder, durability, callers)?);
            }
        }
        for (laps, (name, _)) in laps.iter().zip(KINDS) {
            table.row(format!("{name}, {callers} in flight"), figures(laps));
        }
    }
    report.add(table);
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

fn figures(laps: &[Lap]) -> Vec<Figure> {
    let micros = |share: f64| {
        laps.iter()
            .map(move |lap| lap.reserve.at(share).as_secs_f64() * 1e6)
    };
    vec![
        Figure::of("pairs/s", laps.iter().map(|lap| lap.pairs_a_second)),
        Figure::of("reserve p50 us", micros(0.5)),
        Figure::of("p99 us", micros(0.99)),
        Figure::of(
            "MB in folder",
            laps.iter().map(|lap| lap.bytes as f64 / 1e6),
        ),
        Figure::of(
            "next start ms",
            laps.iter().map(|lap| lap.start.as_secs_f64() * 1e3),
        ),
    ]
}

/// The median time of a sync.
fn synced(folder: &Path) -> Outcome<Duration> {
    fs::create_dir_all(folder)?;
    let path = folder.join("sync");
    let mut file = File::create(&path)?;
    let mut spans = Vec::new();
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&[0; 512])?;
        file.sync_data()?;
        spans.push(began.elapsed());
    }
    fs::remove_file(path)?;
    spans.sort_unstable();
    Ok(spans[SYNCS / 2])
}

fn lap(
    runtime: &Runtime,
    folder: &Path,
    durability: Option<Durability>,
    callers: usize,
) -> Outcome<Lap> {
    let _ = fs::remove_dir_all(folder);
    let store = open(folder, durability)?;
    let (pairs, reserve, took) = runtime.block_on(load(&store, callers));
    runtime.block_on(store.close());
    drop(store);
    until_free(folder);
    let bytes = size(folder)?;
    let began = Instant::now();
    let next = open(folder, durability)?;
    let start = began.elapsed();
    drop(next);
    until_free(folder);
    Ok(Lap {
        pairs_a_second: pairs as f64 / took.as_secs_f64(),
        reserve,
        start,
        bytes,
    })
}

/// Waits for the threads of a store that was dropped in this process: the next process would not have to.
fn until_free(folder: &Path) {
    while let Err(FolderError::InUse { .. }) = DataFolder::open(folder, Purpose::Own) {}
}

fn open(folder: &Path, durability: Option<Durability>) -> Outcome<Arc<MemoryStore>> {
    let policy = policies::plenty_a_user()?;
    let options = MemoryOptions::default();
    let Some(durability) = durability else {
        return Ok(MemoryStore::new(&policy, options));
    };
    let folder = DataFolder::open(folder, Purpose::Own)?;
    Ok(MemoryStore::open(&policy, options, folder, durability)?)
}

/// Pairs of so many callers at once, for a lap.
async fn load(store: &Arc<MemoryStore>, callers: usize) -> (u64, Histogram, Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|number| tokio::spawn(call(store.clone(), stop.clone(), number as u64)))
        .collect();
    tokio::time::sleep(LAP).await; // tidy: sleeps because a lap is a length of real time
    stop.store(true, Ordering::Relaxed);
    let (mut pairs, mut reserve) = (0, Histogram::default());
    for task in tasks {
        let (made, took) = task.await.unwrap_or_default();
        pairs += made;
        reserve.merge(&took);
    }
    (pairs, reserve, began.elapsed())
}

async fn call(store: Arc<MemoryStore>, stop: Arc<AtomicBool>, number: u64) -> (u64, Histogram) {
    let mut rng = Rng::new(number);
    let (mut pairs, mut reserve) = (0, Histogram::default());
    while !stop.load(Ordering::Relaxed) {
        let user = rng.below(USERS).to_string();
        let ask = Reserve {
            subject: &[("user", &user)],
            demand: amounts(100),
            ttl: Duration::from_secs(60),
            max_wait: Duration::ZERO,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        let began = Instant::now();
        if let Ok(Decision::Admit(admission)) = store.reserve(ask).await {
            reserve.add(began.elapsed());
            let settled = store.settle(admission.id, Settlement::Exact(amounts(60)));
            pairs += u64::from(settled.await.is_ok());
        }
        // Where nothing is waited for, others are to have their turn all the same.
        tokio::task::yield_now().await;
    }
    (pairs, reserve)
}

fn amounts(tokens: u64) -> Amounts {
    Amounts::ZERO
        .with(Metric::REQUESTS, 1)
        .with(Metric::TOKENS, tokens)
}

/// How many bytes of counters there are.
fn size(folder: &Path) -> Outcome<u64> {
    let counters: PathBuf = folder.join("counters");
    if !counters.exists() {
        return Ok(0);
    }
    let mut bytes = 0;
    for entry in fs::read_dir(counters)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
