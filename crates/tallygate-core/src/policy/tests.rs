use super::*;
use crate::shape::Calendar;
use jiff::tz::TimeZone;
use proptest::prelude::*;

/// Whether a pattern means a text, by trying every length for each `*`.
fn means(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => (0..=text.len()).any(|length| means(rest, &text[length..])),
        Some((letter, rest)) => text
            .split_first()
            .is_some_and(|(first, left)| first == letter && means(rest, left)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_star_stands_for_any_text(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        let expected = means(&letters(&pattern), &letters(&text));
        prop_assert_eq!(Pattern::new(&pattern).matches(&text), expected, "{} on {}", pattern, text);
    }
}

#[test]
fn patterns_as_they_are_used() {
    let matches = |pattern: &str, value: &str| Pattern::new(pattern).matches(value);
    assert!(matches("gpt-4o-2*", "gpt-4o-2024-08-06"));
    assert!(!matches("gpt-4o-2*", "gpt-4o-mini"));
    assert!(matches("*", ""));
    assert!(!matches("", "a"));
    assert!(matches("é*ü", "éaü"), "letters of more than a byte");
    // A text that repeats the pattern's parts is not tried again and again.
    let (pattern, text) = ("a*".repeat(5_000) + "b", "a".repeat(100_000));
    assert!(!matches(&pattern, &text));
}

fn rule(limits: Vec<(Metric, u64, Shape)>) -> Rule {
    Rule {
        name: "one".to_owned(),
        when: vec![(
            "tier".to_owned(),
            vec!["free".to_owned(), "pro*".to_owned()],
        )],
        per: vec!["user".to_owned()],
        limits,
        mode: Mode::Enforce,
        store_down: StoreDown::default(),
    }
}

pub(super) fn minute() -> Shape {
    Shape::Bucket {
        every: Span::from_secs(60),
        burst: None,
        strict: false,
    }
}

/// A rule of this name for these subjects.
pub(super) fn rule_when(name: &str, when: Vec<(String, Vec<String>)>) -> Rule {
    Rule {
        name: name.to_owned(),
        when,
        ..rule(vec![(Metric::TOKENS, 9, minute())])
    }
}

fn refused(rules: Vec<Rule>) -> String {
    let refused = Policy::new(rules, Metrics::default());
    refused.expect_err("it cannot be").to_string()
}

#[test]
fn what_cannot_be_is_named() {
    let tokens = |amount| (Metric::TOKENS, amount, minute());
    let twice = vec![rule(vec![tokens(1)]), rule(vec![tokens(2)])];
    assert_eq!(refused(twice), "two limits are named `one`");
    assert_eq!(
        refused(vec![rule(Vec::new())]),
        "the limit `one` limits no metric"
    );
    assert_eq!(
        refused(vec![rule(vec![tokens(1), tokens(2)])]),
        "the limit `one` names a metric twice"
    );
    assert!(refused(vec![rule(vec![tokens(0)])]).contains("an amount of 0"));
    let timed = (Metric::CONCURRENCY, 1, minute());
    assert!(refused(vec![rule(vec![timed])]).contains("goes with no window"));
    let gauge = (Metric::TOKENS, 1, Shape::Concurrency);
    assert!(refused(vec![rule(vec![gauge])]).contains("goes with no window"));
}

#[test]
fn a_rule_is_for_the_subjects_it_names() {
    let policy = Policy::new(
        vec![rule(vec![(Metric::TOKENS, 9, minute())])],
        Metrics::default(),
    );
    let policy = policy.expect("it can be");
    let count = |subject: &[(&str, &str)]| policy.limits_of(subject).count();
    assert_eq!(count(&[("tier", "free")]), 1);
    assert_eq!(count(&[("user", "ann"), ("tier", "pro-2")]), 1);
    assert_eq!(count(&[("tier", "trial")]), 0);
    assert_eq!(count(&[("user", "free")]), 0, "a label it lacks");
}

fn one_limit(shape: Shape) -> Rule {
    rule(vec![(Metric::TOKENS, 9, shape)])
}

fn tag_of(rule: &Rule) -> String {
    tag(rule, &Metrics::default())
}

/// Rules whose counters mean the same, amounts and mode apart, have one tag.
#[test]
fn a_tag_does_not_speak_of_amounts() {
    let base = tag_of(&one_limit(minute()));
    let larger = rule(vec![(Metric::TOKENS, 10, minute())]);
    assert_eq!(tag_of(&larger), base);
    let strict = one_limit(Shape::Bucket {
        every: Span::from_secs(60),
        burst: Some(3),
        strict: true,
    });
    assert_eq!(tag_of(&strict), base);
    let shadow = Rule {
        mode: Mode::Shadow,
        ..one_limit(minute())
    };
    assert_eq!(tag_of(&shadow), base);
    let mut asked = one_limit(minute());
    asked
        .when
        .push((DOWNGRADED.to_owned(), vec!["no".to_owned()]));
    assert_eq!(tag_of(&asked), base);
}

#[test]
fn a_tag_tells_other_counters_apart() {
    let day = |zone: &str| {
        one_limit(Shape::Fixed {
            window: Calendar::Day,
            timezone: TimeZone::get(zone).expect("a zone"),
        })
    };
    let base = || one_limit(minute());
    let mut named = base();
    named.name = "two".to_owned();
    let mut together = base();
    together.per = Vec::new();
    let mut everybody = base();
    everybody.when = Vec::new();
    let sliding = one_limit(Shape::Sliding {
        every: Span::from_secs(60),
    });
    let cost = rule(vec![(Metric::COST, 9, minute())]);
    let (berlin, kolkata) = (day("Europe/Berlin"), day("Asia/Kolkata"));
    let all = [
        base(),
        named,
        together,
        everybody,
        sliding,
        cost,
        berlin,
        kolkata,
    ];
    let tags: HashSet<String> = all.iter().map(tag_of).collect();
    assert_eq!(tags.len(), all.len());
}
