//! What a store needs whose counters are kept elsewhere: which limits apply, their exact numbers, and the judgement over
//! counters that it has read.
//!
//! The clock of such a store has a resolution of a microsecond, and so has all that is said here: instants are rounded up
//! to it, so that a caller who comes at the instant it was told is not early.
use crate::calendar::{Window, window_at};
use crate::counter::{Gate, State, Track};
use crate::decision::{Decision, Denial, Never, Standing};
use crate::ledger::note_largest;
use crate::meter::Meter;
use crate::metric::{Amounts, Metric};
use crate::num;
use crate::policy::{CompiledLimit, CompiledRule, LimitInfo, Policy, value_of};
use crate::rate::{Point, Rate};
use crate::ring::Ring;
use crate::shape::{Mode, Shape, StoreDown};
use crate::slot::standing;
use crate::time::Time;
use std::sync::Arc;

/// An instant or a length finer than a microsecond: `micros`, and `rest` parts of which [`Numbers::Bucket`]'s `base`
/// make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mark {
    /// Whole microseconds.
    pub micros: u64,
    /// What is left, in parts.
    pub rest: u64,
}

/// One rule, as a store sees it whose counters are kept elsewhere.
#[derive(Debug, Clone)]
pub struct RemoteRule(Arc<CompiledRule>);

/// One limit of a [`RemoteRule`].
#[derive(Debug, Clone, Copy)]
pub struct RemoteLimit<'a>(&'a CompiledLimit);

/// How a limit counts, in microseconds and whole amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// A bucket.
    Bucket {
        /// What it refills in its window.
        amount: u64,
        /// How many parts make a microsecond.
        base: u64,
        /// How long it takes from empty to full.
        burst: Mark,
    },
    /// A sliding window.
    Sliding {
        /// The most that may count at once.
        amount: u64,
        /// How long what is charged counts.
        every: u64,
        /// How long a cell takes charges.
        width: u64,
    },
    /// A calendar window.
    Fixed {
        /// What it gives.
        amount: u64,
        /// The number of the window.
        number: u64,
        /// When it begins.
        from: u64,
        /// When the next one begins.
        to: u64,
    },
    /// Calls in flight.
    Gauge {
        /// The most at once.
        amount: u64,
    },
}

/// One counter as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What is taken.
    pub state: SeenState,
    /// The sum that open reservations hold.
    pub held: u64,
    /// What nodes hold as shares, in the metric's unit and as a bucket's cost.
    pub shared: (u64, Mark),
    /// What those wait for who go before the asker, and when the first of them is due; none: nobody does.
    pub ahead: Option<(u64, Time)>,
}

/// What is taken of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeenState {
    /// The instant at which the bucket is full again.
    Bucket(Mark),
    /// Beginning, last charge and sum of each cell, in microseconds.
    Sliding(Vec<[u64; 3]>),
    /// The number of the window last charged, and its sum.
    Fixed {
        /// The window's number.
        number: u64,
        /// Its sum.
        sum: u64,
    },
    /// How much is in flight.
    Gauge {
        /// The sum.
        count: u64,
        /// Deadline (microseconds) and amount of those that end first, the earliest first.
        ends: Vec<(u64, u64)>,
    },
}

/// The counters of one rule as they were read.
#[derive(Debug, Clone, Copy)]
pub struct Sheet<'a> {
    /// The rule.
    pub rule: &'a RemoteRule,
    /// One for each of its limits, in their order.
    pub counters: &'a [Seen],
}

/// Whether a demand fits.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It does.
    Free,
    /// Not now.
    Blocked(Vec<Block>),
    /// It never will.
    Never(Never),
}

/// A counter without room.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Which sheet.
    pub sheet: usize,
    /// Which of its limits.
    pub limit: usize,
    /// When there is room if nothing else comes, those before it served.
    pub instant: Time,
    /// When there could be room if all that is held were given back.
    pub soonest: Time,
    /// Where it stands.
    pub standing: Standing,
}

