//! Several of a line asked for in one call: the order is that of asking one by one.
use super::{Draw, Habit, METRICS, World};
use crate::redis::desk::Ask;
use crate::redis::names;
use crate::redis::script::{Op, Stand};
use tallygate_core::{Amounts, Span};

/// A caller: its order, and the tokens that it asks for.
type Caller = (u64, u64);

/// Longer than any test: nobody's place lapses.
const STAY: u64 = 3_600_000_000;

impl World {
    /// What asks for callers of a line, the next of whom is `after`.
    fn run_of(&self, callers: &[Caller], after: u64) -> Vec<Op> {
        let place = |at: usize| callers.get(at).map_or(after, |caller| caller.0);
        let asks = callers.iter().enumerate().map(|(at, (order, tokens))| {
            let ask = Ask {
                accounts: vec![self.account.clone()],
                demand: Amounts::ZERO.with(METRICS[0], *tokens),
                ttl: Span::from_secs(3600),
                name: None,
                id: names::new_id(self.account.tag),
            };
            let stand = Stand {
                stay: STAY,
                after: place(at + 1),
                follows: at > 0,
                ..Stand::default()
            };
            let place = (*order, Some(stand));
            let accounts = ask.accounts.clone();
            self.desk.reserve(&ask, accounts, self.account.tag, place)
        });
        asks.collect()
    }

    /// The letters that these are answered with in one call.
    fn told(&mut self, who: usize, ops: &[Op]) -> String {
        let node = self.processes[who].node.clone();
        let ops: Vec<&Op> = ops.iter().collect();
        let answers = self.bench.call(&node, &ops, self.now);
        let letters = answers.operations.iter().map(|said| char::from(said[0]));
        letters.collect()
    }

    fn leave_line(&mut self, who: usize) {
        let leaves = [Op::Leave(self.account.clone(), 0)];
        assert_eq!(self.told(who, &leaves), "S");
    }

    /// Who stands in the line of tokens: process and order.
    fn heads(&mut self) -> Vec<(usize, u64)> {
        let (line, _) = self.peek();
        let process = |node| {
            let mut processes = self.processes.iter();
            processes.position(|one| one.node.name == node).unwrap()
        };
        let heads = line.iter().map(|entry| (process(entry.node), entry.order));
        heads.collect()
    }
}

#[test]
fn nobody_behind_one_who_does_not_fit_is_asked_for() {
    let mut world = World::new(true);
    let run = world.run_of(&[(1, 60), (2, 50), (3, 10), (4, 0)], 5);
    assert_eq!(world.told(0, &run), "ABTT");
    assert_eq!(world.heads(), [(0, 2)]);
    assert_eq!(world.peek().1[0], 40);
}

#[test]
fn one_of_another_process_who_came_before_goes_first() {
    let mut world = World::new(true);
    let other = world.run_of(&[(3, 101)], 0);
    assert_eq!(world.told(1, &other), "B");
    let run = world.run_of(&[(1, 10), (2, 10), (4, 10), (5, 10)], 6);
    assert_eq!(world.told(0, &run), "AABT");
    assert_eq!(world.heads(), [(1, 3), (0, 4)]);
    world.leave_line(1);
    assert_eq!(world.told(0, &run[2..]), "AA", "it leads now");
    assert_eq!(world.heads(), [(0, 6)]);
}

#[test]
fn a_run_that_is_sent_again_takes_nothing_twice() {
    let mut world = World::new(true);
    let run = world.run_of(&[(1, 30), (2, 30), (3, 30), (4, 30)], 5);
    assert_eq!(world.told(0, &run), "AAAB");
    assert_eq!(world.told(0, &run), "PPPB");
    assert_eq!(world.peek().1[0], 10);
}

