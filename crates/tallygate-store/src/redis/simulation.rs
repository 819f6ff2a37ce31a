//! A seeded simulation: processes with whole stores, callers, one real server that runs the timed script, and a network
//! between them that delays, loses and cuts. Everything runs in virtual time on one thread, so that a seed always
//! gives the same log.
//!
//! What took effect is read from the server's answers, whether they arrive or not, and held against the promises at
//! every call: G1 and G4 by counters that forget nothing, G2 and G3 by every charge over every span, G5 by what is
//! left at the end.
mod apart;
mod crossing;
pub(in crate::redis) mod engine;
pub(in crate::redis) mod ground;
mod grudge;
pub(in crate::redis) mod network;
mod town;
pub(in crate::redis) mod truth;
mod waiting;

use self::engine::Engine;
use self::ground::Overshoot;
use self::network::{Came, Network, Weather};
use self::town::Town;
use super::names::Account;
use super::sheet::Sheet;
use super::store::RedisStore;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Calendar, MAX_AMOUNT, Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown,
};
use tallygate_sim::Rng;
use tokio::time::sleep;

thread_local! {
    pub(super) static CHANCE: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

/// Fills in random bytes if this thread runs a simulation.
pub(crate) fn chance(bytes: &mut [u8]) -> bool {
    CHANCE.with_borrow_mut(|rng| {
        let Some(rng) = rng else { return false };
        for byte in bytes {
            *byte = rng.next_u64().to_le_bytes()[0];
        }
        true
    })
}

/// What may happen in a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Nothing but delays.
    Calm,
    /// Losses, partitions, deaths.
    Rough,
    /// The server's clock is set too.
    Clocks,
    /// Replicas take over too.
    Failover,
}

/// How many callers come in a seed.
const CALLERS: u64 = 150;

impl RedisStore {
    pub(super) fn accounts(&self, subject: &[(&str, &str)]) -> Vec<Arc<Account>> {
        self.shared().desk().resolve(subject)
    }

    pub(super) async fn sheets(
        &self,
        subject: &[(&str, &str)],
    ) -> Result<(Vec<Arc<Account>>, Vec<Sheet>), String> {
        let errand =
            self.shared()
                .errand_of(subject, (tallygate_core::Amounts::ZERO, Span::ZERO), None);
        let found = self.shared().look_at(&errand).await;
        let (sheets, _) = found.map_err(|error| error.to_string())?;
        Ok((errand.ask.accounts, sheets))
    }
}

impl network::Inner {
    /// Whether every key will end by itself: at midnight at the latest.
    pub(in crate::redis) fn keys_end(&mut self) -> Result<(), String> {
        const MIDNIGHT: u64 = 1_772_496_000_000_000;
        for (key, end) in self.engine.keys() {
            if end.is_none_or(|end| end > MIDNIGHT + 1000) {
                let key = key.escape_ascii();
                return Err(format!("{key} is left: {end:?}"));
            }
        }
        Ok(())
    }
}

fn rule(name: &str, per: &[&str], limits: &[(Metric, u64, Shape)]) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: per.iter().map(|label| (*label).to_owned()).collect(),
        limits: limits.to_vec(),
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    }
}

fn policy(rng: &mut Rng) -> Policy {
    let mut every = |least| Span::from_millis(least + rng.below(3000));
    let bucket = |every, burst| Shape::Bucket {
        every,
        burst,
        strict: false,
    };
    let own = [
        (Metric::TOKENS, 100, bucket(every(300), None)),
        (Metric::REQUESTS, 9, Shape::Sliding { every: every(200) }),
        (Metric::CONCURRENCY, 5, Shape::Concurrency),
    ];
    let all = [
        (Metric::TOKENS, 251, Shape::Sliding { every: every(300) }),
        (Metric::REQUESTS, 17, bucket(every(500), Some(11))),
    ];
    let day = Shape::Fixed {
        window: Calendar::Day,
        timezone: jiff::tz::TimeZone::UTC,
    };
    let books = [
        (Metric::TOKENS, MAX_AMOUNT, day.clone()),
        (Metric::REQUESTS, MAX_AMOUNT, day),
    ];
    let rules = vec![
        rule("own", &["user"], &own),
        rule("all", &[], &all),
        rule("books", &["user"], &books),
    ];
    Policy::new(rules, Metrics::default()).unwrap()
}

/// One thread and virtual time.
fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

/// Runs a seed on an empty server.
fn run(engine: Engine, seed: u64, habit: Habit) -> (Engine, Came) {
    CHANCE.set(Some(Rng::new(!seed)));
    let runtime = runtime();
    let network = runtime.block_on(play(engine, seed, habit));
    drop(runtime);
    CHANCE.set(None);
    let network = Arc::into_inner(network).expect("everybody has left");
    network.into_parts()
}

