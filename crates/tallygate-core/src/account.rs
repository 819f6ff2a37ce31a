//! The counters of one rule for one value of its labels, and the table of all of them.
use crate::counter::{State, Track};
use crate::num;
use crate::policy::CompiledRule;
use crate::table::Table;
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Names the counters of one rule for one value of its labels: 96 bits of a keyed hash of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) high: u32,
    pub(crate) low: u64,
}

/// The counters of one rule for one value of its labels: 48 bytes up to two limits.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    low: u64,
    high: u32,
    /// One more than the place of its [`Motion`]; zero: at rest.
    motion: u32,
    states: States,
}

const _: () = assert!(
    size_of::<Account>() <= 48,
    "an account grew past its bar of memory"
);

#[derive(Debug, Clone)]
enum States {
    Two([State; 2]),
    Many(Box<[State]>),
}

/// What an account keeps while reservations are open on it or callers wait for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Motion {
    /// Open reservations.
    pub(crate) open: u32,
    pub(crate) tracks: SmallVec<[Track; 2]>,
    pub(crate) lines: SmallVec<[Line; 2]>,
}

/// The callers that wait for one counter, by the order of their arrival.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub(crate) waiters: BTreeMap<u64, u32>,
    /// The sum of what they wait for.
    pub(crate) queued: u64,
    /// When the first of them is to be asked again; none: when something is given back.
    pub(crate) wake: Option<crate::time::Time>,
}

impl Account {
    pub(crate) fn fresh(key: Key, rule: &CompiledRule) -> Self {
        let states = match rule.limits.len() {
            0..=2 => States::Two([rule.fresh(0), rule.fresh(1)]),
            many => States::Many((0..many).map(|at| rule.fresh(at)).collect()),
        };
        Self {
            states,
            ..Self::keyed(key)
        }
    }

    /// No account: what stands in a free place of a table.
    pub(crate) fn vacant() -> Self {
        Self::keyed(Key {
            slot: 0,
            high: 0,
            low: 0,
        })
    }

    /// An account of no counter.
    pub(crate) fn keyed(key: Key) -> Self {
        Self {
            low: key.low,
            high: key.high,
            motion: 0,
            states: States::Two([State::Gauge(0), State::Gauge(0)]),
        }
    }

    #[inline]
    pub(crate) fn is_vacant(&self) -> bool {
        self.low == 0
    }

    pub(crate) fn low(&self) -> u64 {
        self.low
    }

    /// What orders the accounts of a table.
    fn name(&self) -> (u64, u32) {
        (self.low, self.high)
    }

    /// Its name in a rule.
    pub(crate) fn key(&self, slot: u32) -> Key {
        Key {
            slot,
            high: self.high,
            low: self.low,
        }
    }

    #[inline]
    pub(crate) fn states(&self) -> &[State] {
        match &self.states {
            States::Two(states) => states,
            States::Many(states) => states,
        }
    }

    #[inline]
    pub(crate) fn states_mut(&mut self) -> &mut [State] {
        match &mut self.states {
            States::Two(states) => states,
            States::Many(states) => states,
        }
    }

    /// The place of its motion, if it has one.
    #[inline]
    pub(crate) fn motion(&self) -> Option<usize> {
        self.motion.checked_sub(1).map(num::index)
    }

    pub(crate) fn set_motion(&mut self, at: Option<usize>) {
        self.motion = at.map_or(0, |at| num::index32(at).saturating_add(1));
    }

    #[inline]
    pub(crate) fn is(&self, key: Key) -> bool {
        self.low == key.low && self.high == key.high
    }
}

/// The motions of all accounts. One that has come to rest stays where it is for the next, with the memory it has.
#[derive(Debug, Default)]
pub(crate) struct Motions {
    all: Vec<Motion>,
    resting: Vec<usize>,
}

/// How many motions at rest are kept once all are.
const SPARE: usize = 1024;

