//! Random operations on the core and on the script.
use super::bench::Bench;
use super::case::Case;
use super::draw::{Draw, Habit};
use super::twins::Twins;
use tallygate_sim::servers::Engine;

/// Runs cases until so many operations were compared; panics at the first that differs, made small.
fn compare(engine: Engine, habit: Habit, operations: u64) {
    let mut bench = Bench::open(engine);
    // Where amounts change all is written one by one, and on Redis 7.0 whatever processes think.
    bench.writes_many = habit != Habit::Reloads;
    let seed = asked("TALLYGATE_SEED", 2026);
    let operations = operations * asked("TALLYGATE_TIMES", 1);
    let (mut done, mut cases, mut apart) = (0, 0, 0);
    for number in 0.. {
        if done >= operations {
            break;
        }
        let mut draw = Draw::new(seed + number, habit);
        let length = 20 + draw.below(180) as usize;
        let case = Case::random(&mut draw, length);
        let mut twins = Twins::new(&mut bench, &case);
        let verdict = twins.run(&case);
        done += twins.compared;
        apart += u64::from(twins.is_apart);
        cases += 1;
        if verdict.is_err() {
            let case = shrunk(&mut bench, case);
            let verdict = Twins::new(&mut bench, &case).run(&case);
            panic!("case {}: {}\n{case}", seed + number, verdict.unwrap_err());
        }
    }
    assert!(
        apart * 4 < cases,
        "{apart} of {cases} cases could not be compared to their end"
    );
}

/// The case without what it does not need to differ.
fn shrunk(bench: &mut Bench, mut case: Case) -> Case {
    let mut differs = |case: &Case| Twins::new(bench, case).run(case).is_err();
    let mut length = case.ops.len();
    while length > 0 {
        let mut at = 0;
        while at < case.ops.len() {
            let mut less = case.clone();
            less.ops.drain(at..(at + length).min(case.ops.len()));
            match differs(&less) {
                true => case = less,
                false => at += length,
            }
        }
        length /= 2;
    }
    for at in (0..case.rules.len()).rev() {
        let mut less = case.clone();
        less.rules.remove(at);
        if differs(&less) {
            case = less;
        }
    }
    for rule in 0..case.rules.len() {
        for at in (0..case.rules[rule].limits.len()).rev() {
            let mut less = case.clone();
            less.rules[rule].limits.remove(at);
            if !less.rules[rule].limits.is_empty() && differs(&less) {
                case = less;
            }
        }
    }
    case
}

/// `TALLYGATE_SEED` asks for other cases, `TALLYGATE_TIMES` for so many times as many.
fn asked(name: &str, unless: u64) -> u64 {
    let asked = std::env::var(name).ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(unless)
}

#[test]
fn one_at_a_time_on_redis() {
    compare(Engine::Redis, Habit::Plain, 50_000);
}

#[test]
fn many_at_a_time_on_redis() {
    compare(Engine::Redis, Habit::Batches, 30_000);
}

#[test]
fn under_changing_amounts_on_redis() {
    compare(Engine::Redis, Habit::Reloads, 20_000);
}

#[test]
fn many_at_a_time_on_valkey() {
    compare(Engine::Valkey, Habit::Batches, 10_000);
}

#[test]
fn one_at_a_time_on_valkey() {
    compare(Engine::Valkey, Habit::Plain, 10_000);
}
