use super::NamedRules;
use tallygate_core::{Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown};

fn rule(at: usize, amount: u64) -> Rule {
    let minute = Shape::Bucket {
        every: Span::from_secs(60),
        burst: None,
        strict: false,
    };
    Rule {
        name: format!("rule-{at}"),
        when: vec![("model".to_owned(), vec![format!("model-{at}")])],
        per: Vec::new(),
        limits: vec![(Metric::TOKENS, amount, minute)],
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    }
}

fn found(rules: &NamedRules, model: &str) -> Vec<String> {
    let subject = [("model", model)];
    let applying = rules.applying(&subject);
    let names = applying.flat_map(|rule| rule.rule.limits());
    names.map(|limit| limit.info().name.to_string()).collect()
}

/// Rules that follow others go by the names that they have anew, and are found by them.
#[test]
fn names_are_the_same_however_a_policy_came_to_be() {
    let first = (0..30).map(|at| rule(at, 9)).collect();
    let first = Policy::new(first, Metrics::default()).unwrap();
    let put = vec![rule(7, 10), rule(30, 9)];
    let gone = ["rule-3".to_owned()];
    let next = first.amended(put, &gone, Metrics::default()).unwrap();
    let (before, anew) = (NamedRules::new(&first), NamedRules::new(&next));
    let following = before.followed_by(&next);
    for (one, other) in following.all.iter().zip(&anew.all) {
        assert_eq!(one.name, other.name);
        assert!(one.rule.is(&other.rule));
        let known = following.find(&one.name).map(|found| found.name);
        assert_eq!(known, Some(one.name));
    }
    assert_eq!(following.all.len(), 30);
    assert_eq!(found(&following, "model-7"), ["rule-7"]);
    assert!(found(&following, "model-3").is_empty());
    assert!(!following.extend(&before));
}

#[test]
fn rules_that_are_told_apart_alike_are_of_one_sort() {
    let per = |at: usize| {
        let labels: &[&str] = [&["user"][..], &[], &["user", "model"]][at % 3];
        let per = labels.iter().map(|label| (*label).to_owned()).collect();
        Rule { per, ..rule(at, 9) }
    };
    let policy = Policy::new((0..60).map(per).collect(), Metrics::default()).unwrap();
    let rules = NamedRules::new(&policy);
    let labels = |rule: &super::NamedRule| rule.rule.labels(&[]).count();
    let sorts: Vec<usize> = rules.sorts().iter().map(labels).collect();
    assert_eq!(sorts, [1, 0, 2]);
}

#[test]
fn more_rules_are_told_from_other_ones() {
    let policy = |rules: Vec<Rule>| Policy::new(rules, Metrics::default()).unwrap();
    let first = policy(vec![rule(0, 9), rule(1, 9)]);
    let amended = |put| first.amended(put, &[], Metrics::default()).unwrap();
    let before = NamedRules::new(&first);
    let extends = |policy: &Policy| before.followed_by(policy).extend(&before);
    assert!(extends(&amended(vec![rule(2, 9)])));
    assert!(!extends(&amended(vec![rule(1, 8)])), "another amount");
    assert!(!extends(&policy(vec![rule(0, 9)])), "one has gone");
}
