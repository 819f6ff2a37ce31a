//! Processes that are killed at random moments under load, each on the folder that the one before it left: nothing that was
//! acknowledged is missing, but for what `relaxed` may lose, and no limit is exceeded across them.
//!
//! What `relaxed` may lose is bounded in time: its answers all came within [`RELAXED_BOUND`], by the store's clock. A worker knows
//! that an answer came after it had asked and before it said so; so the last of those that are missing was asked for no later than
//! the bound after the first of them was said, however busy the machine is.
//!
//! `TALLYGATE_KILLS=200 cargo test -p tallygate-store --test it crashes` kills that often.
use crate::support::{ask, block_on, rule, tokens};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tallygate_core::{Calendar, Decision, Metric, Metrics, Policy, ReservationId, Shape};
use tallygate_store::folder::{DataFolder, FolderError, Purpose};
use tallygate_store::{
    Durability, MemoryOptions, MemoryStore, RELAXED_BOUND, SettleError, Settlement, Store,
    StoreError,
};

/// Tells a worker, which is this program again, its folder, durability and group.
const WORKER: &str = "TALLYGATE_CRASH_WORKER";

/// How often a process is killed, for each durability.
const KILLS: usize = 10;

const TASKS: usize = 16;

/// The calls that a group may make in a month: so few that they are used up over some restarts.
fn calls_of(durability: Durability) -> u64 {
    match durability {
        Durability::Sync => 100,
        Durability::Relaxed => 1_500,
    }
}

/// Restarts of a group.
const RESTARTS: usize = 5;

/// Restarts on a folder: what it remembers of ended calls, all of which each start reads, is not to grow for ever.
const LINEAGE: usize = 10;

const LARGEST: u64 = 20;

/// Calls and tokens of a month, apart by group.
fn policy(durability: Durability) -> Policy {
    let month = || Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let limits = [
        (Metric::REQUESTS, calls_of(durability), month()),
        (Metric::TOKENS, 1 << 40, month()),
    ];
    let rules = vec![rule("month", &["group"], &limits)];
    Policy::new(rules, Metrics::default()).expect("the policy of a test is valid")
}

fn open(folder: &Path, durability: Durability) -> Arc<MemoryStore> {
    let folder = DataFolder::open(folder, Purpose::Own).expect("the one before it is dead");
    let options = MemoryOptions::default();
    MemoryStore::open(&policy(durability), options, folder, durability)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Microseconds since a worker's first word.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_micros()).expect("it was not long ago")
}

/// What a worker says once it was answered: a reservation of so many tokens that counts as a call or not, or its end.
#[derive(Debug, Clone, Copy)]
struct Word {
    kind: char,
    id: ReservationId,
    amount: u64,
    times: Times,
}

/// When a worker asked, and when it was about to say that it was answered.
#[derive(Debug, Clone, Copy)]
struct Times {
    asked: u64,
    said: u64,
}

impl Word {
    fn say(self) {
        let Self {
            kind,
            id,
            amount,
            times: Times { asked, said },
        } = self;
        let line = format!("{kind} {} {amount} {asked} {said}\n", id.bits());
        let said = std::io::stderr().write_all(line.as_bytes());
        said.expect("somebody listens");
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            kind: words.next()?.parse().ok()?,
            id: ReservationId::from_bits(words.next()?.parse().ok()?),
            amount: words.next()?.parse().ok()?,
            times: Times {
                asked: words.next()?.parse().ok()?,
                said: words.next()?.parse().ok()?,
            },
        })
    }
}

/// Nothing to do but in a process that [`Worker::start`] has started.
#[test]
fn works_until_it_is_killed() {
    let Ok(duty) = std::env::var(WORKER) else {
        return;
    };
    let mut duty = duty.splitn(3, ' ');
    let mut word = || duty.next().expect("a duty is three words").to_owned();
    let (durability, group, folder) = (word(), word(), word());
    let durability = match durability.as_str() {
        "sync" => Durability::Sync,
        _ => Durability::Relaxed,
    };
    let store = open(Path::new(&folder), durability);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|number| tokio::spawn(work(store.clone(), group.clone(), number)))
            .collect();
        for task in tasks {
            task.await.expect("a task works on");
        }
    });
}

