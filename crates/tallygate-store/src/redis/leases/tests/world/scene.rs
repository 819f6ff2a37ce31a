//! What a seed is about, and what it comes to.
use crate::redis::simulation::ground::Overshoot;
use crate::redis::simulation::is_one_seed;
use crate::redis::simulation::network::Weather;
use crate::store::SettledBy;
use std::time::Duration;
use tallygate_core::StoreDown;
use tallygate_sim::Rng;

/// Longer than the store is out of reach where nothing is to end by its deadline.
const LONG: Duration = Duration::from_secs(30);

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Nothing: not a token is charged that was not used.
    Calm,
    /// The same, but that messages are lost, and processes or the server out of reach for less than a share lives.
    Away,
    /// Losses, partitions and deaths, and clocks that run apart by up to a 64th.
    Rough,
    /// The server's clock is set back too.
    Clocks,
    /// Replicas take over too, which have not heard of all shares.
    Failover,
}

/// What limits do while the store is out of reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    Closed,
    Share,
    Open,
    /// Those that all callers share are open, and the others are to share.
    Mixed,
}

/// What a seed is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) habit: Habit,
    pub(super) words: Words,
}

/// What seeds came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    /// How many decisions were made out of shares, and in the store.
    pub(super) here: u64,
    pub(super) there: u64,
    /// How many of shares while the store was away, and how many then that nobody counts.
    pub(super) alone: u64,
    pub(super) uncounted: u64,
    /// How many ends were kept for the store.
    pub(super) kept: u64,
    pub(super) overshoot: Overshoot,
}

impl Words {
    /// Of the limits of one caller, and of all.
    pub(super) const fn each(self) -> [StoreDown; 2] {
        match self {
            Self::Closed => [StoreDown::Closed; 2],
            Self::Share => [StoreDown::Share; 2],
            Self::Open => [StoreDown::Open; 2],
            Self::Mixed => [StoreDown::Share, StoreDown::Open],
        }
    }

    pub(super) fn is_closed(self) -> bool {
        self == Self::Closed
    }
}

impl Scene {
    pub(super) const fn closed(habit: Habit) -> Self {
        let words = Words::Closed;
        Self { habit, words }
    }

    pub(super) fn weather(self, rng: &mut Rng) -> Weather {
        let is_calm = self.habit == Habit::Calm;
        Weather {
            lost: if is_calm { 0 } else { rng.below(60) },
            delay: rng.below(6),
            stall: rng.below(80),
        }
    }

    /// Whether nothing is charged but what was used.
    pub(super) fn is_exact(self) -> bool {
        matches!(self.habit, Habit::Calm | Habit::Away)
    }

    /// For how many milliseconds at most the store is out of reach.
    pub(super) fn longest(self) -> u64 {
        match self.habit {
            Habit::Away => 4_000,
            _ => 45_000,
        }
    }

    /// How long a reservation lives, and who settles it.
    pub(super) fn terms(self, rng: &mut Rng) -> (Duration, SettledBy) {
        let ttl = Duration::from_millis(200 + rng.below(5000));
        match (self.words, self.habit) {
            (Words::Closed, _) => (ttl, SettledBy::ThisNode),
            // An open limit's share ends too soon to be charged for no more than was used.
            (Words::Open, Habit::Away) => (ttl + LONG, SettledBy::AnyNode),
            (_, Habit::Away) => (ttl + LONG, settler(rng)),
            _ => (ttl, settler(rng)),
        }
    }

    /// How often an end is asked for.
    pub(super) fn repeats(self, rng: &mut Rng) -> u64 {
        match self.words {
            Words::Closed => 1,
            _ => 1 + rng.below(4) / 3,
        }
    }
}

fn settler(rng: &mut Rng) -> SettledBy {
    match rng.below(2) {
        0 => SettledBy::AnyNode,
        _ => SettledBy::ThisNode,
    }
}

impl Sum {
    pub(super) fn add(&mut self, other: Self) {
        self.here += other.here;
        self.there += other.there;
        self.alone += other.alone;
        self.uncounted += other.uncounted;
        self.kept += other.kept;
        self.overshoot = self.overshoot.max(other.overshoot);
    }

    /// Whether seeds have shown what they are for: one alone need not.
    pub(super) fn is_enough(&self, count: u64, least: u64) -> bool {
        count >= least || is_one_seed()
    }
}
