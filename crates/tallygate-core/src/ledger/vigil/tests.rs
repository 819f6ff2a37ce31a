//! Whoever waits for rates only is answered the moment a quota has no room for it.
use super::super::{Ask, Bounds, Entry, Patience, Used};
use super::*;
use crate::decision::{Decision, Extended};
use crate::metric::{Amounts, Metric, Metrics};
use crate::policy::{Policy, Rule};
use crate::shape::{Calendar, Shape, StoreDown};
use crate::time::{Span, Time};
use jiff::tz::TimeZone;

const MINUTE: u64 = 60;

fn rule(name: &str, per: &[&str], limit: (Metric, u64, Shape)) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: per.iter().map(|label| (*label).to_owned()).collect(),
        limits: vec![limit],
        mode: Mode::Enforce,
        store_down: StoreDown::default(),
    }
}

/// 100 tokens a minute for all, `daily` a day for each user.
fn policy(daily: u64) -> Policy {
    let minute = Shape::Bucket {
        every: Span::from_secs(MINUTE),
        burst: None,
        strict: false,
    };
    let day = Shape::Fixed {
        window: Calendar::Day,
        timezone: TimeZone::UTC,
    };
    let rules = vec![
        rule("minute", &[], (Metric::TOKENS, 100, minute)),
        rule("day", &["user"], (Metric::TOKENS, daily, day)),
    ];
    Policy::new(rules, Metrics::default()).expect("it can be")
}

struct Town {
    ledger: Ledger,
    now: Time,
}

impl Town {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(&policy(300), Bounds::default(), [1, 2]),
            // A noon: no day ends while a test goes on.
            now: Time::from_secs(1_800_014_400),
        }
    }

    fn ask(&mut self, user: &str, tokens: u64, waits_for: WaitsFor) -> Entry {
        let keys = self.ledger.resolve(&[("user", user)]);
        let demand = Amounts::ZERO.with(Metric::TOKENS, tokens);
        let ask = Ask {
            keys: &keys,
            demand: &demand,
            ttl: Span::from_secs(3600),
            idempotency: None,
        };
        let until = self.now.plus(Span::from_secs(600));
        let patience = Patience { until, waits_for };
        let entry = self.ledger.wait(&ask, patience, self.now);
        entry.expect("no bound is reached")
    }

    fn admit(&mut self, user: &str, tokens: u64) -> crate::ReservationId {
        match self.ask(user, tokens, WaitsFor::Anything) {
            Entry::Decided(Decision::Admit(admission)) => admission.id,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&mut self, user: &str, tokens: u64) -> super::super::Ticket {
        match self.ask(user, tokens, WaitsFor::Rates) {
            Entry::Waiting(ticket) => ticket,
            other @ Entry::Decided(_) => panic!("{other:?}"),
        }
    }

    /// The limits that denied those who were answered since.
    fn denied(&mut self) -> Vec<(super::super::Ticket, Vec<String>)> {
        let answers = self.ledger.take_answers().into_iter();
        let denials = answers.filter_map(|(ticket, answer)| match answer {
            Ok(Decision::Deny(denial)) => {
                let names = denial.blocked_by.iter();
                let names = names.map(|standing| standing.limit.name.to_string());
                Some((ticket, names.collect()))
            }
            _ => None,
        });
        denials.collect()
    }

    /// Nobody is in line whom a quota has no room for, and nothing is watched for nobody.
    fn check(&mut self) {
        assert!(
            self.ledger.agenda.is_empty(),
            "served before the operation ends"
        );
        assert!(!self.ledger.vigil.has_work());
        let watched: Vec<(Key, usize)> = self.ledger.vigil.watchers.keys().copied().collect();
        for (key, counter) in watched {
            let kept = self.ledger.first_kept(key, counter);
            assert_eq!(kept, None, "in line though the quota is used up");
        }
        if self.ledger.waiting() == 0 {
            assert!(self.ledger.vigil.watchers.is_empty());
        }
    }
}

fn tokens(amount: u64) -> Amounts {
    Amounts::ZERO.with(Metric::TOKENS, amount)
}

