//! What becomes of callers while their store is away.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::callers::{Callers, Told};
use super::case::{Case, Choice, Fate};
use super::fleet::{Counted, Fleet, GATEWAYS, LIMIT};
use super::held::Held;

/// How long the store is away, at least.
const AWAY: Duration = Duration::from_secs(10);

/// How long a gateway may take to see that, on a machine that is busy with other tests: a call's deadline, and the time in
/// which it is sent again.
const SEEN: Duration = Duration::from_secs(5);

/// How long a gateway may take to find a store that is back.
const FOUND: Duration = Duration::from_secs(30);

/// For how long after its last renewal a share stands for certain: it is renewed after half of its thirty seconds.
const STANDS: Duration = Duration::from_secs(15);

/// From when until when nothing could be asked of the store, and when it answered again.
struct Outage {
    from: Instant,
    to: Instant,
    back: Instant,
}

impl Outage {
    /// Takes the server away, and brings it back once it was away for long enough and everybody knows what that means.
    async fn of(case: Case, fleet: &Fleet, (held, callers): (&mut Held, &Callers)) -> Self {
        let server = &fleet.server;
        tokio::task::block_in_place(|| match case.fate {
            Fate::Killed => server.kill(),
            Fate::Frozen => server.pause().expect("it is paused"),
        });
        let from = Instant::now();
        let length = tokio::time::sleep(AWAY); // tidy: sleeps because the length of the outage is what is tested
        let known = callers.are_told(case.choice.status(), from + SEEN);
        tokio::join!(length, held.end(fleet), known);
        let to = Instant::now();
        let back = tokio::task::block_in_place(|| match case.fate {
            Fate::Killed => server.restart(),
            Fate::Frozen => server.resume(),
        });
        back.expect("it comes back");
        let back = Instant::now();
        Self { from, to, back }
    }

    /// When every gateway has seen it, until its end.
    fn seen(&self) -> RangeInclusive<Instant> {
        self.from + SEEN..=self.to
    }
}

/// What came of an outage.
pub(super) struct Story {
    case: Case,
    told: Arc<Told>,
    outage: Outage,
    /// How long after its return the last gateway had found the store.
    found: Duration,
    /// Admitted by each gateway: counted by no limit, and out of its share alone.
    uncounted: Vec<u64>,
    alone: Vec<u64>,
    /// What the store says is counted in the end.
    counted: Counted,
    /// The same of what ended meanwhile, and what it ought to be.
    of_held: [Counted; 2],
}

