//! Another policy in both engines.
use super::Twins;
use crate::redis::desk::Desk;
use crate::redis::script::tests::verdict::Verdict;
use tallygate_core::{Metric, Metrics, Policy, Rule, Shape};

impl Twins<'_> {
    /// All amounts become so many per cent of what they were first, and all counters are looked at under them: a counter
    /// refills at its old rate until it is.
    pub(super) fn reload(&mut self, percent: u64) -> Verdict {
        let rules = at_percent(&self.rules, percent);
        let Ok(policy) = Policy::new(rules.clone(), Metrics::default()) else {
            return Ok(());
        };
        let before = at_percent(&self.rules, self.percent);
        self.percent = percent;
        self.slack.micros = worst(&before, &rules, self.slack.micros + 1) + 2;
        self.ledger.replace_policy(&policy, self.now);
        self.desk = Desk::new(self.node.clone(), &policy);
        self.resolve();
        self.say_all(&[]);
        Ok(())
    }
}

fn at_percent(rules: &[Rule], percent: u64) -> Vec<Rule> {
    let mut rules = rules.to_vec();
    for limit in rules.iter_mut().flat_map(|rule| &mut rule.limits) {
        limit.1 = (limit.1 * percent / 100).max(2);
    }
    rules
}

/// How far apart levels may be that were so many microseconds apart under the rules before.
fn worst(before: &[Rule], after: &[Rule], micros: u64) -> u64 {
    let limits = |rules: &[Rule]| -> Vec<u64> {
        let limits = rules.iter().flat_map(|rule| &rule.limits);
        limits.map(refilled).collect()
    };
    let pairs = limits(before).into_iter().zip(limits(after));
    let scaled = pairs.map(|(before, after)| {
        let scaled = (u128::from(micros) * u128::from(before)).div_ceil(u128::from(after));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    });
    // Past an hour there is nothing left to compare.
    scaled.max().unwrap_or(0).max(micros).min(3_600_000_000)
}

/// What refills in a window.
fn refilled(limit: &(Metric, u64, Shape)) -> u64 {
    match limit.2 {
        Shape::Bucket {
            strict: true,
            burst,
            ..
        } => limit.1 - burst.unwrap_or((limit.1 / 10).max(1)),
        _ => limit.1,
    }
}