#[test]
fn a_run_that_is_sent_again_keeps_its_processs_place() {
    let mut world = World::new(true);
    let run = world.run_of(&[(1, 30), (2, 30), (3, 30), (4, 30)], 5);
    assert_eq!(world.told(0, &run), "AAAB");
    let later = world.run_of(&[(6, 5)], 0);
    assert_eq!(world.told(1, &later), "B");
    for part in [&run[..1], &run[1..2], &run[..3], &run] {
        world.told(0, part);
        assert_eq!(world.heads(), [(0, 4), (1, 6)]);
        assert_eq!(world.told(1, &later), "B", "one who came before waits");
    }
    world.leave_line(0);
    assert_eq!(world.told(0, &run), "PPPB", "its place was lost meanwhile");
    assert_eq!(world.heads(), [(0, 4), (1, 6)]);
}

#[test]
fn the_namesake_of_one_who_was_admitted_hands_its_place_on() {
    let mut world = World::new(true);
    let mut run = world.run_of(&[(1, 30), (2, 30), (3, 80), (5, 10)], 7);
    for op in &mut run[..2] {
        let Op::Reserve(one) = op else { continue };
        one.name = Some(names::key(
            &world.desk.node.prefix,
            world.account.tag,
            b'n',
            &[1; 16],
        ));
    }
    let later = world.run_of(&[(4, 200)], 0);
    assert_eq!(world.told(1, &later), "B");
    assert_eq!(world.told(0, &run), "ANBT");
    assert_eq!(world.heads(), [(0, 3), (1, 4)]);
}

#[test]
fn who_follows_is_not_asked_for_in_another_call_than_those_before() {
    let mut world = World::new(true);
    let run = world.run_of(&[(1, 10), (2, 10), (3, 10)], 4);
    assert_eq!(world.told(0, &run[1..]), "TT", "the first is not there yet");
    assert_eq!(world.peek().1[0], 100);
    assert_eq!(world.told(0, &run), "AAA");
}

/// The same callers in two worlds: in one all that are asked for at once, in the other each once the one before was admitted.
struct Twins {
    worlds: [World; 2],
    /// Who waits, by process.
    waiting: Vec<Vec<Caller>>,
    came: u64,
    draw: Draw,
}

impl Twins {
    fn come(&mut self) {
        self.came += 1;
        let who = self.draw.below(3) as usize;
        let tokens = self.draw.below(12);
        self.waiting[who].push((self.came, tokens));
    }

    fn pass(&mut self) {
        let length = Span::from_millis(self.draw.below(30_000));
        for world in &mut self.worlds {
            world.now = world.now.plus(length);
        }
    }

    /// Answers how many were admitted, the same in both.
    fn serve(&mut self) -> usize {
        let who = self.draw.below(3) as usize;
        let most = 1 + self.draw.below(8) as usize;
        let mine = &self.waiting[who];
        let run = &mine[..most.min(mine.len())];
        let after = mine.get(run.len()).map_or(0, |caller| caller.0);
        let ops = self.worlds[0].run_of(run, after);
        let together = self.worlds[0].told(who, &ops);
        let mut alone = String::new();
        for at in 0..run.len() {
            let after = mine.get(at + 1).map_or(0, |caller| caller.0);
            let op = self.worlds[1].run_of(&run[at..=at], after);
            alone += &self.worlds[1].told(who, &op);
            if alone.ends_with('B') {
                break;
            }
        }
        let late = "T".repeat(run.len() - alone.len());
        assert_eq!(together, alone.clone() + &late, "{run:?}");
        let admitted = alone.matches('A').count();
        self.waiting[who].drain(..admitted);
        let [one, other] = &mut self.worlds;
        assert_eq!(one.heads(), other.heads());
        assert_eq!(one.peek().1, other.peek().1);
        admitted
    }
}

#[test]
fn a_run_is_what_asking_one_by_one_is() {
    let mut most = 0;
    for seed in 0..3 {
        let mut twins = Twins {
            worlds: [World::new(true), World::new(true)],
            waiting: vec![Vec::new(); 3],
            came: 0,
            draw: Draw::new(seed, Habit::Plain),
        };
        for _ in 0..200 {
            match twins.draw.below(4) {
                0 => twins.pass(),
                1 => most = most.max(twins.serve()),
                _ => twins.come(),
            }
        }
    }
    assert!(most > 2, "{most}");
}
