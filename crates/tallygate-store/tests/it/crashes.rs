//! Processes that are killed at random moments under load, each on the folder that the one before it left: nothing that was
//! acknowledged is missing, but for what `relaxed` may lose, and no limit is exceeded across them.
//!
//! `TALLYGATE_KILLS=200 cargo test -p tallygate-store --test it crashes` kills that often.
use crate::support::{ask, block_on, rule, tokens};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tallygate_core::{Calendar, Decision, Metric, Metrics, Policy, ReservationId, Shape};
use tallygate_store::folder::{DataFolder, FolderError, Purpose};
use tallygate_store::{Durability, MemoryOptions, MemoryStore, RELAXED_BOUND, Settlement, Store};

/// Tells a worker, which is this program again, its folder, durability and group.
const WORKER: &str = "TALLYGATE_CRASH_WORKER";

/// How often a process is killed, for each durability.
const KILLS: usize = 10;

const TASKS: usize = 16;

/// The calls that a group may make in a month: so few that they are used up over some restarts.
const CALLS: u64 = 1_500;

/// Restarts of a group.
const RESTARTS: usize = 5;

const LARGEST: u64 = 20;

/// The longest that a busy machine may keep a thread from its turn.
const STALL: Duration = Duration::from_secs(2);

/// Calls and tokens of a month, apart by group.
fn policy() -> Policy {
    let month = || Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let limits = [
        (Metric::REQUESTS, CALLS, month()),
        (Metric::TOKENS, 1 << 40, month()),
    ];
    let rules = vec![rule("month", &["group"], &limits)];
    Policy::new(rules, Metrics::default()).expect("the policy of a test is valid")
}

fn open(folder: &Path, durability: Durability) -> Arc<MemoryStore> {
    let folder = DataFolder::open(folder, Purpose::Own).expect("the one before it is dead");
    let options = MemoryOptions::default();
    MemoryStore::open(&policy(), options, folder, durability)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Microseconds of the wall clock, which all processes share.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.expect("it is later").as_micros()).expect("it is earlier")
}

/// What a worker says once it was answered: a reservation of so many tokens that counts as a call or not, or its end.
#[derive(Debug, Clone, Copy)]
struct Word {
    kind: char,
    id: ReservationId,
    amount: u64,
    at: u64,
}

impl Word {
    fn say(self) {
        let Self {
            kind,
            id,
            amount,
            at,
        } = self;
        let line = format!("{kind} {} {amount} {at}\n", id.bits());
        let said = std::io::stderr().write_all(line.as_bytes());
        said.expect("somebody listens");
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            kind: words.next()?.parse().ok()?,
            id: ReservationId::from_bits(words.next()?.parse().ok()?),
            amount: words.next()?.parse().ok()?,
            at: words.next()?.parse().ok()?,
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
        let id = match store.reserve(ask(&subject, demand)).await {
            Ok(Decision::Admit(admission)) => admission.id,
            Ok(_) => return std::future::pending().await,
            Err(error) => panic!("{error}"),
        };
        let word = |kind, amount| Word {
            kind,
            id,
            amount,
            at: now(),
        };
        word(if calls == 1 { 'c' } else { 'r' }, held).say();
        if round % 5 == 4 {
            continue;
        }
        let used = held / 2;
        let usage = Settlement::Exact(tokens(used).with(Metric::REQUESTS, calls));
        let receipt = store.settle(id, usage).await.expect("it is open");
        assert_eq!(receipt.charged.get(Metric::TOKENS), used);
        word('s', used).say();
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

    /// Kills it; what it has said, and when it was alive last.
    fn kill(mut self) -> (Vec<Word>, u64) {
        let alive = now();
        self.process.kill().expect("it is running");
        self.process.wait().expect("it has ended");
        let said = self.said.join().expect("its words are read");
        // A last line without its end was not said.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let words = whole
            .lines()
            .map(|line| Word::parse(line).unwrap_or_else(|| panic!("a worker failed: {said}")));
        (words.collect(), alive)
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
    at: u64,
}

fn known(words: &[Word]) -> BTreeMap<u128, Known> {
    let mut all = BTreeMap::new();
    for word in words {
        let bits = word.id.bits();
        if word.kind == 's' {
            let one: &mut Known = all.get_mut(&bits).expect("it was reserved before");
            (one.used, one.at) = (Some(word.amount), word.at);
        } else {
            let one = Known {
                is_call: word.kind == 'c',
                held: word.amount,
                used: None,
                at: word.at,
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

/// Looks for all that was said; ends what is open. Answers what is there, and when what is missing was said.
fn look(store: &MemoryStore, words: &[Word]) -> (Sum, Vec<u64>) {
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
            (Ok(charged), Some(_)) if charged == one.held => missing.push(one.at),
            (Err(_), _) => {
                missing.push(one.at);
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

/// Kills that often, and looks after each.
fn kills(durability: Durability, name: &str) {
    let kills = std::env::var("TALLYGATE_KILLS").ok();
    let kills = kills.map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    let folder = format!("crashes-{name}-{}", std::process::id());
    let folder = Scratch(Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder));
    let (mut sum, mut all) = (Sum::default(), 0);
    // How long before each death what is missing was acknowledged, in microseconds.
    let mut lost = Vec::new();
    let mut dice = 88_172_645_463_325_252_u64 ^ u64::from(std::process::id());
    for kill in 0..kills {
        let group = format!("g{}", kill / RESTARTS);
        if kill.is_multiple_of(RESTARTS) {
            sum = Sum::default();
        }
        let worker = Worker::start(&format!("{name} {group} {}", folder.0.display()));
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        // Longer than what may be lost, or all might be.
        let most = match durability {
            Durability::Sync => 60_000,
            Durability::Relaxed => 400_000,
        };
        std::thread::sleep(Duration::from_micros(dice % most)); // tidy: sleeps because a process is killed at a moment of the machine's clock
        let (words, alive) = worker.kill();
        let store = open(&folder.0, durability);
        let (found, missing) = look(&store, &words);
        (sum.calls, sum.tokens) = (sum.calls + found.calls, sum.tokens + found.tokens);
        all += words.len();
        if durability == Durability::Sync {
            assert_eq!(missing, Vec::<u64>::new(), "of {} answers", words.len());
        }
        let oldest = missing.into_iter().min().unwrap_or(alive);
        lost.push(alive.saturating_sub(oldest));
        let standings = store.peek_now(&[("group", &group)]);
        let (calls, tokens) = (standings[0].used, standings[1].used);
        assert!(sum.calls <= calls && calls <= CALLS, "{sum:?}: {calls}");
        // Beside what was said, there is what a worker was not told of before it was killed.
        let unsaid = (kill % RESTARTS + 1) as u64 * TASKS as u64 * 2 * LARGEST;
        let most = sum.tokens * 2 + unsaid;
        assert!(sum.tokens <= tokens && tokens <= most, "{sum:?}: {tokens}");
        block_on(store.close());
        drop(store);
        until_free(&folder.0);
    }
    assert!(all > kills * 20, "there was load: {all} answers");
    lost.sort_unstable();
    let of = |share: usize| Duration::from_micros(lost[(kills - 1) * share / 100]);
    let (half, most, worst) = (of(50), of(75), of(100));
    eprintln!(
        "{name}: {kills} kills, {all} answers; lost of the time before: {half:?} (median), {most:?} (three of four), {worst:?} (worst)"
    );
    // A machine that is busy with other tests may keep the thread that writes from its turn.
    assert!(most <= RELAXED_BOUND && worst <= STALL, "{lost:?}");
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