/// Reserves and settles, or leaves it open. Half of the tasks make calls that are counted as such.
async fn work(store: Arc<MemoryStore>, group: String, number: usize) {
    let subject = [("group", group.as_str())];
    let calls = u64::from(number.is_multiple_of(2));
    for round in 0_u64.. {
        let held = 1 + (round * 7 + number as u64) % LARGEST;
        let demand = tokens(held).with(Metric::REQUESTS, calls);
        let asked = now();
        let id = match store.reserve(ask(&subject, demand)).await {
            Ok(Decision::Admit(admission)) => admission.id,
            // The limit is reached, or the disk has taken nothing for long: nothing is acknowledged then.
            Ok(_) | Err(StoreError::Down { .. }) => return std::future::pending().await,
            Err(error) => panic!("{error}"),
        };
        let word = |kind, amount, asked| Word {
            kind,
            id,
            amount,
            times: Times { asked, said: now() },
        };
        word(if calls == 1 { 'c' } else { 'r' }, held, asked).say();
        if round % 5 == 4 {
            continue;
        }
        let used = held / 2;
        let usage = Settlement::Exact(tokens(used).with(Metric::REQUESTS, calls));
        let asked = now();
        let receipt = match store.settle(id, usage).await {
            Ok(receipt) => receipt,
            Err(SettleError::Kept { .. }) => return std::future::pending().await,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(receipt.charged.get(Metric::TOKENS), used);
        word('s', used, asked).say();
        tokio::task::yield_now().await;
    }
}

struct Worker {
    process: Child,
    said: JoinHandle<String>,
}

impl Worker {
    fn start(duty: &str) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let mut process = Command::new(program)
            .args([
                "--exact",
                "crashes::works_until_it_is_killed",
                "--nocapture",
            ])
            .env(WORKER, duty)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut said = process.stderr.take().expect("its error output is piped");
        let mut first = until_first(&mut said);
        let said = std::thread::spawn(move || {
            let _ = said.read_to_end(&mut first);
            String::from_utf8(first).expect("words are text")
        });
        Self { process, said }
    }

    /// Kills it; what it has said.
    fn kill(mut self) -> Vec<Word> {
        self.process.kill().expect("it is running");
        self.process.wait().expect("it has ended");
        let said = self.said.join().expect("its words are read");
        // A last line without its end was not said.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let words = whole
            .lines()
            .map(|line| Word::parse(line).unwrap_or_else(|| panic!("a worker failed: {said}")));
        words.collect()
    }
}

/// It is at work once it has said a line.
fn until_first(said: &mut ChildStderr) -> Vec<u8> {
    let (mut all, mut byte) = (Vec::new(), [0]);
    while !all.contains(&b'\n') {
        said.read_exact(&mut byte)
            .expect("a worker ended before it said anything");
        all.push(byte[0]);
    }
    all
}

/// What has become of a reservation by what a worker said of it last.
#[derive(Debug, Clone, Copy)]
struct Known {
    is_call: bool,
    held: u64,
    used: Option<u64>,
    times: Times,
}

fn known(words: &[Word]) -> BTreeMap<u128, Known> {
    let mut all = BTreeMap::new();
    for word in words {
        let bits = word.id.bits();
        if word.kind == 's' {
            let one: &mut Known = all.get_mut(&bits).expect("it was reserved before");
            (one.used, one.times) = (Some(word.amount), word.times);
        } else {
            let one = Known {
                is_call: word.kind == 'c',
                held: word.amount,
                used: None,
                times: word.times,
            };
            assert!(all.insert(bits, one).is_none(), "an id was given twice");
        }
    }
    all
}

/// What callers of a group were told and is there, added up over all restarts.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    calls: u64,
    tokens: u64,
}

