//! Rules come and go; counters that mean the same stay.
use super::Harness;
use super::rules::{
    ALICE, BOB, Subject, bucket, flight, long, rule, sliding, tokens, tokens_by_user,
};
use super::trial::{Trial, policy};
use super::verdict::{Verdict, fail, same};
use std::sync::Arc;
use tallygate_core::{Metric, Rule, Shape};

pub(super) const CASES: &[super::Case] = cases! { "policies":
    peeking_changes_nothing,
    another_policy_keeps_unchanged_counters,
    a_changed_amount_keeps_what_was_taken,
    reservations_outlive_a_policy,
    a_rule_counts_whom_it_names,
};

fn replace(t: &Trial<'_>, rules: impl Into<Vec<Rule>>) -> Verdict {
    let replaced = t.store().replace_policy(Arc::new(policy(rules)?));
    replaced.map_err(|error| fail(error.to_string()))
}

async fn peeking_changes_nothing(harness: &dyn Harness) -> Verdict {
    let slots = (Metric::CONCURRENCY, 3, Shape::Concurrency);
    let limits = [(Metric::TOKENS, 100, long()), slots];
    let t = Trial::open(harness, [rule("both", &["user"], &limits)]).await?;
    t.admit(t.ask(ALICE, flight(40))).await?;
    let before = t.store().stats();
    for _ in 0..50 {
        for subject in [ALICE, BOB] {
            let standings = t.store().peek(subject).await;
            let standings = standings.map_err(|error| fail(error.to_string()))?;
            let seen: Vec<(u64, u64)> = standings
                .iter()
                .map(|standing| (standing.used, standing.remaining))
                .collect();
            let wanted = match subject == ALICE {
                true => vec![(40, 60), (1, 2)],
                false => vec![(0, 100), (0, 3)],
            };
            same("what stands", seen, wanted)?;
        }
    }
    same("the store", t.store().stats(), before)
}

async fn another_policy_keeps_unchanged_counters(harness: &dyn Harness) -> Verdict {
    let long_bucket = bucket(harness.second() * 100_000);
    let slots = [(Metric::CONCURRENCY, 3, Shape::Concurrency)];
    let kept = || {
        [
            rule("month", &["user"], &[(Metric::TOKENS, 100, long())]),
            rule(
                "bucket",
                &["user"],
                &[(Metric::TOKENS, 100, long_bucket.clone())],
            ),
            rule("slots", &["user"], &slots),
        ]
    };
    let t = Trial::open(harness, kept()).await?;
    t.admit(t.ask(ALICE, flight(60))).await?;
    for turn in 0..5 {
        let name = format!("new-{turn}");
        let fresh = rule(&name, &["user"], &[(Metric::TOKENS, 50, long())]);
        let mut rules: Vec<Rule> = vec![fresh];
        rules.extend(kept().into_iter().rev());
        replace(&t, rules)?;
        t.used(ALICE, "month", 60).await?;
        t.used(ALICE, "bucket", 60).await?;
        t.used(ALICE, "slots", 1).await?;
        t.used(ALICE, &name, 0).await?;
    }
    t.deny(t.ask(ALICE, tokens(41))).await?;
    t.spend(ALICE, tokens(40)).await.map(drop)
}

async fn a_changed_amount_keeps_what_was_taken(harness: &dyn Harness) -> Verdict {
    let second = harness.second();
    for shape in [bucket(second * 100_000), sliding(second * 100_000), long()] {
        let t = Trial::open(harness, tokens_by_user(100, shape.clone())).await?;
        t.spend(ALICE, tokens(60)).await?;
        replace(&t, tokens_by_user(300, shape.clone()))?;
        t.used(ALICE, "quota", 60).await?;
        t.spend(ALICE, tokens(100)).await?;
        replace(&t, tokens_by_user(200, shape.clone()))?;
        t.used(ALICE, "quota", 160).await?;
        t.deny(t.ask(ALICE, tokens(45))).await?;
        replace(&t, tokens_by_user(100, shape))?;
        same(
            "what remains",
            t.standing(ALICE, "quota").await?.remaining,
            0,
        )?;
        t.deny(t.ask(ALICE, tokens(1))).await?;
    }
    Ok(())
}

async fn reservations_outlive_a_policy(harness: &dyn Harness) -> Verdict {
    let shape = long();
    let gone = rule("gone", &["user"], &[(Metric::TOKENS, 100, shape.clone())]);
    let stays = rule("stays", &["user"], &[(Metric::TOKENS, 100, shape)]);
    let t = Trial::open(harness, [gone, stays.clone()]).await?;
    let one = t.admit(t.ask(ALICE, tokens(30))).await?;
    let two = t.admit(t.ask(ALICE, tokens(30))).await?;
    let fresh = rule("fresh", &["user"], &[(Metric::TOKENS, 100, long())]);
    replace(&t, [fresh, stays])?;
    t.settle(one.id, tokens(10)).await?;
    t.used(ALICE, "stays", 40).await?;
    t.used(ALICE, "fresh", 0).await?;
    t.cancel(two.id).await?;
    t.used(ALICE, "stays", 10).await?;
    same("standings", t.store().stats().reservations, 0)
}

async fn a_rule_counts_whom_it_names(harness: &dyn Harness) -> Verdict {
    let mut own = rule("gpt", &["model"], &[(Metric::TOKENS, 100, long())]);
    own.when = vec![
        (
            "model".to_owned(),
            vec!["gpt-*".to_owned(), "o3".to_owned()],
        ),
        ("tier".to_owned(), vec!["free".to_owned()]),
    ];
    let t = Trial::open(harness, [own]).await?;
    let caller = |model, tier| [("model", model), ("tier", tier)];
    let (mini, o3) = (caller("gpt-mini", "free"), caller("o3", "free"));
    for subject in [&mini, &o3] {
        t.spend(subject, tokens(100)).await?;
        t.deny(t.ask(subject, tokens(1))).await?;
    }
    let others = [
        caller("gpt-mini", "pro"),
        caller("o3-mini", "free"),
        caller("agpt-", "free"),
    ];
    for subject in &others {
        t.spend(subject, tokens(1_000_000)).await?;
    }
    let unnamed: Subject<'_> = &[("model", "o3")];
    t.spend(unnamed, tokens(1_000_000)).await.map(drop)
}
