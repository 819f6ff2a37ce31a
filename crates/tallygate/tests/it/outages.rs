//! Three gateways on one store that is away for ten seconds.
//!
//! Each story is one outage under load, from the first call until the limit is reached again and the gateways have gone. What
//! callers and the provider saw is then held against what the store has counted.
mod callers;
mod fleet;
mod held;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use self::callers::{Callers, Told};
use self::fleet::{Counted, Fleet, LIMIT};
use self::held::Held;

/// How long the store is away, at least.
const AWAY: Duration = Duration::from_secs(10);

/// How long a gateway may take to see that, on a machine that is busy with other tests: a call's deadline, and the time in
/// which it is sent again.
const SEEN: Duration = Duration::from_secs(5);

/// How long a gateway may take to find a store that is back.
const FOUND: Duration = Duration::from_secs(30);

/// From when until when nothing could be asked of the store, and when it answered again.
struct Outage {
    from: Instant,
    to: Instant,
    back: Instant,
}

impl Outage {
    /// Kills the server, and starts it again with what it had written.
    async fn killed(fleet: &Fleet, held: &mut Held) -> Self {
        let from = Instant::now();
        tokio::task::block_in_place(|| fleet.server.kill());
        let to = pass(fleet, held).await;
        tokio::task::block_in_place(|| fleet.server.restart()).expect("back");
        let back = Instant::now();
        Self { from, to, back }
    }

    /// Freezes the server: connections stay, and nothing answers. What it was asked last it does when it goes on.
    async fn frozen(fleet: &Fleet, held: &mut Held) -> Self {
        let from = Instant::now();
        fleet.server.pause().expect("paused");
        let to = pass(fleet, held).await;
        fleet.server.resume().expect("resumed");
        Self { from, to, back: to }
    }

    /// When every gateway has seen it, until its end.
    fn seen(&self) -> RangeInclusive<Instant> {
        self.from + SEEN..=self.to
    }
}

/// Ends what is under way and lets time pass, as much as it takes operators; answers when that was over.
async fn pass(fleet: &Fleet, held: &mut Held) -> Instant {
    let length = tokio::time::sleep(AWAY); // tidy: sleeps because the length of the outage is what is tested
    tokio::join!(length, held.end(fleet));
    Instant::now()
}

/// What came of an outage.
struct Story {
    told: Arc<Told>,
    outage: Outage,
    /// How long after its return the last gateway had found the store.
    found: Duration,
    /// Admitted by each gateway: counted by no limit, and out of its share alone.
    uncounted: Vec<u64>,
    alone: Vec<u64>,
    /// What the store says is counted in the end.
    counted: Counted,
}

impl Story {
    fn of(store_down: &str, away: impl AsyncFnOnce(&Fleet, &mut Held) -> Outage) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(Self::unfold(store_down, away))
    }

    /// From the first call until the limit is reached and the gateways have gone.
    async fn unfold(store_down: &str, away: impl AsyncFnOnce(&Fleet, &mut Held) -> Outage) -> Self {
        let fleet = Fleet::start(store_down).await;
        let mut held = Held::reserve(&fleet).await;
        let callers = Callers::begin(&fleet);
        callers.are_admitted(LIMIT / 6).await;
        fleet.has_shares(store_down).await;
        held.stream(&fleet).await;
        let outage = away(&fleet, &mut held).await;
        fleet.is_up().await;
        let found = outage.back.elapsed();
        fleet.has_delivered().await;
        held.stands(&fleet).await;
        callers.are_denied(&fleet).await;
        let told = callers.end().await;
        fleet.has_delivered().await;
        let uncounted = fleet.metrics("tallygate_store_uncounted_total").await;
        let alone = fleet.metrics("tallygate_store_alone_total").await;
        let [counted, of_held] = fleet.end();
        let story = Self {
            told,
            outage,
            found,
            uncounted,
            alone,
            counted,
        };
        eprintln!("{store_down}: {story}");
        assert_eq!(of_held, held.counted(), "what ended meanwhile counts, once");
        story.is_one();
        story
    }

    /// What every outage has in common.
    fn is_one(&self) {
        let outage = &self.outage;
        assert!(self.found < FOUND);
        let before = self.told.count(200, ..outage.from);
        assert!(before < LIMIT / 2, "nothing is left for afterwards");
        assert!(self.told.count(200, outage.back..) > 0, "it goes on");
        assert!(self.counted.calls <= LIMIT, "never over");
        assert!(self.counted.calls > LIMIT / 10 * 9, "nothing is stranded");
        assert_eq!(self.counted.slots, 0, "nothing is stranded");
    }

    /// How often each gateway answered so while it knew that there was no store.
    fn meanwhile(&self, status: u16) -> Vec<u64> {
        let gateways = 0..self.alone.len();
        let count = |one| self.told.count_of(one, status, self.outage.seen());
        gateways.map(count).collect()
    }

    /// Callers were told of no more than the limit; that and what the provider used is what is counted, to the last token.
    fn holds(&self) {
        assert!(self.told.admitted() <= LIMIT, "never over");
        let told = Counted {
            calls: self.told.admitted(),
            tokens: self.told.tokens(),
            slots: 0,
        };
        assert_eq!(self.counted, told);
    }
}