/// Looks for all that was said; ends what is open. Answers what is there, and the times of what is missing.
fn look(store: &MemoryStore, words: &[Word]) -> (Sum, Vec<Times>) {
    let (mut sum, mut missing) = (Sum::default(), Vec::new());
    for (bits, one) in known(words) {
        let usage =
            Settlement::Exact(tokens(one.held).with(Metric::REQUESTS, u64::from(one.is_call)));
        let ended = store.settle_now(ReservationId::from_bits(bits), usage);
        let charged = ended.map(|receipt| receipt.charged.get(Metric::TOKENS));
        match (charged, one.used) {
            (Ok(charged), Some(used)) if charged == used => {}
            // Its settlement was not acknowledged, or is what may be lost.
            (Ok(charged), None) if charged == one.held || charged == one.held / 2 => {}
            (Ok(charged), Some(_)) if charged == one.held => missing.push(one.times),
            (Err(_), _) => {
                missing.push(one.times);
                continue;
            }
            (ended, _) => panic!("{one:?} of {} words: {ended:?}", words.len()),
        }
        sum.calls += u64::from(one.is_call);
        sum.tokens += one.used.unwrap_or(one.held / 2);
    }
    (sum, missing)
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How much time's worth of answers was certainly lost, and how much it may have been, in microseconds.
fn cost(missing: &[Times]) -> (u64, u64) {
    let said = missing.iter().map(|one| one.said);
    let asked = missing.iter().map(|one| one.asked);
    let (Some(first), Some(last)) = (said.clone().min(), said.max()) else {
        return (0, 0);
    };
    let certainly = asked.max().map_or(0, |last| last.saturating_sub(first));
    (certainly, last - first)
}

/// Kills that often, and looks after each.
fn kills(durability: Durability, name: &str) {
    let kills = std::env::var("TALLYGATE_KILLS").ok();
    let kills = kills.map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let scratch = format!("crashes-{name}-{}", std::process::id());
    let scratch = Scratch(Path::new(env!("CARGO_TARGET_TMPDIR")).join(scratch));
    let (mut sum, mut all, mut used_up) = (Sum::default(), 0, 0);
    let mut costs = Vec::new();
    let mut dice = 88_172_645_463_325_252_u64 ^ u64::from(std::process::id());
    for kill in 0..kills {
        let group = format!("g{}", kill / RESTARTS);
        let folder = scratch.0.join((kill / LINEAGE).to_string());
        if kill.is_multiple_of(RESTARTS) {
            sum = Sum::default();
        }
        let worker = Worker::start(&format!("{name} {group} {}", folder.display()));
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        // Longer than what may be lost, or all might be.
        let most = match durability {
            Durability::Sync => 60_000,
            Durability::Relaxed => 400_000,
        };
        std::thread::sleep(Duration::from_micros(dice % most)); // tidy: sleeps because a process is killed at a moment of the machine's clock
        let words = worker.kill();
        let store = open(&folder, durability);
        let (found, missing) = look(&store, &words);
        (sum.calls, sum.tokens) = (sum.calls + found.calls, sum.tokens + found.tokens);
        all += words.len();
        let cost = cost(&missing);
        costs.push(cost);
        match durability {
            Durability::Sync => assert!(missing.is_empty(), "{missing:?}"),
            Durability::Relaxed => {
                let certainly = Duration::from_micros(cost.0);
                assert!(certainly <= RELAXED_BOUND, "{cost:?}: {missing:?}");
            }
        }
        let standings = store.peek_now(&[("group", &group)]);
        let (calls, tokens) = (standings[0].used, standings[1].used);
        let limit = calls_of(durability);
        assert!(sum.calls <= calls && calls <= limit, "{sum:?}: {calls}");
        used_up += usize::from(calls == limit);
        // Beside what was said, there is what a worker was not told of before it was killed.
        let unsaid = (kill % RESTARTS + 1) as u64 * TASKS as u64 * 2 * LARGEST;
        let most = sum.tokens * 2 + unsaid;
        assert!(sum.tokens <= tokens && tokens <= most, "{sum:?}: {tokens}");
        block_on(store.close());
        drop(store);
        until_free(&folder);
    }
    assert!(all > kills * 20, "there was load: {all} answers");
    assert!(
        used_up > 0 || kills < 100,
        "a limit was never put to the test"
    );
    eprintln!("{name}: {used_up} of {kills} kills at the limit");
    report(name, all, &costs);
}

fn report(name: &str, answers: usize, costs: &[(u64, u64)]) {
    let sorted = |one: fn(&(u64, u64)) -> u64| {
        let mut all: Vec<_> = costs.iter().map(one).collect();
        all.sort_unstable();
        let of = |share: usize| Duration::from_micros(all[(all.len() - 1) * share / 100]);
        (of(50), of(75), of(100))
    };
    let kills = costs.len();
    let (certainly, at_most) = (sorted(|cost| cost.0), sorted(|cost| cost.1));
    eprintln!(
        "{name}: {kills} kills, {answers} answers; the first and the last that a kill has cost were apart (median, three of four, \
         worst) certainly {certainly:?}, at most {at_most:?}"
    );
}

/// Waits for the threads of a store that was dropped in this process.
fn until_free(folder: &Path) {
    while let Err(error) = DataFolder::open(folder, Purpose::Own) {
        assert!(matches!(error, FolderError::InUse { .. }), "{error}");
    }
}

#[test]
fn nothing_acknowledged_is_missing_in_sync() {
    kills(Durability::Sync, "sync");
}

#[test]
fn no_more_than_the_stated_time_is_missing_in_relaxed() {
    kills(Durability::Relaxed, "relaxed");
}