#[test]
fn a_quota_that_fills_ends_a_wait_for_a_rate_at_once() {
    for fills in ["a charge", "an extension", "an overrun"] {
        let mut town = Town::new();
        town.admit("ann", 100);
        town.now = town.now.plus(Span::from_secs(MINUTE));
        let held = town.admit("ann", 100);
        let ticket = town.wait("ann", 90);
        let patient = town.ask("bob", 90, WaitsFor::Anything);
        assert!(matches!(patient, Entry::Waiting(_)));
        town.now = town.now.plus(Span::from_secs(MINUTE / 2));
        let (now, ledger) = (town.now, &mut town.ledger);
        match fills {
            // Of a subject that the rate does not count.
            "a charge" => {
                let all = ledger.resolve(&[("user", "ann")]);
                let day = Keys(all.0.into_iter().skip(1).collect());
                assert_eq!(ledger.spend(&day, &tokens(20), now), Ok(None));
            }
            "an extension" => {
                let extended = ledger.extend(held, &tokens(20), None, now);
                assert!(
                    matches!(extended, Ok(Extended::Granted { .. })),
                    "{extended:?}"
                );
            }
            _ => {
                let used = Used::Exactly(tokens(120));
                ledger.settle(held, used, now).expect("it is open");
            }
        }
        let [(who, by)] = &town.denied()[..] else {
            panic!("{fills}: one is denied");
        };
        assert_eq!(*who, ticket, "{fills}");
        assert!(by.contains(&"day".to_owned()), "{fills}: {by:?}");
        assert_eq!(town.ledger.waiting(), 1, "the patient one stays");
        town.check();
    }
}

#[test]
fn the_largest_goes_and_who_still_fits_stays() {
    let mut town = Town::new();
    let held = town.admit("ann", 100);
    let large = town.wait("ann", 80);
    town.wait("ann", 20);
    let used = Used::Exactly(tokens(230));
    let now = town.now;
    town.ledger.settle(held, used, now).expect("it is open");
    let denied = town.denied();
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0].0, large);
    assert_eq!(town.ledger.waiting(), 1);
    town.check();
}

#[test]
fn who_finds_a_quota_used_up_does_not_even_begin_to_wait() {
    let mut town = Town::new();
    let held = town.admit("ann", 100);
    let used = Used::Exactly(tokens(250));
    let now = town.now;
    town.ledger.settle(held, used, now).expect("it is open");
    let entry = town.ask("ann", 80, WaitsFor::Rates);
    assert!(
        matches!(entry, Entry::Decided(Decision::Deny(_))),
        "{entry:?}"
    );
    assert_eq!(town.ledger.waiting(), 0);
    town.check();
}

#[test]
fn a_lowered_quota_ends_the_wait_too() {
    let mut town = Town::new();
    town.admit("ann", 100);
    let ticket = town.wait("ann", 90);
    let now = town.now;
    town.ledger.replace_policy(&policy(150), now);
    assert_eq!(town.denied()[0].0, ticket);
    town.check();
}

/// Whatever happens in whatever order, nobody stands in line whom a quota keeps.
#[test]
fn nobody_in_line_is_kept_by_a_quota() {
    let mut denied = 0;
    for seed in 0..40u64 {
        let mut town = Town::new();
        let mut held = Vec::new();
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        for _ in 0..200 {
            let user = ["ann", "bob", "cyd"][usize::try_from(roll(3)).expect("small")];
            let amount = 1 + roll(60);
            match roll(6) {
                0 | 1 => {
                    let waits_for =
                        [WaitsFor::Rates, WaitsFor::Anything][usize::from(roll(3) == 0)];
                    if let Entry::Decided(Decision::Admit(admission)) =
                        town.ask(user, amount, waits_for)
                    {
                        held.push(admission.id);
                    }
                }
                2 if !held.is_empty() => {
                    let id =
                        held.swap_remove(usize::try_from(roll(99)).expect("small") % held.len());
                    let used = Used::Exactly(tokens(amount + roll(40)));
                    town.ledger.settle(id, used, town.now).expect("it is open");
                }
                3 if !held.is_empty() => {
                    let id = held[usize::try_from(roll(99)).expect("small") % held.len()];
                    town.ledger
                        .extend(id, &tokens(amount), None, town.now)
                        .expect("it is open");
                }
                _ => {
                    town.now = town.now.plus(Span::from_secs(roll(20)));
                    town.ledger.advance(town.now);
                }
            }
            town.check();
            for (_, answer) in town.ledger.take_answers() {
                match answer.expect("no bound is reached") {
                    Decision::Admit(admission) => held.push(admission.id),
                    _ => denied += 1,
                }
            }
        }
    }
    assert!(denied > 100, "only {denied} were denied in line");
}