impl Policy {
    /// All rules, in their order.
    #[must_use]
    pub fn remote_rules(&self) -> Vec<RemoteRule> {
        self.rules().iter().cloned().map(RemoteRule).collect()
    }

    /// The places of the rules that apply to a subject among [`Self::remote_rules`], in their order.
    pub fn places_of(&self, subject: &[(&str, &str)]) -> impl Iterator<Item = usize> + use<> {
        let mut places = Vec::new();
        self.each_applying(subject, |place, _| places.push(place));
        places.into_iter()
    }
}

impl RemoteRule {
    /// Whether both are the same rule of the same policy.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Names the rule: equal for rules whose counters mean the same, amounts apart.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.0.tag
    }

    /// The labels it counts apart by, sorted, each with the subject's value; empty where the subject lacks it.
    pub fn labels<'a>(
        &'a self,
        subject: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        let labels = self.0.per.iter().map(String::as_str);
        labels.map(move |label| (label, value_of(subject, label).unwrap_or("")))
    }

    /// Whether it denies.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.0.mode == Mode::Enforce
    }

    /// What it does when its store cannot be reached.
    #[must_use]
    pub fn store_down(&self) -> StoreDown {
        let first = self.0.limits.first();
        first.map_or(StoreDown::Closed, |limit| limit.info.store_down)
    }

    /// Its limits.
    pub fn limits(&self) -> impl ExactSizeIterator<Item = RemoteLimit<'_>> {
        self.0.limits.iter().map(RemoteLimit)
    }
}

impl<'a> RemoteLimit<'a> {
    /// The limit as it is shown.
    #[must_use]
    pub fn info(self) -> &'a Arc<LimitInfo> {
        &self.0.info
    }

    /// What it counts.
    #[must_use]
    pub fn metric(self) -> Metric {
        self.0.metric
    }

    /// The most that can be taken at once.
    #[must_use]
    pub fn largest(self) -> u64 {
        self.0.meter.largest()
    }

    /// How it counts at `now`.
    #[must_use]
    pub fn numbers(self, now: Time) -> Numbers {
        match &self.0.meter {
            Meter::Bucket(rate) => Numbers::Bucket {
                amount: self.refilled(),
                base: rate.parts().saturating_mul(MICRO),
                burst: mark(rate, rate.cost(rate.burst())),
            },
            Meter::Sliding { amount, every } => Numbers::Sliding {
                amount: *amount,
                every: micros_up(every.as_nanos()),
                width: micros_up(Ring::width(*every).as_nanos()),
            },
            Meter::Fixed {
                amount,
                window,
                timezone,
            } => {
                let current = window_at(*window, timezone, now, 0);
                Numbers::Fixed {
                    amount: *amount,
                    number: u64::try_from(current.number).unwrap_or(0),
                    from: micros_up(current.start.as_nanos()),
                    to: micros_up(current.end.as_nanos()),
                }
            }
            Meter::Gauge { amount } => Numbers::Gauge { amount: *amount },
        }
    }

    /// What an amount costs a bucket; nothing for other shapes.
    #[must_use]
    pub fn cost(self, amount: u64) -> Mark {
        match &self.0.meter {
            Meter::Bucket(rate) => mark(rate, rate.cost(amount)),
            _ => Mark::default(),
        }
    }

    /// An excess that a counter was found with, in the metric's unit, rounded up.
    #[must_use]
    pub fn amount_of(self, excess: Mark) -> u64 {
        match &self.0.meter {
            Meter::Bucket(rate) => rate.used(point(rate, excess), Time::ZERO),
            _ => excess.micros,
        }
    }

    /// What refills in a window.
    fn refilled(self) -> u64 {
        let info = &self.0.info;
        match info.shape {
            Shape::Bucket { strict: true, .. } => info.amount.saturating_sub(info.burst),
            _ => info.amount,
        }
    }

    fn window(self, now: Time) -> Option<Window> {
        match &self.0.meter {
            Meter::Fixed {
                window, timezone, ..
            } => Some(window_at(*window, timezone, now, 0)),
            _ => None,
        }
    }

    fn state(self, seen: &Seen, window: Option<&Window>, now: Time) -> State {
        let (shared, cost) = seen.shared;
        match (&seen.state, &self.0.meter) {
            (SeenState::Bucket(level), Meter::Bucket(rate)) => {
                let mut level = point(rate, *level);
                if cost != Mark::default() {
                    level = rate.after(level, point(rate, cost), now);
                }
                State::Bucket {
                    frac: level.frac,
                    nanos: level.nanos,
                }
            }
            (SeenState::Sliding(cells), Meter::Sliding { .. }) => {
                State::Sliding(Some(Box::new(Ring::of(cells, shared, now))))
            }
            (SeenState::Fixed { number, sum }, Meter::Fixed { .. }) => {
                let current = window.map_or(0, |window| num::wrapped32(window.number));
                let sum = if num::low32(*number) == current {
                    *sum
                } else {
                    0
                };
                State::Fixed {
                    window: current,
                    sum: sum.saturating_add(shared),
                }
            }
            (SeenState::Gauge { count, ends }, Meter::Gauge { .. }) => {
                // What has ended since it was read is not there any more.
                let ended = ends.iter().filter(|(at, _)| instant(*at) <= now);
                let ended = ended.fold(0u64, |sum, (_, amount)| sum.saturating_add(*amount));
                State::Gauge(count.saturating_sub(ended).saturating_add(shared))
            }
            _ => State::fresh(&self.0.meter),
        }
    }
}