impl fmt::Display for Story {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (told, outage) = (&self.told, &self.outage);
        write!(
            to,
            "away for {:.1?}; of {LIMIT}: {} before, {} meanwhile ({:?} uncounted, {:?} out of shares), {} after, found within {:?}; \
             {} calls with {} tokens told, {} with {} counted",
            outage.to - outage.from,
            told.count(200, ..outage.from),
            told.count(200, outage.from..outage.back),
            self.uncounted,
            self.alone,
            told.count(200, outage.back..),
            self.found,
            told.admitted(),
            told.tokens(),
            self.counted.calls,
            self.counted.tokens,
        )
    }
}

fn all(numbers: &[u64], hold: impl Fn(u64) -> bool) -> bool {
    numbers.iter().all(|number| hold(*number))
}

/// All choices side by side, each on a server of its own: most of an outage is waiting.
#[test]
fn a_store_is_away_for_ten_seconds() {
    thread::scope(|scope| {
        let choices = [
            ("closed", closed_limits_refuse_and_hold as fn()),
            ("share", shares_are_spent_and_no_more),
            ("open", open_limits_let_all_pass_and_count_the_rest),
        ];
        for (name, test) in choices {
            let thread = thread::Builder::new().name(name.to_owned());
            thread.spawn_scoped(scope, test).expect("a thread");
        }
    });
}

fn closed_limits_refuse_and_hold() {
    let story = Story::of("closed", Outage::frozen);
    assert_eq!(story.meanwhile(200), [0; 3]);
    assert_eq!(story.meanwhile(429), [0; 3]);
    let away = story.meanwhile(503);
    assert!(all(&away, |count| count > 0), "{away:?}");
    story.holds();
}

fn shares_are_spent_and_no_more() {
    let story = Story::of("share", Outage::killed);
    assert!(all(&story.alone, |count| count > 0), "{:?}", story.alone);
    let denied = story.meanwhile(429);
    assert!(all(&denied, |count| count > 0), "{denied:?}");
    assert_eq!(story.meanwhile(503), [0; 3]);
    story.holds();
}

fn open_limits_let_all_pass_and_count_the_rest() {
    let story = Story::of("open", Outage::killed);
    assert_eq!(story.meanwhile(429), [0; 3]);
    assert_eq!(story.meanwhile(503), [0; 3]);
    let passed = story.meanwhile(200);
    assert!(all(&passed, |count| count > 0), "{passed:?}");
    let uncounted: u64 = story.uncounted.iter().sum();
    assert!(uncounted >= passed.iter().sum(), "{uncounted}");
    // All that was not counted is known; each call uses as much as the others.
    let calls = story.told.admitted() - uncounted;
    let each = story.told.tokens() / story.told.admitted();
    let counted = Counted {
        calls,
        tokens: calls * each,
        slots: 0,
    };
    assert_eq!(story.counted, counted);
}
