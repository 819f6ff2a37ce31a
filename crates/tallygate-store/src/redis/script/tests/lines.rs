//! Lines: first come first served over processes, the dead block nobody, and whoever is next is told.
mod process;
mod run;

use super::bench::Bench;
use super::draw::{Draw, Habit};
use super::rule;
use crate::redis::desk::{Ask, Desk, Heard, views};
use crate::redis::names::{self, Account};
use crate::redis::record::Held;
use crate::redis::script::{Answers, Node, Op, Stand};
use crate::redis::sheet::{LineEntry, Order};
use process::{Process, name};
use std::collections::HashSet;
use std::sync::Arc;
use tallygate_core::{Amounts, Metric, Metrics, Policy, ReservationId, Shape, Span, Time, remote};
use tallygate_sim::servers::Engine;

/// What stands in the lines by what was said: limit, process, order, and when it is forgotten.
type Known = (usize, [u8; 8], u64, Time);

struct World {
    bench: Bench,
    desk: Desk,
    account: Arc<Account>,
    /// The first asks for nothing that others wait for.
    processes: Vec<Process>,
    lines: Vec<Known>,
    open: Vec<(ReservationId, Arc<Held>)>,
    now: Time,
    asked: u64,
    told: u64,
    waited: u64,
}

const STAY: u64 = 1_000_000;
const METRICS: [Metric; 2] = [Metric::TOKENS, Metric::CONCURRENCY];

impl World {
    fn new(sees_subscribers: bool) -> Self {
        let bucket = Shape::Bucket {
            every: Span::from_secs(600),
            burst: None,
            strict: false,
        };
        let limits = [
            (METRICS[0], 100, bucket),
            (METRICS[1], 3, Shape::Concurrency),
        ];
        let policy = Policy::new(vec![rule("r", &limits)], Metrics::default()).unwrap();
        let mut bench = Bench::open(Engine::Redis);
        let node = Node {
            sees_subscribers,
            writes_many: true,
            ..bench.node()
        };
        let desk = Desk::new(node.clone(), &policy);
        let process = |at: u64| Process {
            node: Node {
                name: name(at),
                ..node.clone()
            },
            ears: None,
        };
        let mut processes: Vec<Process> = (0..5).map(process).collect();
        for process in &mut processes {
            process.listens(bench.server.port());
        }
        Self {
            account: desk.resolve(&[("user", "a")]).remove(0),
            bench,
            desk,
            processes,
            lines: Vec::new(),
            open: Vec::new(),
            now: Time::from_secs(1_800_000_000),
            asked: 10,
            told: 0,
            waited: 0,
        }
    }

    fn step(&mut self, draw: &mut Draw) {
        let who = draw.below(self.processes.len() as u64) as usize;
        match draw.below(20) {
            0 | 1 => self.pass(draw),
            2..=10 => self.ask(draw, who),
            11..=15 if self.processes[who].is_alive() => self.give_back(draw, who),
            16 | 17 if self.processes[who].is_alive() => self.leave(draw, who),
            _ => self.turn_over(who),
        }
        self.check();
    }

    fn pass(&mut self, draw: &mut Draw) {
        let most = draw.one(&[1000, 100_000, 2_000_000]);
        self.now = self.now.plus(Span::from_nanos(draw.below(most) * 1000));
        let now = self.now;
        self.lines.retain(|entry| entry.3 > now);
    }

    /// A process dies, or another one takes its place.
    fn turn_over(&mut self, who: usize) {
        let port = self.bench.server.port();
        self.asked += 1;
        let name = name(self.asked);
        let process = &mut self.processes[who];
        match process.is_alive() {
            false => {
                process.node.name = name;
                process.listens(port);
            }
            true => {
                let channel = format!(
                    "{}:n:{}",
                    process.node.prefix,
                    String::from_utf8_lossy(&process.node.name)
                );
                process.ears = None;
                // The server notices that it is gone a moment later.
                while self
                    .bench
                    .ask::<(String, u64)>(&["PUBSUB", "NUMSUB", &channel])
                    .1
                    > 0
                {}
            }
        }
    }