impl Motions {
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&Motion> {
        self.all.get(at)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut Motion> {
        self.all.get_mut(at)
    }

    /// The motion of an account, set going if it was at rest.
    pub(crate) fn of(&mut self, account: &mut Account, counters: usize) -> Option<&mut Motion> {
        let at = match account.motion() {
            Some(at) => at,
            None => {
                let at = self.next();
                account.set_motion(Some(at));
                self.all.get_mut(at)?.fit(counters);
                at
            }
        };
        self.all.get_mut(at)
    }

    /// Lets an account come to rest if nothing moves on it any more.
    pub(crate) fn rest(&mut self, account: &mut Account) {
        let Some(at) = account.motion() else { return };
        if self.all.get(at).is_some_and(Motion::is_still) {
            account.set_motion(None);
            self.remove(at);
        }
    }

    /// Forgets a motion whose account has gone or needs it no more.
    pub(crate) fn remove(&mut self, at: usize) {
        if let Some(motion) = self.all.get_mut(at).filter(|motion| !motion.is_still()) {
            *motion = Motion::default();
        }
        self.resting.push(at);
        if self.resting.len() == self.all.len() && self.all.len() > SPARE {
            self.all = Vec::new();
            self.resting = Vec::new();
        }
    }

    /// All motions, resting ones as well.
    pub(crate) fn all(&self) -> &[Motion] {
        &self.all
    }

    /// A motion at rest.
    fn next(&mut self) -> usize {
        self.resting.pop().unwrap_or_else(|| {
            self.all.push(Motion::default());
            self.all.len().saturating_sub(1)
        })
    }
}

impl Motion {
    /// Makes a motion at rest one of this many counters.
    fn fit(&mut self, counters: usize) {
        self.open = 0;
        self.tracks.resize_with(counters, Track::default);
        self.lines.resize_with(counters, Line::default);
    }

    /// Whether nothing is open and nobody waits.
    pub(crate) fn is_still(&self) -> bool {
        self.open == 0 && self.lines.iter().all(|line| line.waiters.is_empty())
    }
}

/// Where an account stands in its table, until the table grows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(usize);

/// How many tables the accounts of a rule are spread over, so that growing or sweeping one is short.
pub(crate) const TABLES: usize = 64;

/// The accounts of one rule.
#[derive(Debug)]
pub(crate) struct Accounts {
    tables: Box<[Table]>,
    swept: usize,
}

impl Accounts {
    pub(crate) fn new() -> Self {
        Self {
            tables: (0..TABLES).map(|_| Table::default()).collect(),
            swept: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<Place> {
        self.tables.get(table_of(key))?.find(key).map(Place)
    }

    #[inline]
    pub(crate) fn get(&self, key: Key, place: Place) -> Option<&Account> {
        self.tables.get(table_of(key))?.get(place.0)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key, place: Place) -> Option<&mut Account> {
        self.tables.get_mut(table_of(key))?.get_mut(place.0)
    }

    pub(crate) fn lookup(&self, key: Key) -> Option<&Account> {
        self.get(key, self.find(key)?)
    }

    pub(crate) fn lookup_mut(&mut self, key: Key) -> Option<&mut Account> {
        let place = self.find(key)?;
        self.get_mut(key, place)
    }

    /// Adds an account that is not there yet.
    pub(crate) fn insert(&mut self, key: Key, account: Account) -> Option<Place> {
        let table = self.tables.get_mut(table_of(key))?;
        table.insert(account).map(Place)
    }

    /// The accounts of each table, by name.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = Vec<&Account>> {
        self.tables.iter().map(|table| {
            let mut accounts: Vec<&Account> = table.iter().collect();
            accounts.sort_unstable_by_key(|account| account.name());
            accounts
        })
    }

    /// Adds to table number `at`, which is empty, accounts in the order of their names; none if they are not, or not of this table.
    pub(crate) fn fill(&mut self, at: usize, accounts: Vec<Account>) -> Option<()> {
        let ordered = accounts.is_sorted_by(|a, b| a.name() < b.name());
        let mut keys = accounts.iter().map(|account| account.key(0));
        if !ordered || keys.any(|key| table_of(key) != at) {
            return None;
        }
        self.tables.get_mut(at)?.fill(accounts);
        Some(())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Account> {
        self.tables.iter_mut().flat_map(Table::iter_mut)
    }

    /// The next table in turn to be swept.
    pub(crate) fn turn(&mut self) -> usize {
        self.swept = self.swept.wrapping_add(1) & TABLES.wrapping_sub(1);
        self.swept
    }

    /// Drops from one table the accounts that are as good as fresh; answers how many.
    pub(crate) fn sweep(&mut self, table: usize, idle: impl Fn(&Account) -> bool) -> usize {
        let table = self.tables.get_mut(table);
        table.map_or(0, |table| {
            table.retain(|account| account.motion().is_some() || !idle(account))
        })
    }
}

#[inline]
fn table_of(key: Key) -> usize {
    num::index(key.high) & TABLES.wrapping_sub(1)
}