/// A counter with all that judging it needs.
struct View<'a> {
    sheet: usize,
    at: usize,
    limit: RemoteLimit<'a>,
    window: Option<Window>,
    state: State,
    track: Track,
    ahead: Option<(u64, Time)>,
    now: Time,
}

impl<'a> View<'a> {
    fn new(place: (usize, usize), limit: RemoteLimit<'a>, seen: &Seen, now: Time) -> Self {
        let window = limit.window(now);
        let ends = match &seen.state {
            SeenState::Gauge { ends, .. } => ends.as_slice(),
            _ => &[],
        };
        let live = ends.iter().map(|(at, amount)| (instant(*at), *amount));
        let live = live.filter(|(at, _)| *at > now);
        Self {
            sheet: place.0,
            at: place.1,
            limit,
            window,
            state: limit.state(seen, window.as_ref(), now),
            track: Track::read(seen.held, live),
            ahead: seen.ahead,
            now,
        }
    }

    fn gate(&self) -> Gate<'_> {
        Gate {
            meter: &self.limit.0.meter,
            window: self.window.as_ref(),
            now: self.now,
        }
    }

    fn standing(&self) -> Standing {
        let reset = self.gate().reset(&self.state, Some(&self.track));
        standing(self.limit.0, self.gate().used(&self.state), reset)
    }

    fn block(&self, amount: u64) -> Option<Block> {
        let gate = self.gate();
        if self.ahead.is_none() && gate.fits(&self.state, amount) {
            return None;
        }
        let (queued, turn) = self.ahead.unwrap_or((0, Time::ZERO));
        let free = gate.fits_at(&self.state, Some(&self.track), amount, queued);
        Some(Block {
            sheet: self.sheet,
            limit: self.at,
            instant: up(free.max(turn)),
            soonest: up(gate.may_fit_by(&self.state, Some(&self.track), amount)),
            standing: self.standing(),
        })
    }
}

