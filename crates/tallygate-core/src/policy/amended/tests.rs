use super::super::tests::{minute, rule_when};
use super::super::{Policy, PolicyError, Rule};
use crate::metric::{Metric, Metrics};
use std::sync::Arc;

fn policy(rules: Vec<Rule>) -> Policy {
    Policy::new(rules, Metrics::default()).expect("it can be")
}

fn rule(at: usize) -> Rule {
    let when = vec![("model".to_owned(), vec![format!("model-{at}")])];
    rule_when(&format!("rule-{at}"), when)
}

fn names(policy: &Policy) -> Vec<&str> {
    policy.rules().iter().map(|rule| rule.name()).collect()
}

#[test]
fn what_did_not_change_is_shared() {
    let before = policy((0..300).map(rule).collect());
    let mut larger = rule(7);
    larger.limits = vec![(Metric::TOKENS, 99, minute())];
    let after = before.amended(vec![larger, rule(300)], &[], Metrics::default());
    let after = after.expect("it can be");
    assert_eq!(after.rules().len(), 301);
    for (place, rule) in before.rules().iter().enumerate() {
        let same = Arc::ptr_eq(rule, &after.rules()[place]);
        assert_eq!(same, place != 7, "rule {place}");
    }
    let amount = |policy: &Policy| {
        let limits: Vec<u64> = policy
            .limits_of(&[("model", "model-7")])
            .map(|limit| limit.amount)
            .collect();
        limits
    };
    assert_eq!((amount(&before), amount(&after)), (vec![9], vec![99]));
}

#[test]
fn rules_go_and_come_in_order() {
    let before = policy((0..4).map(rule).collect());
    let gone = ["rule-1", "rule-3", "never"].map(str::to_owned);
    let after = before.amended(vec![rule(3), rule(9)], &gone, Metrics::default());
    let after = after.expect("it can be");
    assert_eq!(names(&after), ["rule-0", "rule-2", "rule-3", "rule-9"]);
    assert_eq!(names(&before).len(), 4, "what it was made of stays");
}

#[test]
fn what_cannot_be_is_refused() {
    let before = policy(vec![rule(0)]);
    let amended = |put, metrics| before.amended(put, &[], metrics).map(|_| ());
    let twice = amended(vec![rule(1), rule(1)], Metrics::default());
    assert_eq!(twice, Err(PolicyError::DuplicateName("rule-1".to_owned())));
    let many = amended((1..=10_000).map(rule).collect(), Metrics::default());
    assert_eq!(many, Err(PolicyError::TooMany(10_001)));
    let mut empty = rule(1);
    empty.limits.clear();
    let empty = amended(vec![empty], Metrics::default());
    assert_eq!(empty, Err(PolicyError::Empty("rule-1".to_owned())));
    let own = |names: &[&str]| Metrics::with_custom(names).expect("names");
    let before = Policy::new(vec![rule(0)], own(&["pages", "words"])).expect("it can be");
    let moved = before.amended(Vec::new(), &[], own(&["words", "pages"]));
    let moved = moved.map(|_| ()).expect_err("it counts other things");
    assert_eq!(
        moved.to_string(),
        "the metric `pages` is not where it was among the metrics"
    );
    assert!(
        before
            .amended(Vec::new(), &[], own(&["pages", "words", "lines"]))
            .is_ok()
    );
}
