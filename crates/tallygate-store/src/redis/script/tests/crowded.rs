//! Buckets with more open reservations than the script keeps epochs for: never looser than the core, and stricter by no
//! more than what the joined epochs were apart.
use super::bench::Bench;
use super::case::SUBJECTS;
use super::draw::{Draw, Habit};
use crate::redis::desk::{Ask, Desk, Done, Heard};
use crate::redis::names::{self, Account};
use crate::redis::record::{Ending, Held};
use crate::redis::script::{Node, Op, TIMED};
use crate::redis::sheet::Order;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{
    Amounts, Bounds, Decision, Keys, Ledger, Metric, Metrics, Mode, Outcome, Policy, Receipt,
    ReservationId, Rule, Shape, Span, Standing, StoreDown, Time, Used, remote,
};
use tallygate_sim::servers::Engine;

/// The script, which adds up by how many microseconds the epochs that it joins are apart.
fn heard() -> String {
    let join = "  f.join(m, at)\nend";
    assert_eq!(TIMED.matches(join).count(), 1);
    TIMED.replace(
        join,
        "  real('INCRBY', 'gaps', least + 1)\n  f.join(m, at)\nend",
    )
}

/// One bucket of one subject, in both engines.
struct Crowd {
    bench: Bench,
    node: Node,
    desk: Desk,
    accounts: Vec<Arc<Account>>,
    ledger: Ledger,
    keys: Keys,
    now: Time,
    asked: u64,
    open: Vec<(ReservationId, ReservationId, Arc<Held>)>,
    /// What was used above the holds, as the time it takes to refill.
    overrun: Duration,
    /// What a token costs, in nanoseconds.
    token: u64,
}

const START: Time = Time::from_secs(1_800_000_000);

impl Crowd {
    fn new(amount: u64, every: Span) -> Self {
        let shape = Shape::Bucket {
            every,
            burst: None,
            strict: false,
        };
        let rule = Rule {
            name: "tokens".to_owned(),
            when: Vec::new(),
            per: Vec::new(),
            limits: vec![(Metric::TOKENS, amount, shape)],
            mode: Mode::Enforce,
            store_down: StoreDown::Closed,
        };
        let policy = Policy::new(vec![rule], Metrics::default()).unwrap();
        let mut bench = Bench::running(Engine::Redis, &heard());
        let node = bench.node();
        let desk = Desk::new(node.clone(), &policy);
        let ledger = Ledger::new(&policy, Bounds::default(), [1, 2]);
        Self {
            accounts: desk.resolve(&SUBJECTS[0]),
            keys: ledger.resolve(&SUBJECTS[0]),
            bench,
            node,
            desk,
            ledger,
            now: START,
            asked: 0,
            open: Vec::new(),
            overrun: Duration::ZERO,
            token: every.as_nanos() / amount,
        }
    }

    /// Reserves in both; what the script denies is given back to the core at once, as if nobody had asked.
    fn reserve(&mut self, tokens: u64) {
        let ask = self.ask(tokens);
        let core = self.reserve_core(tokens);
        let op = self.reserving(&ask);
        let answers = self.bench.call(&self.node, &[&op], self.now);
        match (core, self.desk.reserved(&ask, &answers, 0).unwrap()) {
            (Decision::Admit(core), Heard::Held(script, held)) => {
                self.open.push((core.id, script.id, held));
            }
            (Decision::Admit(core), Heard::Blocked(_)) => {
                self.ledger.cancel(core.id, self.now).unwrap();
            }
            (Decision::Deny(core), Heard::Blocked(blocks)) => {
                let Decision::Deny(script) = remote::denial(blocks, self.now) else {
                    panic!("a denial is one");
                };
                assert!(script.retry_at >= core.retry_at);
            }
            (core, script) => panic!("the core: {core:?}, the script: {script:?}"),
        }
    }

    fn reserve_core(&mut self, tokens: u64) -> Decision {
        let ask = tallygate_core::Ask {
            keys: &self.keys,
            demand: &Amounts::ZERO.with(Metric::TOKENS, tokens),
            ttl: LIFE,
            idempotency: None,
        };
        self.ledger.reserve(&ask, self.now).unwrap()
    }

    fn ask(&mut self, tokens: u64) -> Ask {
        self.asked += 1;
        let mut random = [0; 12];
        random[..8].copy_from_slice(&self.asked.to_le_bytes());
        Ask {
            accounts: self.accounts.clone(),
            demand: Amounts::ZERO.with(Metric::TOKENS, tokens),
            ttl: LIFE,
            name: None,
            id: names::id_of(self.accounts[0].tag, random),
        }
    }