fn views<'a>(sheets: &'a [Sheet<'a>], now: Time) -> impl Iterator<Item = View<'a>> {
    sheets.iter().enumerate().flat_map(move |(number, sheet)| {
        let counters = sheet.rule.limits().zip(sheet.counters).enumerate();
        counters.map(move |(at, (limit, seen))| View::new((number, at), limit, seen, now))
    })
}

/// Whether a demand fits counters that were read at `now`.
#[must_use]
pub fn judge(sheets: &[Sheet<'_>], demand: &Amounts, now: Time) -> Judgement {
    let mut blocks = Vec::new();
    let mut never = Never {
        blocked_by: Vec::new(),
        largest: Vec::new(),
    };
    let enforced = |sheet: usize| sheets.get(sheet).is_some_and(|one| one.rule.is_enforced());
    for view in views(sheets, now).filter(|view| enforced(view.sheet)) {
        let metric = view.limit.metric();
        let amount = demand.get(metric);
        if amount > view.limit.largest() {
            never.blocked_by.push(view.standing());
            note_largest(&mut never.largest, metric, view.limit.largest());
        } else if amount > 0 {
            blocks.extend(view.block(amount));
        }
    }
    match (never.blocked_by.is_empty(), blocks.is_empty()) {
        (false, _) => Judgement::Never(never),
        (_, true) => Judgement::Free,
        _ => Judgement::Blocked(blocks),
    }
}

/// The blocks as an answer given at `now`.
#[must_use]
pub fn denial(blocks: Vec<Block>, now: Time) -> Decision {
    let latest = blocks.iter().map(|block| block.instant).max();
    let retry_at = latest.unwrap_or(now);
    Decision::Deny(Denial {
        retry_after: retry_at.since(now).into(),
        retry_at,
        blocked_by: blocks.into_iter().map(|block| block.standing).collect(),
    })
}

/// Where the counters stand at `now`.
#[must_use]
pub fn standings(sheets: &[Sheet<'_>], now: Time) -> Vec<Standing> {
    views(sheets, now).map(|view| view.standing()).collect()
}

/// The limits of rules that do not deny which a demand is past, after it was charged.
#[must_use]
pub fn shadowed(sheets: &[Sheet<'_>], demand: &Amounts, now: Time) -> Vec<Arc<LimitInfo>> {
    let shadows = |view: &View<'_>| {
        let rule = sheets.get(view.sheet).map(|sheet| sheet.rule);
        rule.is_some_and(|rule| !rule.is_enforced())
    };
    let over =
        |view: &View<'_>| demand.get(view.limit.metric()) > 0 && !view.gate().fits(&view.state, 0);
    let views = views(sheets, now).filter(shadows).filter(over);
    views.map(|view| view.limit.info().clone()).collect()
}

/// Nanoseconds in a microsecond.
const MICRO: u64 = 1000;

/// The longest cost that is told apart: 142 years. A level beyond it would not be exact.
const LONGEST: u64 = 1 << 52;

fn mark(rate: &Rate, cost: Point) -> Mark {
    let (micros, nanos) = split(cost.nanos);
    if micros >= LONGEST {
        return Mark {
            micros: LONGEST,
            rest: 0,
        };
    }
    let parts = nanos.saturating_mul(rate.parts());
    Mark {
        micros,
        rest: parts.saturating_add(u64::from(cost.frac)),
    }
}

fn point(rate: &Rate, mark: Mark) -> Point {
    let nanos = mark.rest.checked_div(rate.parts()).unwrap_or(0);
    let frac = mark.rest.checked_rem(rate.parts()).unwrap_or(0);
    Point {
        nanos: mark.micros.saturating_mul(MICRO).saturating_add(nanos),
        frac: num::low32(frac),
    }
}

fn split(nanos: u64) -> (u64, u64) {
    let micros = nanos.checked_div(MICRO).unwrap_or(0);
    (micros, nanos.saturating_sub(micros.saturating_mul(MICRO)))
}

fn micros_up(nanos: u64) -> u64 {
    nanos.div_ceil(MICRO)
}

fn up(time: Time) -> Time {
    Time::from_nanos(micros_up(time.as_nanos()).saturating_mul(MICRO))
}

fn instant(micros: u64) -> Time {
    Time::from_nanos(micros.saturating_mul(MICRO))
}