    fn counts(&self, entry: &Known) -> bool {
        let mut alive = self.processes.iter().filter(|process| process.is_alive());
        let is_alive = alive.any(|process| process.node.name == entry.1);
        entry.3 > self.now && (is_alive || !self.desk.node.sees_subscribers)
    }

    fn ask(&mut self, draw: &mut Draw, who: usize) {
        if !self.processes[who].is_alive() {
            return;
        }
        self.asked += 1;
        let demand = Amounts::ZERO
            .with(METRICS[0], draw.below(40))
            .with(METRICS[1], draw.below(3));
        let name = self.processes[who].node.name;
        // Some stood before and come again in their old order.
        let mut mine = self.lines.iter().filter(|entry| entry.1 == name);
        let old = mine.next().copied().filter(|_| draw.below(2) == 0);
        let limit = old.map_or(draw.below(2) as usize, |entry| entry.0 - 1);
        let order = match (old, draw.below(3)) {
            (Some(entry), _) => entry.2,
            (None, 0) => Order::NEWCOMER.0,
            (None, _) => self.asked,
        };
        let stands = order != Order::NEWCOMER.0;
        let after = if draw.below(2) == 0 {
            self.asked + 1000
        } else {
            0
        };
        let stand = stands.then(|| Stand {
            account: 0,
            limit,
            queued: demand.get(METRICS[limit]),
            stay: STAY,
            turn: 7,
            after,
            after_queued: 5,
            follows: false,
        });
        let stood = self
            .lines
            .iter()
            .any(|one| (one.0, one.1) == (limit + 1, name));
        let expected = self.may_go(name, &demand, order);
        let (ask, answers) = self.reserve(who, demand, (order, stand));
        let heard = self.desk.reserved(&ask, &answers, 0).unwrap();
        match heard {
            Heard::Held(admission, held) => {
                assert!(expected, "overtook somebody, or had no room");
                self.open.push((admission.id, held));
                if stands {
                    self.lines.retain(|one| (one.0, one.1) != (limit + 1, name));
                    if after > 0 {
                        self.enter((limit + 1, name, after, self.stay()));
                    }
                }
            }
            _ => {
                assert!(!expected, "{heard:?} though there was room");
                if stands {
                    self.enter((limit + 1, name, order, self.stay()));
                }
            }
        }
        self.hear(who, stands && stood && expected);
    }

    fn stay(&self) -> Time {
        self.now.plus(Span::from_nanos(STAY * 1000))
    }

    fn enter(&mut self, entry: Known) {
        self.waited += 1;
        self.lines
            .retain(|one| (one.0, one.1) != (entry.0, entry.1));
        self.lines.push(entry);
        self.lines.sort_by_key(|one| one.2);
    }

    fn reserve(
        &mut self,
        who: usize,
        demand: Amounts,
        place: (u64, Option<Stand>),
    ) -> (Ask, Answers) {
        let ask = Ask {
            accounts: vec![self.account.clone()],
            demand,
            ttl: Span::from_secs(3600),
            name: None,
            id: names::new_id(self.account.tag),
        };
        let tag = self.account.tag;
        let op = self.desk.reserve(&ask, ask.accounts.clone(), tag, place);
        let node = self.processes[who].node.clone();
        let answers = self.bench.call(&node, &[&op], self.now);
        (ask, answers)
    }

    /// Whether all fits and nobody alive who came before waits for any of it.
    fn may_go(&mut self, name: [u8; 8], demand: &Amounts, order: u64) -> bool {
        let (_, remaining) = self.peek();
        let fits = METRICS
            .iter()
            .zip(&remaining)
            .all(|(metric, left)| demand.get(*metric) <= *left);
        let ahead = |entry: &&Known| {
            let wanted = demand.get(METRICS[entry.0 - 1]) > 0;
            wanted && entry.2 < order && (entry.1 == name || self.counts(entry))
        };
        fits && !self.lines.iter().any(|entry| ahead(&entry))
    }