    fn reserving(&self, ask: &Ask) -> Op {
        let place = (Order::NEWCOMER.0, None);
        let tag = self.accounts[0].tag;
        self.desk.reserve(ask, ask.accounts.clone(), tag, place)
    }

    /// Settles number `at` of the open ones.
    fn settle(&mut self, at: usize, used: impl Fn(u64) -> u64) {
        let (core, script, held) = self.open.remove(at);
        let tokens = held.total().get(Metric::TOKENS);
        let used = used(tokens);
        let over = self.token * used.saturating_sub(tokens);
        self.overrun += Duration::from_nanos(over);
        let used = Amounts::ZERO.with(Metric::TOKENS, used);
        let core = self
            .ledger
            .settle(core, Used::Exactly(used), self.now)
            .unwrap();
        let receipt = self.settle_script(script, &held, used);
        assert_eq!(core.charged, receipt.charged);
        assert!(receipt.debt.get(Metric::TOKENS) >= core.debt.get(Metric::TOKENS));
    }

    fn settle_script(&mut self, id: ReservationId, held: &Arc<Held>, used: Amounts) -> Receipt {
        let place = (self.accounts[0].tag, self.accounts.clone());
        let ending = (Outcome::Settled, Ending::Exactly(used));
        let op = Op::Finish(self.desk.finish(id, held, place, ending));
        let answers = self.bench.call(&self.node, &[&op], self.now);
        match self.desk.finished(Outcome::Settled, &answers, 0) {
            Some(Done::Ended(receipt)) => receipt,
            other => panic!("{other:?}"),
        }
    }

    fn standing(&mut self) -> Standing {
        let op = Op::Peek(self.accounts.clone(), Amounts::ZERO);
        let answers = self.bench.call(&self.node, &[&op], self.now);
        let sheets = self.desk.sheets(&self.accounts, Order(0), &answers);
        let views = crate::redis::desk::views(&self.accounts, &sheets);
        remote::standings(&views, self.now).remove(0)
    }

    /// Checks that the script shows no more room than the core, and answers by how much less.
    fn shortfall(&mut self) -> Duration {
        let core = self.ledger.peek(&self.keys, self.now).remove(0);
        let script = self.standing();
        assert!(
            script.used >= core.used && script.reset >= core.reset,
            "with {} open the core says {core:?}, the script {script:?}",
            self.open.len()
        );
        script.reset - core.reset
    }

    fn gaps(&mut self) -> Duration {
        let micros: Option<u64> = self.bench.ask(&["GET", "gaps"]);
        Duration::from_micros(micros.unwrap_or(0))
    }
}

const LIFE: Span = Span::from_secs(36_000);

/// Reserves and settles with up to 300 open at so many thousandths of what was held, and compares after each: the script is
/// never looser, and never stricter by more than `most`.
fn crowd(seed: u64, most: Duration, share: fn(&mut Draw) -> u64) {
    let mut draw = Draw::new(seed, Habit::Plain);
    let mut crowd = Crowd::new(2_000_000, Span::from_secs(60));
    let mut worst = Duration::ZERO;
    for step in 0..3000u64 {
        let pace = [3_000, 30_000, 300_000][(step / 200 % 3) as usize];
        crowd.now = crowd.now.plus(Span::from_nanos(draw.below(pace) * 1000));
        let open = crowd.open.len() as u64;
        // First more of them, then fewer, then all of them are settled.
        let grows = step < 1500 && open < 300;
        match draw.below(10) < if grows { 7 } else { 3 } && step < 2500 {
            true => crowd.reserve(1 + draw.below(6000)),
            false if open > 0 => {
                let at = match draw.below(2) {
                    0 => 0,
                    _ => draw.below(open) as usize,
                };
                let share = share(&mut draw);
                crowd.settle(at, |tokens| tokens * share / 1000);
            }
            false => {}
        }
        let shortfall = crowd.shortfall();
        worst = worst.max(shortfall);
        let bound = crowd.gaps() + crowd.overrun;
        assert!(shortfall <= bound, "{shortfall:?} of at most {bound:?}");
    }
    let gaps = crowd.gaps();
    assert!(gaps > Duration::ZERO, "no epochs were joined");
    assert!(worst <= most, "{worst:?} of 60 s too strict");
}

#[test]
fn a_crowd_that_uses_less_never_finds_more_room_than_it_should() {
    for seed in 0..3 {
        crowd(seed, Duration::from_millis(200), |draw| {
            300 + draw.below(701)
        });
    }
}

#[test]
fn a_crowd_that_overruns_never_finds_more_room_than_it_should() {
    for seed in 0..3 {
        crowd(seed, Duration::from_secs(4), |draw| draw.below(1600));
    }
}
