//! The rules of a world.
use super::scene::Words;
use tallygate_core::{
    Calendar, MAX_AMOUNT, Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown,
};
use tallygate_sim::Rng;

pub(super) fn policy(seed: u64, rng: &mut Rng, words: Words) -> Policy {
    let mut every = || Span::from_millis(500 + rng.below(3000));
    let windows = [every(), every(), every(), every()];
    let place = usize::try_from(seed % 4).unwrap();
    // From plenty to next to nothing.
    let part = [1, 2, 8, 24][place];
    let own = [
        (
            Metric::TOKENS,
            40_000 / part,
            bucket(windows[0], Some(25_000 / part)),
        ),
        (
            Metric::REQUESTS,
            4000 / part,
            Shape::Sliding { every: windows[1] },
        ),
    ];
    let all = [
        (
            Metric::TOKENS,
            60_001 / part,
            Shape::Sliding { every: windows[2] },
        ),
        (Metric::REQUESTS, 6001 / part, bucket(windows[3], None)),
    ];
    let books = [
        (Metric::TOKENS, MAX_AMOUNT, day()),
        (Metric::REQUESTS, MAX_AMOUNT, day()),
    ];
    let [of_own, of_all] = words.each();
    let mut rules = vec![
        rule("own", &["user"], (&own, of_own)),
        rule("all", &[], (&all, of_all)),
        rule("books", &["user"], (&books, of_own)),
    ];
    if words != Words::Closed {
        // What is spent while the store is away is never free again.
        let most = [10_000, 25_000, 60_000, 1_000_000][place];
        let quota = [(Metric::TOKENS, most, day())];
        rules.push(rule("quota", &[], (&quota, of_own)));
    }
    Policy::new(rules, Metrics::default()).unwrap()
}

fn rule(
    name: &str,
    per: &[&str],
    (limits, store_down): (&[(Metric, u64, Shape)], StoreDown),
) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: per.iter().map(|label| (*label).to_owned()).collect(),
        limits: limits.to_vec(),
        mode: Mode::Enforce,
        store_down,
    }
}

fn bucket(every: Span, burst: Option<u64>) -> Shape {
    Shape::Bucket {
        every,
        burst,
        strict: false,
    }
}

fn day() -> Shape {
    Shape::Fixed {
        window: Calendar::Day,
        timezone: jiff::tz::TimeZone::UTC,
    }
}
