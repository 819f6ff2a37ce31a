use super::super::tests::rule_when;
use super::super::{CompiledRule, Policy, Rule};
use super::Index;
use crate::metric::Metrics;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::sync::Arc;

const LABELS: [&str; 5] = ["model", "tenant", "tier", "user", "downgraded"];
const TEXTS: [&str; 6] = ["a", "b", "aa", "a*", "*", ""];

fn demand() -> impl Strategy<Value = (String, Vec<String>)> {
    let texts = prop::collection::vec(select(TEXTS.to_vec()), 0..3);
    (select(LABELS.to_vec()), texts).prop_map(|(label, texts)| {
        let texts = texts.into_iter().map(str::to_owned);
        (label.to_owned(), texts.collect())
    })
}

/// Labels may be demanded twice; most rules demand one text, as those that people write.
fn rules(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Rule>> {
    let one = (select(LABELS.to_vec()), select(vec!["a", "b", "aa"]));
    let plain = one.prop_map(|(label, text)| vec![(label.to_owned(), vec![text.to_owned()])]);
    let when = prop_oneof![plain, prop::collection::vec(demand(), 0..4)];
    prop::collection::vec(when, count).prop_map(|all| {
        let named = all.into_iter().enumerate();
        let named = named.map(|(at, when)| rule_when(&format!("rule-{at}"), when));
        named.collect()
    })
}

/// Labels in any order; some twice, of which the first counts.
fn subject() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let values = prop::collection::vec(select(vec!["a", "b", "aa", "ab", ""]), 7);
    let labels = subsequence([&LABELS[..], &["key", "model"]].concat(), 0..=7).prop_shuffle();
    (labels, values).prop_map(|(labels, values)| labels.into_iter().zip(values).collect())
}

/// The names of the rules that apply, by looking at each.
fn scanned<'a>(policy: &'a Policy, subject: &[(&str, &str)]) -> Vec<&'a str> {
    let all = policy.rules().iter();
    let applying = all.filter(|rule| rule.applies(subject));
    applying.map(|rule| rule.name()).collect()
}

fn found<'a>(policy: &'a Policy, subject: &[(&str, &str)]) -> Vec<&'a str> {
    let places = policy.places_of(subject);
    places.map(|place| policy.rules()[place].name()).collect()
}

/// A rule of each amended policy says by its name what it is, whatever was done before.
fn amended(policy: &Policy, put: Vec<Rule>, gone: &[String]) -> Policy {
    let metrics = Metrics::default();
    policy.amended(put, gone, metrics).expect("it can be")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_looked_up_is_what_applies(rules in rules(0..60), subjects in prop::collection::vec(subject(), 8)) {
        let policy = Policy::new(rules, Metrics::default()).expect("it can be");
        for subject in &subjects {
            prop_assert_eq!(found(&policy, subject), scanned(&policy, subject), "{:?}", subject);
        }
    }

    /// Rules that come, go and change one after the other make the policy that they make at once.
    #[test]
    fn what_is_amended_is_what_it_says(
        first in rules(0..40),
        steps in prop::collection::vec((rules(0..4), prop::collection::vec(0..44usize, 0..3)), 0..6),
        subjects in prop::collection::vec(subject(), 4),
    ) {
        let mut said: Vec<Rule> = first.clone();
        let mut policy = Policy::new(first, Metrics::default()).expect("it can be");
        for (put, gone) in steps {
            let gone: Vec<String> = gone.into_iter().map(|at| format!("rule-{at}")).collect();
            said.retain(|rule| !gone.contains(&rule.name));
            for rule in &put {
                match said.iter_mut().find(|known| known.name == rule.name) {
                    Some(known) => *known = rule.clone(),
                    None => said.push(rule.clone()),
                }
            }
            policy = amended(&policy, put, &gone);
        }
        let fresh = Policy::new(said, Metrics::default()).expect("it can be");
        let names = |policy: &Policy| policy.limits().map(|limit| limit.name.clone()).collect::<Vec<_>>();
        prop_assert_eq!(names(&policy), names(&fresh));
        for (place, rule) in fresh.rules().iter().enumerate() {
            prop_assert_eq!(policy.index.place_of(rule.name()), Some(place));
            prop_assert_eq!(&policy.rules()[place].tag, &rule.tag);
        }
        for subject in &subjects {
            prop_assert_eq!(found(&policy, subject), scanned(&fresh, subject));
        }
    }
}

fn owned(when: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
    let pairs = when.iter();
    let pairs = pairs.map(|(label, text)| ((*label).to_owned(), vec![(*text).to_owned()]));
    pairs.collect()
}

/// A thousand rules cost a decision what a few do, however common one of the texts is that they demand.
#[test]
fn few_of_a_thousand_rules_are_looked_at() {
    let model = |at: usize| {
        let name = format!("model-{at}");
        let when = owned(&[("downgraded", "no"), ("tier", "free"), ("model", &name)]);
        rule_when(&name, when)
    };
    let mut rules: Vec<Rule> = (0..1_000).map(model).collect();
    rules.insert(500, rule_when("everybody", Vec::new()));
    rules.insert(700, rule_when("some", owned(&[("tier", "fr*")])));
    let policy = Policy::new(rules, Metrics::default()).expect("it can be");
    let of = |model| [("tier", "free"), ("model", model), ("downgraded", "no")];
    assert!(
        policy.looked_at(&of("model-7")) <= 6,
        "{}",
        policy.looked_at(&of("model-7"))
    );
    assert_eq!(
        found(&policy, &of("model-7")),
        ["model-7", "everybody", "some"]
    );
    assert_eq!(
        found(&policy, &of("model-999")),
        ["everybody", "some", "model-999"]
    );
    assert_eq!(found(&policy, &[("user", "ann")]), ["everybody"]);
}

/// Rules that share all they demand are all looked at, and no others.
#[test]
fn tiers_of_many_rules_are_apart() {
    let of = |at: usize| {
        let tier = format!("tier-{}", at % 10);
        rule_when(&format!("rule-{at}"), owned(&[("tier", &tier)]))
    };
    let policy = Policy::new((0..1_000).map(of).collect(), Metrics::default());
    let policy = policy.expect("it can be");
    assert_eq!(
        policy.looked_at(&[("user", "ann"), ("tier", "tier-3")]),
        100
    );
    assert_eq!(policy.looked_at(&[("tier", "tier-10")]), 0);
}

/// That two texts share a hash is found out.
#[test]
fn a_label_and_its_value_are_not_run_together() {
    let compiled = |name: &str, when: &[(&str, &str)]| {
        let rule = rule_when(name, owned(when));
        Arc::new(CompiledRule::new(rule, &Metrics::default()).expect("it can be"))
    };
    let index = Index::new(&[
        compiled("one", &[("ab", "c")]),
        compiled("two", &[("a", "bc")]),
    ]);
    assert_eq!(index.candidates(&[("ab", "c")]).as_slice(), [0]);
    assert_eq!(index.candidates(&[("a", "bc")]).as_slice(), [1]);
    assert!(index.candidates(&[("abc", "")]).is_empty());
}