async fn play(mut engine: Engine, seed: u64, habit: Habit) -> Arc<Network> {
    engine.clear();
    let mut rng = Rng::new(seed);
    let policy = policy(&mut rng);
    let weather = Weather {
        lost: if habit == Habit::Calm {
            0
        } else {
            rng.below(40)
        },
        delay: rng.below(6),
        stall: rng.below(80),
    };
    let network = Network::new(engine, seed, (weather, &policy));
    let town = Town::new(network.clone(), policy, habit == Habit::Calm);
    for _ in 0..2 + rng.below(3) {
        town.start().await;
    }
    let haste = 1 + rng.below(40);
    for number in 0..CALLERS {
        town.come(number, &mut rng);
        sleep(Duration::from_millis(rng.below(haste))).await;
        if habit != Habit::Calm {
            happen(&town, habit, &mut rng).await;
        }
    }
    let verdict = town.all_are_answered().await;
    network.with(|inner| inner.hold(verdict));
    network.with(|inner| inner.brighten());
    // All deadlines pass, and the messages on their way arrive.
    sleep(Duration::from_secs(20)).await;
    let verdict = town.nothing_is_left().await;
    network.with(|inner| {
        inner.hold(verdict);
        let verdict = inner.truth.fits_everywhere();
        inner.hold(verdict);
    });
    let verdict = town.told_the_truth();
    network.with(|inner| inner.hold(verdict));
    network
}

/// Something bad, now and then.
async fn happen(town: &Arc<Town>, habit: Habit, rng: &mut Rng) {
    match (rng.below(100), habit) {
        (0..=2, _) => town
            .network
            .cut(town.seat(rng), Duration::from_millis(rng.below(1500))),
        (3..=4, _) => {
            town.kill(rng);
            if rng.below(2) == 0 {
                town.start().await;
            }
        }
        (5..=6, _) => town.start().await,
        (7..=9, Habit::Clocks) => {
            let by = i64::try_from(rng.below(4_000_000)).unwrap() - 2_000_000;
            town.network.set_clock(by);
        }
        (7..=8, Habit::Failover) => {
            let lag = Duration::from_millis(rng.below(300));
            let away = Duration::from_millis(rng.below(800));
            if town.network.with(|inner| inner.is_settled()) {
                town.network.fail_over(lag, away);
            }
        }
        _ => {}
    }
}

/// Whether only one seed is run: it need not show everything.
pub(super) fn is_one_seed() -> bool {
    std::env::var_os("TALLYGATE_SEED").is_some()
}

/// Runs these seeds; a failing one shows how its log ends. Answers the worst overshoot.
fn all_hold(seeds: std::ops::Range<u64>, habit: Habit) -> Overshoot {
    let mut engine = Engine::start();
    let mut worst = Overshoot::default();
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let only: Option<u64> = number("TALLYGATE_SEED");
    let more: u64 = number("TALLYGATE_SEEDS").unwrap_or(0);
    let seeds = seeds.start..seeds.end + more;
    for seed in only.map_or(seeds, |seed| seed..seed + 1) {
        let (used, came) = run(engine, seed, habit);
        engine = used;
        if let Some(what) = came.broken {
            let shown = if only.is_some() { 100_000 } else { 60 };
            let tail = came.log.len().saturating_sub(shown);
            let tail = came.log[tail..].join("\n");
            panic!("seed {seed}, {habit:?}: {what}\n{tail}");
        }
        worst = worst.max(came.overshoot);
    }
    worst
}

#[test]
fn delays_break_nothing() {
    assert_eq!(all_hold(0..12, Habit::Calm).most, 0);
}

#[test]
fn losses_partitions_and_deaths_break_nothing() {
    assert_eq!(all_hold(100..116, Habit::Rough).most, 0);
}

// One caller asks for more, and another one, of the same idempotency key, settles: their calls go out as one.
#[test]
fn what_is_extended_and_ended_in_one_call_is_seen_to_be() {
    assert_eq!(all_hold(223..224, Habit::Rough).most, 0);
}

#[test]
fn clocks_that_are_set_break_nothing() {
    assert_eq!(all_hold(200..212, Habit::Clocks).most, 0);
}

#[test]
fn replicas_that_take_over_lose_no_more_than_they_had_not_heard() {
    // Each step looked that no limit was passed by more than that, nor by more than a burst or window a failover.
    let worst = all_hold(300..315, Habit::Failover);
    eprintln!("{} too much, of {} that were lost", worst.most, worst.lost);
    assert!(
        worst.most > 0 || is_one_seed(),
        "no failover has lost what matters"
    );
    assert!(worst.most <= worst.lost);
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let mut engine = Engine::start();
    for (seed, habit) in [
        (1, Habit::Calm),
        (2, Habit::Rough),
        (3, Habit::Clocks),
        (4, Habit::Failover),
    ] {
        let (used, first) = run(engine, seed, habit);
        let (used, second) = run(used, seed, habit);
        engine = used;
        let (first, second) = (first.log, second.log);
        assert!(
            first.len() > 200,
            "only {} lines of seed {seed}",
            first.len()
        );
        assert_eq!(first, second, "seed {seed}");
    }
}
