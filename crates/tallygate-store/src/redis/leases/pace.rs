//! How much is asked of an account at this process lately.
use super::GRACE;
use super::moment::{Moment, micros};
use super::share::REST;
use std::time::Duration;
use tallygate_core::Amounts;

/// What "lately" means.
pub(crate) const SPAN: Duration = Duration::from_millis(200);

/// An account of which so many decisions are asked in [`SPAN`] is hot: a share is worth its messages.
pub(crate) const HOT: u64 = 20;

/// A hot account stays so until there are fewer than this.
pub(crate) const COOL: u64 = 5;

/// A share is for so many calls at least: demand that begins is not known yet.
const LEAST_CALLS: u64 = 8;

/// The demand for one account.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    asked: Window,
    wanted: Window,
    is_hot: bool,
    last_asked: Moment,
    last_wanted: Option<Moment>,
    /// The mean demand, when there last was one.
    each: Amounts,
    /// When somebody was first asked to give back his share for a demand.
    lingers: Option<Moment>,
}

/// Two stretches of [`SPAN`]: the one that runs and the one before.
#[derive(Debug, Clone, Default)]
struct Window {
    number: u64,
    current: Tally,
    before: Tally,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    count: u64,
    sums: Amounts,
}

impl Pace {
    /// A decision is asked for.
    pub(crate) fn ask(&mut self, at: Moment) {
        self.asked.add(at, &Amounts::ZERO);
        self.last_asked = at;
        let bar = if self.is_hot { COOL } else { HOT };
        self.is_hot = self.asked.lately(at).count >= bar;
    }

    /// It could be made out of a share.
    pub(crate) fn want(&mut self, at: Moment, demand: &Amounts) {
        self.wanted.add(at, demand);
        self.last_wanted = Some(at);
        let lately = self.wanted.lately(at);
        self.each = lately.sums.zip(demand, |sum, one| {
            sum.checked_div(lately.count).unwrap_or(0).max(one.min(1))
        });
    }

    pub(crate) fn is_hot(&self) -> bool {
        self.is_hot
    }

    /// Whether nothing was asked for so long.
    pub(crate) fn is_silent(&self, at: Moment, length: Duration) -> bool {
        at.since(self.last_asked) >= length
    }

    /// Whether nothing was wanted of a share for so long.
    pub(crate) fn is_idle(&self, at: Moment, length: Duration) -> bool {
        self.last_wanted.is_none_or(|last| at.since(last) >= length)
    }

    /// What `spans` times [`SPAN`] will want.
    pub(crate) fn target(&self, at: Moment, spans: u64) -> Amounts {
        let sums = self.wanted.lately(at).sums;
        sums.zip(&self.each, |sum, each| {
            let least = each.saturating_mul(LEAST_CALLS);
            sum.saturating_mul(spans).max(least)
        })
    }

    /// Whether a demand may be asked again until others have given back their shares: for a short while, and not again soon.
    pub(crate) fn may_linger(&mut self, at: Moment) -> bool {
        let since = self.lingers.filter(|since| at.since(*since) < REST);
        let since = *self.lingers.insert(since.unwrap_or(at));
        at.since(since) < GRACE
    }

    /// The mean demand.
    pub(crate) fn each(&self) -> &Amounts {
        &self.each
    }
}

impl Window {
    fn add(&mut self, at: Moment, amounts: &Amounts) {
        self.turn(at);
        self.current.count += 1;
        self.current.sums = self.current.sums.zip(amounts, u64::saturating_add);
    }

    fn turn(&mut self, at: Moment) {
        let number = at.0 / micros(SPAN);
        if number == self.number {
            return;
        }
        self.before = match number == self.number + 1 {
            true => self.current,
            false => Tally::default(),
        };
        self.current = Tally::default();
        self.number = number;
    }

    /// The last [`SPAN`]: what runs, and of the one before as much as still belongs to it.
    fn lately(&self, at: Moment) -> Tally {
        let mut window = self.clone();
        window.turn(at);
        let rest = micros(SPAN) - at.0 % micros(SPAN);
        let part = |amount: u64| {
            let part = u128::from(amount) * u128::from(rest) / u128::from(micros(SPAN));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        let sums = &window.current.sums;
        Tally {
            count: window.current.count + part(window.before.count),
            sums: sums.zip(&window.before.sums, |now, then| {
                now.saturating_add(part(then))
            }),
        }
    }
}
