//! Summing blocks up.

use std::collections::HashMap;
use std::ops::Range;

use super::block::{BlockError, BlockView, Kind};
use super::period::Period;
use super::record::{NUMBERS, asked_cost_of, cost_of, number};
use super::rows::Chunk;
use super::{Dimension, Method, Outcome, Query, Report, Row, Totals};

/// The most rows of a report; what belongs to further ones is in the totals alone.
pub const MAX_ROWS: usize = 100_000;

/// The sums of a query while blocks are added.
#[derive(Debug)]
pub struct Tally<'q> {
    query: &'q Query,
    rows: HashMap<Box<[u32]>, usize>,
    sums: Vec<Totals>,
    values: Values,
    /// The sums of what has no row.
    rest: Totals,
    damaged: u64,
    /// Kept so that memory is asked for once.
    chunk: Option<Box<Chunk>>,
}

/// The values of dimensions, each once.
#[derive(Debug, Default)]
struct Values {
    names: Vec<Box<str>>,
    places: HashMap<Box<str>, u32>,
}

impl Values {
    fn place(&mut self, name: &str) -> u32 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.into());
        self.places.insert(name.into(), place);
        place
    }

    fn name(&self, place: u32) -> &str {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        self.names.get(place).map_or("", |name| name)
    }
}

/// Of each label set, or each kind, of a block: which of the few combinations that matter it is. `None`: filtered out.
#[derive(Debug)]
struct Parts {
    of: Vec<Option<u32>>,
    /// The values of each combination, for the query's dimensions in turn; 0 for those that are not of this sort.
    keys: Vec<Vec<u32>>,
}

