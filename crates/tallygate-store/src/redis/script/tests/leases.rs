//! Shares: whatever nodes do and whichever of them die, what all have spent keeps every limit's promise.
mod truth;

use super::bench::Bench;
use super::case::SUBJECTS;
use super::draw::{Draw, Habit};
use crate::pack::Unpack;
use crate::redis::desk::{Ask, Desk, Done, Heard, views};
use crate::redis::names::{self, Account};
use crate::redis::record::{Ending, Held};
use crate::redis::script::{Lease, Node, Op};
use crate::redis::sheet::{Order, Sheet, instant, micros};
use std::sync::Arc;
use tallygate_core::{
    Amounts, Metric, Metrics, Mode, Outcome, Policy, ReservationId, Rule, Span, StoreDown, Time,
    remote,
};
use tallygate_sim::servers::Engine;
use truth::Truth;

/// A process that decides in memory as long as it has a share.
struct Holder {
    node: Node,
    turn: u64,
    till: Time,
    /// What it has of each limit.
    share: Vec<u64>,
    /// What it spent of it since it told last.
    spent: Vec<u64>,
}

struct World {
    bench: Bench,
    node: Node,
    desk: Desk,
    account: Arc<Account>,
    metrics: Vec<Metric>,
    truth: Truth,
    holders: Vec<Holder>,
    open: Vec<(ReservationId, Arc<Held>, ReservationId, Time, Amounts)>,
    now: Time,
    asked: u64,
    nodes: u64,
    grown: u64,
    lost: u64,
}

impl World {
    fn new(draw: &mut Draw, mut bench: Bench) -> Self {
        let rule = rule(draw);
        let policy = Policy::new(vec![rule.clone()], Metrics::default()).unwrap();
        bench.clear();
        let node = bench.node();
        let desk = Desk::new(node.clone(), &policy);
        let account = desk.resolve(&SUBJECTS[0]).remove(0);
        Self {
            metrics: rule.limits.iter().map(|limit| limit.0).collect(),
            truth: Truth::new(&rule),
            bench,
            node,
            desk,
            account,
            holders: Vec::new(),
            open: Vec::new(),
            now: draw.start(),
            asked: 0,
            nodes: 0,
            grown: 0,
            lost: 0,
        }
    }

    fn step(&mut self, draw: &mut Draw) {
        match draw.below(20) {
            0..=4 => self.pass(draw),
            5 | 6 if self.holders.len() < 5 => self.add_holder(),
            7..=10 => self.spend(draw),
            11..=14 => self.report(draw),
            15 => self.die(draw),
            16..=18 => self.reserve(draw),
            _ => self.settle(draw),
        }
        self.check();
    }

    fn pass(&mut self, draw: &mut Draw) {
        let most = draw.one(&[2, 50, 500, 200_000, 2_000_000, 150_000_000_000]);
        self.now = self.now.plus(Span::from_nanos(draw.below(most) * 1000));
        for holder in &mut self.holders {
            if holder.till <= self.now {
                holder.share.fill(0);
            }
        }
    }

    fn add_holder(&mut self) {
        self.nodes += 1;
        let mut node = self.node.clone();
        node.name = *format!("node{:04}", self.nodes)
            .as_bytes()
            .first_chunk()
            .unwrap();
        let nothing = vec![0; self.metrics.len()];
        self.holders.push(Holder {
            node,
            turn: 0,
            till: self.now,
            share: nothing.clone(),
            spent: nothing,
        });
    }

    /// A node decides by itself.
    fn spend(&mut self, draw: &mut Draw) {
        if self.holders.is_empty() {
            return;
        }
        let at = draw.below(self.holders.len() as u64) as usize;
        let holder = &mut self.holders[at];
        let mut amounts = Amounts::ZERO;
        for (limit, metric) in self.metrics.iter().enumerate() {
            let amount = match draw.below(3) {
                0 => holder.share[limit],
                _ => draw.below(holder.share[limit] + 1),
            };
            holder.share[limit] -= amount;
            holder.spent[limit] += amount;
            amounts.set(*metric, amount);
        }
        self.truth.spend(&amounts, self.now);
    }

    /// A node tells what it spent, gives back, asks for more; the answer may be lost, and the report come again.
    fn report(&mut self, draw: &mut Draw) {
        if self.holders.is_empty() {
            return;
        }
        let at = draw.below(self.holders.len() as u64) as usize;
        let holder = &mut self.holders[at];
        holder.turn += 1;
        let mut any = |most: u64| match draw.below(3) {
            0 => 0,
            _ => draw.below(most + 1),
        };
        let limits = self.account.rule.rule.limits();
        let more: Vec<u64> = limits.map(|limit| any(limit.largest())).collect();
        let back: Vec<u64> = holder.share.iter().map(|share| any(*share)).collect();
        let limits = self.account.rule.rule.limits();
        let spare: Vec<u64> = limits.map(|limit| any(limit.largest() / 4)).collect();
        let ttl = 1 + any(1_000_000);
        let op = Op::Lease(Lease {
            account: self.account.clone(),
            ttl,
            turn: holder.turn,
            known: holder.share.iter().chain(&holder.spent).any(|one| *one > 0),
            ahead: false,
            spent: holder.spent.clone(),
            over: vec![0; back.len()],
            back: back.clone(),
            more: more.clone(),
            spare,
        });
        let node = holder.node.clone();
        let times = 1 + any(2);
        let first = self.say(&node, &op);
        let stood = self.sheet();
        for _ in 1..times {
            let again = self.say(&node, &op);
            assert!(again == first || again == b"X" || first == b"X");
            assert_eq!(
                self.sheet(),
                stood,
                "a report that came twice counted twice"
            );
        }
        self.lost += u64::from(first == b"X");
        let holder = &mut self.holders[at];
        holder.spent.fill(0);
        if first == b"X" {
            return holder.share.fill(0);
        }
        let mut bytes = Unpack(&first[1..]);
        let grown = bytes.byte().unwrap() == 1;
        let _asked = bytes.byte().unwrap();
        holder.till = instant(bytes.long().unwrap());
        self.grown += u64::from(grown);
        for limit in 0..back.len() {
            holder.share[limit] -= back[limit];
            holder.share[limit] += if grown { more[limit] } else { 0 };
        }
    }

