//! Subjects are apart, whatever their labels say.
use super::Harness;
use super::rules::{ALICE, BOB, Subject, long, rule, tokens, tokens_by_user};
use super::trial::Trial;
use super::verdict::{Verdict, ensure, same};
use crate::store::Reserve;
use tallygate_core::{Decision, Metric};

pub(super) const CASES: &[super::Case] = cases! { "subjects":
    subjects_are_apart,
    hostile_values_are_apart,
    hostile_names_are_apart,
    the_order_of_labels_means_nothing,
    a_missing_label_counts_as_empty,
};

async fn subjects_are_apart(harness: &dyn Harness) -> Verdict {
    let all = rule("all", &[], &[(Metric::TOKENS, 150, long())]);
    let own = rule("own", &["user"], &[(Metric::TOKENS, 100, long())]);
    let t = Trial::open(harness, [all, own]).await?;
    t.spend(ALICE, tokens(100)).await?;
    t.deny(t.ask(ALICE, tokens(1))).await?;
    let held = t.admit(t.ask(BOB, tokens(50))).await?;
    t.used(BOB, "own", 50).await?;
    t.used(BOB, "all", 150).await?;
    t.cancel(held.id).await?;
    t.used(ALICE, "own", 100).await?;
    t.used(ALICE, "all", 100).await
}

/// Values that a careless way of joining them into one key would take for each other.
const HOSTILE: &[(&str, &str)] = &[
    ("", ""),
    ("", "a"),
    ("a", ""),
    ("a", "b"),
    ("ab", ""),
    ("", "ab"),
    ("a:b", "c"),
    ("a", "b:c"),
    ("a\0b", "c"),
    ("a", "b\0c"),
    ("a\0", "b"),
    ("a", "\0b"),
    ("{a}", "b"),
    ("a", "{b}"),
    ("{a", "b}"),
    ("a|b", "c"),
    ("a", "b|c"),
    ("a/b", "c"),
    ("a", "b/c"),
    ("a,b", "c"),
    ("a", "b,c"),
    ("a%3Ab", "c"),
    ("a\nb", "c"),
    ("a", "b\nc"),
    ("a\\", "b"),
    ("a", "\\b"),
    ("\"a\"", "b"),
    ("1:a", "b"),
    ("a=b", "c"),
    ("a", "b=c"),
    ("*", "b"),
    ("a", "*"),
    ("a ", "b"),
    ("a", " b"),
    ("A", "b"),
    ("user", "tenant"),
    ("é", "b"),
    ("e\u{301}", "b"),
    ("\u{feff}a", "b"),
    ("\u{ff}", "b"),
    ("ÿ", "\u{fe}"),
];

async fn hostile_values_are_apart(harness: &dyn Harness) -> Verdict {
    let by_both = rule(
        "quota",
        &["tenant", "user"],
        &[(Metric::TOKENS, 10, long())],
    );
    let t = Trial::open(harness, [by_both]).await?;
    let long_ones: Vec<(String, String)> = ["x", "y"]
        .into_iter()
        .flat_map(|end| {
            let filler = "a".repeat(1 << 16);
            [
                (format!("{filler}{end}"), String::new()),
                (format!("{end}{filler}"), String::new()),
                (String::new(), format!("{filler}{end}")),
                (filler[1..].to_owned(), format!("a{end}")),
            ]
        })
        .collect();
    let long_ones = long_ones.iter().map(|(a, b)| (a.as_str(), b.as_str()));
    let all: Vec<(&str, &str)> = HOSTILE.iter().copied().chain(long_ones).collect();
    for (tenant, user) in &all {
        let subject = [("tenant", *tenant), ("user", *user)];
        let decision = t.reserve(t.ask(&subject, tokens(10))).await?;
        let own = matches!(decision, Decision::Admit(_));
        ensure(own, || {
            let (tenant, user) = (beginning(tenant), beginning(user));
            format!("{tenant:?} with {user:?} is counted as another")
        })?;
    }
    for (tenant, user) in &all {
        let subject = [("tenant", *tenant), ("user", *user)];
        t.used(&subject, "quota", 10).await?;
        t.deny(t.ask(&subject, tokens(1))).await?;
    }
    Ok(())
}

fn beginning(value: &str) -> String {
    value.chars().take(20).collect()
}

async fn hostile_names_are_apart(harness: &dyn Harness) -> Verdict {
    let limit = [(Metric::TOKENS, 10, long())];
    let names = ["a", "a:b", "a\0b", "{a}", "a/tokens", "", "quota:day"];
    let mut rules: Vec<_> = names
        .iter()
        .map(|name| rule(name, &["user"], &limit))
        .collect();
    rules.push(rule("by-tenant", &["tenant"], &limit));
    for (at, one) in rules.iter_mut().enumerate() {
        one.when = vec![("turn".to_owned(), vec![at.to_string()])];
    }
    let count = rules.len();
    let t = Trial::open(harness, rules).await?;
    for at in 0..count {
        let turn = at.to_string();
        for user in ["b", "b:c", "c", "", ":b"] {
            let subject = [("user", user), ("tenant", user), ("turn", &turn)];
            t.spend(&subject, tokens(10)).await?;
            t.deny(t.ask(&subject, tokens(1))).await?;
        }
    }
    Ok(())
}

async fn the_order_of_labels_means_nothing(harness: &dyn Harness) -> Verdict {
    let limit = [(Metric::TOKENS, 100, long())];
    let t = Trial::open(harness, [rule("quota", &["user", "tenant"], &limit)]).await?;
    let ways: [Subject<'_>; 3] = [
        &[("tenant", "t"), ("user", "u")],
        &[("user", "u"), ("tenant", "t")],
        &[
            ("model", "m"),
            ("user", "u"),
            ("tier", "x"),
            ("tenant", "t"),
        ],
    ];
    for (at, subject) in ways.iter().enumerate() {
        t.spend(subject, tokens(10)).await?;
        t.used(subject, "quota", 10 * (at as u64 + 1)).await?;
    }
    let swapped: Subject<'_> = &[("tenant", "u"), ("user", "t")];
    t.used(swapped, "quota", 0).await?;
    let keyed = |subject| Reserve {
        idempotency_key: Some("job"),
        ..t.ask(subject, tokens(10))
    };
    let first = t.admit(keyed(ways[0])).await?;
    same(
        "the reservation",
        t.admit(keyed(ways[1])).await?.id,
        first.id,
    )
}

async fn a_missing_label_counts_as_empty(harness: &dyn Harness) -> Verdict {
    let t = Trial::open(harness, tokens_by_user(100, long())).await?;
    t.spend(&[], tokens(30)).await?;
    t.used(&[("user", "")], "quota", 30).await?;
    t.used(&[("tenant", "alice")], "quota", 30).await?;
    let standing = t.standing(ALICE, "quota").await?;
    same("what another has used", standing.used, 0)
}