impl Parts {
    fn gather(found: impl Iterator<Item = Option<Vec<u32>>>) -> Self {
        let mut places: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut keys = Vec::new();
        let mut place = |key: Vec<u32>| {
            *places.entry(key).or_insert_with_key(|key| {
                keys.push(key.clone());
                u32::try_from(keys.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let of = found.map(|key| key.map(&mut place)).collect();
        Self { of, keys }
    }

    fn of(&self, place: u64) -> Option<u32> {
        *self.of.get(usize::try_from(place).ok()?)?
    }
}

/// What the records of a block are told apart by.
struct Apart {
    sets: Parts,
    kinds: Parts,
    /// Of each kind: what its records are, whatever their numbers.
    natures: Vec<Nature>,
}

/// Records that fall in the same periods.
#[derive(Default)]
struct Stretch {
    /// The values of the query's periods; 0 for the other dimensions.
    periods: Vec<u32>,
    /// The first time that is in others.
    until: u64,
    /// The places of the sums of each combination of a label set and a kind.
    rows: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Nature {
    admitted: bool,
    downgraded: bool,
    /// A limit refused it for now.
    denied: bool,
    /// It was served, and what it used nobody could say.
    unknown: bool,
}

/// No row was looked up yet.
const UNKNOWN: u32 = u32::MAX;
/// It has none.
const NO_ROW: u32 = u32::MAX - 1;

impl<'q> Tally<'q> {
    /// Nothing added yet.
    #[must_use]
    pub fn new(query: &'q Query) -> Self {
        Self {
            query,
            rows: HashMap::new(),
            sums: Vec::new(),
            values: Values::default(),
            rest: Totals::default(),
            damaged: 0,
            chunk: None,
        }
    }

    /// Notes a piece that could not be read.
    pub fn note_damage(&mut self, pieces: u64) {
        self.damaged = self.damaged.saturating_add(pieces);
    }

    /// Adds the records of `block` that the query asks for.
    ///
    /// # Errors
    /// When it is not what it should be although its checksum is right; some of it may have been added.
    pub fn add(&mut self, block: &BlockView<'_>) -> Result<(), BlockError> {
        if block.last < self.query.from || block.first >= self.query.to {
            return Ok(());
        }
        let mut chunk = self.chunk.take().unwrap_or_else(Chunk::new);
        let added = self.add_rows(block, &mut chunk);
        self.chunk = Some(chunk);
        added
    }

    fn add_rows(&mut self, block: &BlockView<'_>, chunk: &mut Chunk) -> Result<(), BlockError> {
        let nature = |kind: &Kind| Nature {
            admitted: kind.outcome.is_admitted(),
            downgraded: kind.model != kind.asked && kind.outcome.is_admitted(),
            denied: kind.outcome == Outcome::Denied,
            unknown: kind.outcome == Outcome::Settled && kind.method == Method::Kept,
        };
        let apart = Apart {
            sets: self.set_parts(block),
            kinds: self.kind_parts(block),
            natures: block.kinds.iter().map(nature).collect(),
        };
        let (mut rows, mut stretch) = (block.rows, Stretch::default());
        loop {
            let count = rows.next(chunk)?;
            if count == 0 {
                return Ok(());
            }
            let times = &chunk.times[..count];
            let begin = times.partition_point(|time| *time < self.query.from);
            let end = times.partition_point(|time| *time < self.query.to);
            let mut at = begin;
            while at < end {
                self.stretch_to(chunk.times[at], &mut stretch, &apart);
                let stop = chunk.times[..end].partition_point(|time| *time < stretch.until);
                let stop = stop.clamp(at + 1, end);
                self.sum(at..stop, chunk, (&apart, &mut stretch));
                at = stop;
            }
        }
    }

    /// Goes on to the stretch that `time` falls in.
    fn stretch_to(&mut self, time: u64, stretch: &mut Stretch, apart: &Apart) {
        if time >= stretch.until {
            (stretch.periods, stretch.until) = self.periods(time);
            stretch.rows.clear();
            let combinations = apart.sets.keys.len() * apart.kinds.keys.len();
            stretch.rows.resize(combinations, UNKNOWN);
        }
    }

    /// Adds records that fall in the same periods.
    fn sum(
        &mut self,
        places: Range<usize>,
        chunk: &Chunk,
        (apart, stretch): (&Apart, &mut Stretch),
    ) {
        let width = apart.kinds.keys.len();
        for at in places {
            let (Some(set), Some(kind)) = (
                apart.sets.of(chunk.sets[at]),
                apart.kinds.of(chunk.kinds[at]),
            ) else {
                continue;
            };
            let place = index(set) * width + index(kind);
            if stretch.rows[place] == UNKNOWN {
                stretch.rows[place] = self.row(apart, &stretch.periods, (set, kind));
            }
            let sum = match stretch.rows[place] {
                NO_ROW => &mut self.rest,
                row => &mut self.sums[index(row)],
            };
            count(
                &chunk.row(at),
                apart.natures[place_of(chunk.kinds[at])],
                sum,
            );
        }
    }

    /// The place of a combination's sums.
    fn row(&mut self, apart: &Apart, periods: &[u32], (set, kind): (u32, u32)) -> u32 {
        let parts = [
            apart.sets.keys[index(set)].as_slice(),
            apart.kinds.keys[index(kind)].as_slice(),
            periods,
        ];
        let value = |place: usize| parts.iter().map(|part| part[place]).max().unwrap_or(0);
        let key: Box<[u32]> = (0..self.query.by.len()).map(value).collect();
        self.row_of(key)
    }

    fn row_of(&mut self, key: Box<[u32]>) -> u32 {
        let next = self.sums.len();
        if next >= MAX_ROWS && !self.rows.contains_key(&key) {
            return NO_ROW;
        }
        let row = *self.rows.entry(key).or_insert(next);
        if row == next {
            self.sums.push(Totals::default());
        }
        u32::try_from(row).unwrap_or(NO_ROW)
    }

    /// The periods that `time` falls in, and when the first of them ends.
    fn periods(&mut self, time: u64) -> (Vec<u32>, u64) {
        let mut until = u64::MAX;
        let query = self.query;
        let mut value = |dimension: &Dimension| {
            if !dimension.is_period() {
                return 0;
            }
            let period = Period::of(dimension, time, &query.zone);
            until = until.min(period.span.end);
            self.values.place(&period.name) + 1
        };
        let periods = query.by.iter().map(&mut value).collect();
        (periods, until)
    }

    fn set_parts(&mut self, block: &BlockView<'_>) -> Parts {
        let query = self.query;
        let found = (0..block.set_count()).map(|set| {
            let label = |name: &str| {
                let mut pairs = block.set(set).iter();
                let found = pairs.find(|(label, _)| block.text(*label) == name);
                found.map_or("", |(_, value)| block.text(*value))
            };
            let of = |dimension: &Dimension| match dimension {
                Dimension::Label(name) => Some(label(name)),
                _ => None,
            };
            self.values.key(query, of)
        });
        Parts::gather(found)
    }

    fn kind_parts(&mut self, block: &BlockView<'_>) -> Parts {
        let query = self.query;
        let found = block.kinds.iter().map(|kind| {
            let of = |dimension: &Dimension| match dimension {
                Dimension::Model => Some(block.text(kind.model)),
                Dimension::Asked => Some(block.text(kind.asked)),
                Dimension::Upstream => Some(block.text(kind.upstream)),
                Dimension::Limit => Some(block.text(kind.limit)),
                Dimension::Outcome => Some(kind.outcome.word()),
                Dimension::Method => Some(kind.method.word()),
                _ => None,
            };
            self.values.key(query, of)
        });
        Parts::gather(found)
    }

    /// Adds the sums of another part of the same question.
    pub fn merge(&mut self, other: &Tally<'_>) {
        for (key, from) in &other.rows {
            let own = |place: &u32| match place.checked_sub(1) {
                Some(place) => self.values.place(other.values.name(place)) + 1,
                None => 0,
            };
            let key: Box<[u32]> = key.iter().map(own).collect();
            let sum = match self.row_of(key) {
                NO_ROW => &mut self.rest,
                row => &mut self.sums[index(row)],
            };
            sum.add(&other.sums[*from]);
        }
        self.rest.add(&other.rest);
        self.note_damage(other.damaged);
    }

    /// The report of all that was added.
    #[must_use]
    pub fn finish(self) -> Report {
        let mut rows: Vec<Row> = self
            .rows
            .iter()
            .map(|(key, at)| self.finished(key, *at))
            .collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        let mut totals = self.rest;
        rows.iter().for_each(|row| totals.add(&row.totals));
        Report {
            by: self.query.by.clone(),
            rows,
            totals,
            without_row: self.rest.calls,
            damaged: self.damaged,
        }
    }

    fn finished(&self, key: &[u32], at: usize) -> Row {
        let name = |place: &u32| {
            let name = place.checked_sub(1).map(|place| self.values.name(place));
            name.unwrap_or_default().to_owned()
        };
        Row {
            key: key.iter().map(name).collect(),
            totals: self.sums[at],
        }
    }
}

impl Values {
    /// The values of the dimensions that `of` knows, one more than their places, and 0 for the others; `None` where the
    /// query leaves them out.
    fn key<'v>(
        &mut self,
        query: &Query,
        of: impl Fn(&Dimension) -> Option<&'v str>,
    ) -> Option<Vec<u32>> {
        let wanted = |(dimension, values): &(Dimension, Vec<String>)| {
            of(dimension).is_none_or(|value| values.iter().any(|wanted| wanted == value))
        };
        if !query.only.iter().all(wanted) {
            return None;
        }
        let mut place = |dimension| of(dimension).map_or(0, |value| self.place(value) + 1);
        Some(query.by.iter().map(&mut place).collect())
    }
}

/// Adds one record, given by its numbers.
#[inline]
fn count(row: &[u64; NUMBERS], nature: Nature, sum: &mut Totals) {
    let add = |sum: &mut u64, one: u64| *sum = sum.saturating_add(one);
    let (held, held_cost) = (row[number::HELD], cost_of(row[number::HELD_COST]));
    let held_cost = held_cost.unwrap_or(0);
    sum.calls += 1;
    add(&mut sum.waited_ms, row[number::WAITED]);
    if !nature.admitted {
        sum.denied += 1;
    }
    // What can never fit is no demand that somebody has: it saves nothing.
    if nature.denied {
        add(&mut sum.savings.refused_tokens, held);
        add(&mut sum.savings.refused_cost, held_cost);
    }
    let used = &mut sum.used;
    add(&mut used.input, row[number::INPUT]);
    add(&mut used.cached_input, row[number::CACHED_INPUT]);
    add(&mut used.cache_write, row[number::CACHE_WRITE]);
    add(&mut used.output, row[number::OUTPUT]);
    add(&mut used.reasoning, row[number::REASONING]);
    add(&mut sum.latency_ms, row[number::LATENCY]);
    let tokens = row[number::INPUT].saturating_add(row[number::OUTPUT]);
    let cost = cost_of(row[number::COST]);
    add(&mut sum.cost, cost.unwrap_or(0));
    sum.unpriced += u64::from(cost.is_none() && (tokens > 0 || nature.unknown));
    if nature.admitted {
        sum.admitted += 1;
        let savings = &mut sum.savings;
        add(&mut savings.refunded_tokens, held.saturating_sub(tokens));
        add(&mut savings.overrun_tokens, tokens.saturating_sub(held));
        let refunded_cost = held_cost.saturating_sub(cost.unwrap_or(0));
        add(&mut savings.refunded_cost, refunded_cost);
    }
    if nature.downgraded {
        sum.downgraded += 1;
        let asked = asked_cost_of(row[number::ASKED_COST], row[number::COST]);
        if let (Some(asked), Some(cost)) = (asked, cost) {
            let saved = signed(asked).saturating_sub(signed(cost));
            let sum = &mut sum.savings.downgraded_cost;
            *sum = sum.saturating_add(saved);
        }
    }
}

fn signed(cost: u64) -> i64 {
    i64::try_from(cost).unwrap_or(i64::MAX)
}

fn index(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn place_of(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