    /// Who stands in line, and what is left of each limit.
    fn peek(&mut self) -> (Vec<LineEntry>, Vec<u64>) {
        let accounts = vec![self.account.clone()];
        let op = Op::Peek(accounts.clone(), Amounts::ZERO);
        let node = self.processes[0].node.clone();
        let answers = self.bench.call(&node, &[&op], self.now);
        let sheets = self.desk.sheets(&accounts, Order(0), &answers);
        let standings = remote::standings(&views(&accounts, &sheets), self.now);
        let left = standings.iter().map(|standing| standing.remaining);
        (sheets[0].line.clone(), left.collect())
    }

    fn give_back(&mut self, draw: &mut Draw, who: usize) {
        if self.open.is_empty() {
            return;
        }
        let at = draw.below(self.open.len() as u64) as usize;
        let (id, held) = self.open.remove(at);
        let place = (self.account.tag, held.accounts.clone());
        let op = self.desk.withdraw(id, &held, place);
        let node = self.processes[who].node.clone();
        self.bench.call(&node, &[&op], self.now);
        let gave = held.total() != Amounts::ZERO;
        self.hear(who, gave);
    }

    fn leave(&mut self, draw: &mut Draw, who: usize) {
        let limit = draw.below(2) as usize;
        let node = self.processes[who].node.clone();
        let op = Op::Leave(self.account.clone(), limit);
        self.bench.call(&node, &[&op], self.now);
        let before = self.lines.len();
        self.lines
            .retain(|one| (one.0, one.1) != (limit + 1, node.name));
        self.hear(who, self.lines.len() < before);
    }

    /// After something was given back or a line moved, the first of each line was told, if it is another than who did it.
    fn hear(&mut self, who: usize, must: bool) {
        let mine = self.processes[who].node.name;
        let mut seen = HashSet::new();
        let counted: Vec<Known> = self
            .lines
            .iter()
            .filter(|one| self.counts(one))
            .copied()
            .collect();
        let heads: Vec<Known> = counted
            .into_iter()
            .filter(|one| seen.insert(one.0))
            .collect();
        for process in &mut self.processes {
            let told = process.hears();
            let name = process.node.name;
            let limits: HashSet<usize> = told
                .iter()
                .filter(|message| message[0] == b'w')
                .map(|message| usize::from(message[1]))
                .collect();
            self.told += limits.len() as u64;
            // Who calls need not be told.
            let leads = |limit: &usize| heads.iter().any(|head| (head.0, head.1) == (*limit, name));
            let must_hear = must && process.is_alive() && name != mine;
            for limit in 1..=METRICS.len() {
                let is_told = limits.contains(&limit);
                assert!(
                    !is_told || leads(&limit),
                    "told of a line that another leads"
                );
                assert!(
                    is_told || !must_hear || !leads(&limit),
                    "leads a line, and was not told"
                );
            }
        }
    }

    fn check(&mut self) {
        let (line, _) = self.peek();
        let orders: Vec<u64> = line.iter().map(|entry| entry.order).collect();
        assert!(orders.is_sorted(), "{orders:?}");
        let known = |entry: &LineEntry| (entry.limit, entry.node, entry.order);
        let script: HashSet<_> = line
            .iter()
            .filter(|entry| {
                self.counts(&(
                    entry.limit,
                    entry.node,
                    entry.order,
                    crate::redis::sheet::instant(entry.till),
                ))
            })
            .map(known)
            .collect();
        let mine: HashSet<_> = self
            .lines
            .iter()
            .filter(|entry| self.counts(entry))
            .map(|entry| (entry.0, entry.1, entry.2))
            .collect();
        assert_eq!(script, mine);
    }
}

#[test]
fn nobody_is_overtaken_but_by_those_who_came_before() {
    for seed in 0..8 {
        let mut draw = Draw::new(seed, Habit::Plain);
        let mut world = World::new(seed % 2 == 0);
        for _ in 0..400 {
            world.step(&mut draw);
        }
        assert!(
            world.told > 10 && world.waited > 30,
            "{} {}",
            world.told,
            world.waited
        );
    }
}