    /// A node is gone, with what it spent and told nobody.
    fn die(&mut self, draw: &mut Draw) {
        if !self.holders.is_empty() {
            let at = draw.below(self.holders.len() as u64) as usize;
            self.holders.remove(at);
        }
    }

    fn reserve(&mut self, draw: &mut Draw) {
        let mut demand = Amounts::ZERO;
        for limit in self.account.rule.rule.limits() {
            demand.set(limit.metric(), draw.below(limit.largest() / 2 + 2));
        }
        self.asked += 1;
        let mut random = [0; 12];
        random[..8].copy_from_slice(&self.asked.to_le_bytes());
        let ask = Ask {
            accounts: vec![self.account.clone()],
            demand,
            ttl: Span::from_secs(300_000_000),
            name: None,
            id: names::id_of(self.account.tag, random),
        };
        let place = (Order::NEWCOMER.0, None);
        let tag = self.account.tag;
        let op = self.desk.reserve(&ask, ask.accounts.clone(), tag, place);
        let answers = self.bench.call(&self.node, &[&op], self.now);
        if let Some(Heard::Held(admission, held)) = self.desk.reserved(&ask, &answers, 0) {
            let core = self.truth.reserve(&demand, self.now);
            self.open.push((admission.id, held, core, self.now, demand));
        }
    }

    fn settle(&mut self, draw: &mut Draw) {
        if self.open.is_empty() {
            return;
        }
        let at = draw.below(self.open.len() as u64) as usize;
        let (id, held, core, then, demand) = self.open.remove(at);
        let share = draw.below(1001);
        let used = demand.zip(&Amounts::ZERO, |amount, _| amount * share / 1000);
        let place = (self.account.tag, held.accounts.clone());
        let ending = (Outcome::Settled, Ending::Exactly(used));
        let op = Op::Finish(self.desk.finish(id, &held, place, ending));
        let answers = self.bench.call(&self.node, &[&op], self.now);
        let done = self.desk.finished(Outcome::Settled, &answers, 0);
        assert!(matches!(done, Some(Done::Ended(_))), "{done:?}");
        self.truth.settle(core, then, (&demand, &used), self.now);
    }

    fn say(&mut self, node: &Node, op: &Op) -> Vec<u8> {
        let mut answers = self.bench.call(node, &[op], self.now);
        answers.operations.remove(0)
    }

    fn sheet(&mut self) -> Sheet {
        let accounts = [self.account.clone()];
        let op = Op::Peek(accounts.to_vec(), Amounts::ZERO);
        let answers = self.bench.call(&self.node, &[&op], self.now);
        self.desk.sheets(&accounts, Order(0), &answers).remove(0)
    }

    /// What is used and what is out on shares is never more than a limit gives, and the store knows of each share.
    fn check(&mut self) {
        let sheet = self.sheet();
        let accounts = [self.account.clone()];
        let sheets = [sheet.clone()];
        for standing in remote::standings(&views(&accounts, &sheets), self.now) {
            assert_eq!(standing.debt, 0, "{standing:?}");
        }
        for holder in self.holders.iter().filter(|one| one.till > self.now) {
            let has = |one: &usize| holder.share[*one] + holder.spent[*one];
            let all: Vec<u64> = (0..holder.share.len()).map(|one| has(&one)).collect();
            let known = sheet.leases.iter().find(|one| one.node == holder.node.name);
            match known {
                Some(known) => {
                    assert_eq!(known.amounts, all);
                    assert_eq!(known.till, micros(holder.till));
                }
                None => assert!(all.iter().all(|amount| *amount == 0), "{all:?}"),
            }
        }
        assert!(
            sheet
                .leases
                .iter()
                .all(|lease| lease.till > micros(self.now))
        );
    }
}

/// A rule of buckets, sliding and calendar windows.
fn rule(draw: &mut Draw) -> Rule {
    loop {
        let scale = draw.scale();
        let mut rule = draw.rules(scale).remove(0);
        rule.limits.retain(|limit| limit.0 != Metric::CONCURRENCY);
        if !rule.limits.is_empty() {
            return Rule {
                when: Vec::new(),
                mode: Mode::Enforce,
                store_down: StoreDown::Share,
                ..rule
            };
        }
    }
}

#[test]
fn shares_and_what_is_used_never_exceed_a_limit() {
    let mut bench = Bench::open(Engine::Redis);
    let (mut grown, mut lost) = (0, 0);
    for seed in 0..60 {
        let mut draw = Draw::new(seed, Habit::Plain);
        let mut world = World::new(&mut draw, bench);
        for _ in 0..120 {
            world.step(&mut draw);
        }
        grown += world.grown;
        lost += world.lost;
        bench = world.bench;
    }
    assert!(
        grown > 500 && lost > 20,
        "{grown} shares grew, {lost} were lost"
    );
}