impl Story {
    /// From the first call until the limit is reached and the gateways have gone.
    pub(super) fn of(case: Case) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(Self::unfold(case))
    }

    async fn unfold(case: Case) -> Self {
        let fleet = Fleet::start(case).await;
        let mut held = Held::reserve(&fleet).await;
        let callers = Callers::begin(&fleet);
        callers.are_admitted(LIMIT / 6).await;
        fleet.has_shares(case.choice).await;
        held.stream(&fleet).await;
        callers.go_on();
        let outage = Outage::of(case, &fleet, (&mut held, &callers)).await;
        fleet.is_up().await;
        let found = outage.back.elapsed();
        fleet.has_delivered().await;
        held.stands(&fleet).await;
        callers.are_told(429, Instant::now()).await;
        let told = callers.end().await;
        fleet.has_delivered().await;
        let uncounted = fleet.metrics("tallygate_store_uncounted_total").await;
        let alone = fleet.metrics("tallygate_store_alone_total").await;
        let [counted, of_held] = fleet.end();
        Self {
            case,
            told,
            outage,
            found,
            uncounted,
            alone,
            counted,
            of_held: [of_held, held.counted()],
        }
    }

    /// Whether everything is as the limits' choice says.
    pub(super) fn is_as_promised(&self) {
        self.is_one();
        match self.case.choice {
            Choice::Closed => self.closed_limits_refuse(),
            Choice::Share => self.shares_are_spent_and_no_more(),
            Choice::Open => self.open_limits_let_all_pass(),
        }
    }

    /// What every outage has in common.
    fn is_one(&self) {
        let (case, outage) = (self.case, &self.outage);
        assert!(self.found < FOUND, "{case}");
        assert!(self.told.count(200, outage.back..) > 0, "{case}: goes on");
        assert!(self.counted.calls <= LIMIT, "{case}: never over");
        let most = self.counted.calls > LIMIT / 10 * 9;
        assert!(most, "{case}: nothing is stranded");
        assert_eq!(self.counted.slots, 0, "{case}: nothing is stranded");
        let [of_held, once] = &self.of_held;
        assert_eq!(of_held, once, "{case}: what ended meanwhile counts, once");
    }

    fn closed_limits_refuse(&self) {
        let case = self.case;
        assert_eq!(self.meanwhile(200), [0; 3], "{case}");
        assert_eq!(self.meanwhile(429), [0; 3], "{case}");
        let refused = self.meanwhile(503);
        assert!(all(&refused, |count| count > 0), "{case}: {refused:?}");
        assert!(self.told.admitted() <= LIMIT, "{case}: never over");
        assert_eq!(self.counted, self.as_told(self.told.admitted()), "{case}");
    }

    fn shares_are_spent_and_no_more(&self) {
        let (case, outage) = (self.case, &self.outage);
        // Not each, as one may have spent its share just before.
        let spent = self.told.count(200, outage.from..outage.to);
        assert!(spent > 0, "{case}: no share was spent");
        let denied = self.meanwhile(429);
        assert!(all(&denied, |count| count > 0), "{case}: {denied:?}");
        assert_eq!(self.meanwhile(503), [0; 3], "{case}");
        let (admitted, counted) = (self.told.admitted(), &self.counted);
        assert!(admitted <= LIMIT, "{case}: never over");
        // What was left of a share that ended counts as used; of one that stands it is there for others again.
        assert!(counted.calls >= admitted, "{case}: all are charged");
        assert!(
            counted.tokens >= self.told.tokens(),
            "{case}: all are charged"
        );
        if self.outage.back - self.outage.from + self.found < STANDS {
            assert_eq!(*counted, self.as_told(admitted), "{case}");
        }
    }

    fn open_limits_let_all_pass(&self) {
        let case = self.case;
        assert_eq!(self.meanwhile(429), [0; 3], "{case}");
        assert_eq!(self.meanwhile(503), [0; 3], "{case}");
        let passed = self.meanwhile(200);
        assert!(all(&passed, |count| count > 0), "{case}: {passed:?}");
        let uncounted: u64 = self.uncounted.iter().sum();
        assert!(uncounted >= passed.iter().sum(), "{case}: {uncounted}");
        // All that was not counted is known.
        let counted = self.told.admitted() - uncounted;
        assert_eq!(self.counted, self.as_told(counted), "{case}");
    }

    /// How often each gateway answered so to calls that began while it knew that there was no store.
    fn meanwhile(&self, status: u16) -> Vec<u64> {
        let count = |one| self.told.count_of(one, status, self.outage.seen());
        (0..GATEWAYS).map(count).collect()
    }

    /// What is to be counted of so many calls, by what callers and the provider saw. Each uses as much as the others.
    fn as_told(&self, calls: u64) -> Counted {
        Counted {
            calls,
            tokens: self.told.tokens() / self.told.admitted() * calls,
            slots: 0,
        }
    }
}

impl Story {
    /// What stands above the lines of a table of them.
    pub(super) const HEAD: &str = "\
| case | away | before | meanwhile | uncounted | alone | after | found | told | counted |
|---|---|---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Story {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (told, outage) = (&self.told, &self.outage);
        write!(
            to,
            "| {} | {:.1?} | {} | {} | {:?} | {:?} | {} | {:.1?} | {} | {} of {LIMIT} |",
            self.case,
            outage.to - outage.from,
            told.count(200, ..outage.from),
            told.count(200, outage.from..outage.back),
            self.uncounted,
            self.alone,
            told.count(200, outage.back..),
            self.found,
            told.admitted(),
            self.counted.calls,
        )
    }
}

fn all(numbers: &[u64], hold: impl Fn(u64) -> bool) -> bool {
    numbers.iter().all(|number| hold(*number))
}
