//! Records and questions by chance.

use jiff::tz::TimeZone;

use crate::usage::{Call, Dimension, Labels, Method, Outcome, Query, Record, Used};

/// Chance by a seed (SplitMix64).
pub(super) struct Draw(u64);

const DAY: u64 = 86_400_000;
const BEGIN: u64 = 1_790_000_000_000;

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("small")
    }

    fn one<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    /// Small ones mostly, and now and then the largest there is.
    fn amount(&mut self) -> u64 {
        match self.below(20) {
            0 => 0,
            1 => 1 << 53,
            2 => self.next() >> 11,
            _ => self.next() % 3_000,
        }
    }

    fn cost(&mut self) -> Option<u64> {
        (self.below(4) > 0).then(|| self.amount())
    }

    pub(super) fn records(&mut self, count: usize) -> Vec<Record> {
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Record {
        let mut labels = Vec::new();
        for (name, values) in [
            ("tenant", &["acme", "globex", "initech", "ümläut\n"][..]),
            ("user", &["alice", "bob", "carol", "dave", "erin"]),
            ("tier", &["free", "pro"]),
        ] {
            if self.below(5) > 0 {
                labels.push((name, self.one(values)));
            }
        }
        let cost = self.cost();
        let asked_cost = if self.below(2) == 0 {
            cost
        } else {
            self.cost()
        };
        Record {
            time: BEGIN + self.next() % (20 * DAY),
            labels: Labels::new(labels),
            call: self.call(),
            used: Used {
                input: self.amount(),
                cached_input: self.amount(),
                cache_write: self.amount(),
                output: self.amount(),
                reasoning: self.amount(),
            },
            held: self.amount(),
            cost,
            held_cost: self.cost(),
            asked_cost,
            waited_ms: self.amount(),
            latency_ms: self.amount(),
        }
    }

    fn call(&mut self) -> Call {
        const MODELS: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "claude", ""];
        let model = self.one(&MODELS);
        let asked = if self.below(3) > 0 {
            model
        } else {
            self.one(&MODELS)
        };
        Call {
            model: model.into(),
            asked: asked.into(),
            upstream: self.one(&["openai", "anthropic", ""]).into(),
            limit: self.one(&["", "", "free-day", "ent-spend"]).into(),
            outcome: Outcome::ALL[self.below(Outcome::ALL.len())],
            method: Method::ALL[self.below(Method::ALL.len())],
        }
    }

    pub(super) fn query(&mut self) -> Query {
        const NAMES: [&str; 14] = [
            "tenant", "user", "tier", "team", "model", "asked", "upstream", "outcome", "limit",
            "method", "hour", "day", "week", "month",
        ];
        let by = (0..self.below(4)).map(|_| self.one(&NAMES));
        let by = by.map(|name| name.parse().expect("a dimension")).collect();
        let (from, to) = match self.below(3) {
            0 => (0, u64::MAX),
            _ => {
                let ends = [10, 20].map(|days| BEGIN + self.next() % (days * DAY));
                (ends[0].min(ends[1]), ends[0].max(ends[1]))
            }
        };
        let mut only = Vec::new();
        for (name, values) in [
            ("tenant", &["acme", ""][..]),
            ("model", &["gpt-4o", ""]),
            ("outcome", &["denied", "settled"]),
        ] {
            if self.below(4) == 0 {
                let values = values.iter().take(1 + self.below(2));
                let dimension: Dimension = name.parse().expect("a dimension");
                only.push((dimension, values.map(|value| (*value).to_owned()).collect()));
            }
        }
        let zone = self.one(&["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata"]);
        Query {
            by,
            from,
            to,
            zone: TimeZone::get(zone).expect("known"),
            only,
        }
    }
}

/// Calls as they come in a day, about a dozen a second.
pub(super) fn busy_day(count: usize) -> Vec<Record> {
    let mut draw = Draw::new(42);
    let mut time = BEGIN;
    let record = |_| {
        time += draw.next() % 170;
        let user = draw.below(10_000);
        let (input, output) = (draw.next() % 4_000, draw.next() % 900);
        let cost = input * 5 / 2 + output * 10;
        let (tenant, user) = (format!("tenant-{}", user % 100), format!("user-{user}"));
        Record {
            time,
            labels: Labels::new([("tenant", &*tenant), ("user", &*user), ("tier", "pro")]),
            call: Call {
                model: "gpt-4o".into(),
                asked: "gpt-4o".into(),
                upstream: "openai".into(),
                ..Call::default()
            },
            used: Used {
                input,
                cached_input: if draw.below(3) == 0 { input / 2 } else { 0 },
                output,
                ..Used::default()
            },
            held: input + 1_000,
            cost: Some(cost),
            held_cost: Some(cost + 3_000),
            asked_cost: Some(cost),
            waited_ms: 0,
            latency_ms: 300 + draw.next() % 9_000,
        }
    };
    (0..count).map(record).collect()
}
