//! What was told of which counters, so that it is not told again before their window ends.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash, Hasher};

use tallygate_core::Time;

/// Pairs of models that are remembered of a counter.
const MOST_PAIRS: usize = 64;

/// The counters that something was told of, each until its window ends or its bucket is full again. Past the most that are
/// remembered, those whose end is the nearest are forgotten.
pub(super) struct Memory {
    most: usize,
    counters: HashMap<Name, Known>,
    by_end: BTreeSet<(Time, Name)>,
    /// Names are made with these: nobody can make two counters share one.
    seeds: [RandomState; 2],
}

/// Names a counter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name([u64; 2]);

/// What was told of one counter.
struct Known {
    until: Time,
    /// The highest threshold.
    percent: u8,
    denied: bool,
    /// Hashes of the pairs of models.
    downgraded: Vec<u64>,
}

/// What is to be told.
#[derive(Debug, Clone, Copy)]
pub(super) enum What<'a> {
    /// So many percent are used.
    Percent(u8),
    /// A call was denied.
    Denied,
    /// A call for one model was served by another.
    Downgraded(&'a str, &'a str),
}

/// Whether something is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It was told before, or what was told says more.
    Known,
    /// It is new.
    New,
    /// It is new, and there is so much to remember that what was told of another counter is forgotten.
    NewForOld,
}

impl Memory {
    /// Of so many counters.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            counters: HashMap::new(),
            by_end: BTreeSet::new(),
            seeds: [RandomState::new(), RandomState::new()],
        }
    }

    /// Names a counter of a limit by the values that it counts apart.
    pub(super) fn name<'a>(
        &self,
        limit: (&str, usize),
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Name {
        Name([0, 1].map(|at: usize| {
            let mut hasher = self.seeds[at].build_hasher();
            limit.hash(&mut hasher);
            labels.clone().for_each(|label| label.hash(&mut hasher));
            hasher.finish()
        }))
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// A counter is in the same window, or not yet full again, until then.
    pub(super) fn goes_on(&mut self, name: Name, (until, now): (Time, Time)) {
        self.forget_ended(now);
        let Some(known) = self.counters.get_mut(&name) else {
            return;
        };
        if known.until != until {
            self.by_end.remove(&(known.until, name));
            self.by_end.insert((until, name));
            known.until = until;
        }
    }

    /// Whether this is to be told of a counter; remembers it until then.
    pub(super) fn note(&mut self, name: Name, what: What<'_>, times: (Time, Time)) -> News {
        self.goes_on(name, times);
        let pair = self.seeds[0].hash_one(match what {
            What::Downgraded(asked, served) => (asked, served),
            _ => ("", ""),
        });
        if let Some(known) = self.counters.get_mut(&name) {
            return match known.learns(what, pair) {
                true => News::New,
                false => News::Known,
            };
        }
        let mut news = News::New;
        if self.counters.len() >= self.most
            && let Some((_, nearest)) = self.by_end.pop_first()
        {
            self.counters.remove(&nearest);
            news = News::NewForOld;
        }
        let mut known = Known {
            until: times.0,
            percent: 0,
            denied: false,
            downgraded: Vec::new(),
        };
        known.learns(what, pair);
        self.by_end.insert((known.until, name));
        self.counters.insert(name, known);
        news
    }

    fn forget_ended(&mut self, now: Time) {
        while let Some((until, name)) = self.by_end.first().copied() {
            if now < until {
                return;
            }
            self.by_end.pop_first();
            self.counters.remove(&name);
        }
    }
}

impl Known {
    /// False if it says nothing new.
    fn learns(&mut self, what: What<'_>, pair: u64) -> bool {
        match what {
            What::Percent(percent) => {
                let is_higher = percent > self.percent;
                self.percent = self.percent.max(percent);
                is_higher
            }
            What::Denied => !std::mem::replace(&mut self.denied, true),
            What::Downgraded(..) if self.downgraded.contains(&pair) => false,
            What::Downgraded(..) => {
                if self.downgraded.len() >= MOST_PAIRS {
                    self.downgraded.remove(0);
                }
                self.downgraded.push(pair);
                true
            }
        }
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
