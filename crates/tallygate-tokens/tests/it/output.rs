//! Output held before a call: policies, and quantiles learned from a real trace.

use serde_json::{Value, json};
use tallygate_tokens::{
    Call, Endpoint, Estimate, EstimateMethod, HALF_LIFE, Learner, MIN_SAMPLES, OutputClass,
    OutputEstimate, OutputPolicy, output_estimate,
};

fn call(endpoint: Endpoint, fields: Value) -> Call {
    let mut body = json!({"model": "gpt-4o", "messages": [], "input": "x", "prompt": "x"});
    for (key, value) in fields.as_object().expect("an object") {
        body[key] = value.clone();
    }
    Call::parse(endpoint, None, body.to_string().as_bytes()).expect("a valid body")
}

const POLICY: OutputPolicy = OutputPolicy {
    estimate: OutputEstimate::Multiplier { per_mille: 1_200 },
    floor: 50,
    ceiling: 4_000,
    default_max: 1_000,
};

fn learned() -> OutputPolicy {
    OutputPolicy {
        estimate: OutputEstimate::Learned {
            quantile_per_mille: 950,
            fallback_per_mille: 2_000,
        },
        ..POLICY
    }
}

fn max_tokens() -> OutputPolicy {
    OutputPolicy {
        estimate: OutputEstimate::MaxTokens,
        ..POLICY
    }
}

/// Fields of a chat, its input, and the output to be held for it.
type Row = (&'static str, u64, u64, EstimateMethod);

fn check(policy: OutputPolicy, quantile: Option<u64>, rows: &[Row]) {
    for &(fields, input, tokens, method) in rows {
        let fields = serde_json::from_str(fields).expect("valid JSON");
        let call = call(Endpoint::ChatCompletions, fields);
        let estimate = output_estimate(&call, input, &policy, quantile);
        assert_eq!(estimate, Estimate { tokens, method }, "{call:?} {input}");
    }
}

#[test]
fn a_multiple_of_the_input_is_kept_in_bounds() {
    use EstimateMethod::{MaxTokens, Multiplier};
    let rows = [
        ("{}", 1_000, 1_200, Multiplier),
        ("{}", 1_001, 1_202, Multiplier),
        ("{}", 3, 50, Multiplier),
        ("{}", 1_000_000, 4_000, Multiplier),
        (r#"{"max_tokens": 100}"#, 1_000, 100, MaxTokens),
        (r#"{"max_tokens": 10}"#, 3, 10, MaxTokens),
        (r#"{"max_tokens": 0}"#, 1_000, 0, MaxTokens),
        (r#"{"max_tokens": 9000, "n": 2}"#, 1_000, 2_400, Multiplier),
        (
            r#"{"n": 18446744073709551615}"#,
            1_000,
            u64::MAX,
            Multiplier,
        ),
    ];
    check(POLICY, None, &rows);
    check(POLICY, Some(7), &rows);
}

#[test]
fn a_learned_quantile_is_used_once_it_is_known() {
    use EstimateMethod::{Learned, MaxTokens, Multiplier};
    let known = [
        (r#"{"n": 3}"#, 1_000, 900, Learned),
        (r#"{"max_tokens": 200}"#, 1_000, 200, MaxTokens),
    ];
    check(learned(), Some(300), &known);
    check(learned(), None, &[("{}", 1_000, 2_000, Multiplier)]);
}

#[test]
fn the_callers_own_maximum_is_held_if_the_policy_says_so() {
    use EstimateMethod::MaxTokens;
    let rows = [
        (r#"{"max_tokens": 700}"#, 10, 700, MaxTokens),
        (r#"{"max_tokens": 9000}"#, 10, 4_000, MaxTokens),
        ("{}", 10, 1_000, MaxTokens),
    ];
    check(max_tokens(), Some(9), &rows);
}

#[test]
fn endpoints_have_their_own_outputs() {
    use EstimateMethod::{MaxTokens, None as Nothing};
    for (endpoint, fields, tokens, method) in [
        (Endpoint::Completions, json!({}), 16, MaxTokens),
        (
            Endpoint::Completions,
            json!({"prompt": ["a", "b"]}),
            32,
            MaxTokens,
        ),
        (Endpoint::Embeddings, json!({}), 0, Nothing),
        (Endpoint::CountTokens, json!({"max_tokens": 5}), 0, Nothing),
    ] {
        let estimate = output_estimate(&call(endpoint, fields), 1_000, &POLICY, Some(9));
        assert_eq!(estimate, Estimate { tokens, method }, "{endpoint:?}");
    }
}

#[test]
fn models_have_their_own_multipliers_and_maxima() {
    for (model, per_mille, ceiling) in [
        ("gpt-4", 1_500, 8_192),
        ("gpt-4-turbo", 1_500, 4_096),
        ("gpt-4o", 1_200, 16_384),
        ("openai/gpt-4o-2024-08-06", 1_200, 16_384),
        ("gpt-4.1", 1_200, 32_768),
        ("gpt-3.5-turbo", 1_000, 4_096),
        ("claude-3-sonnet-20240229", 1_300, 4_096),
        ("claude-sonnet-4-5", 1_200, 64_000),
        ("o3-mini", 1_200, 100_000),
        ("unheard-of", 1_200, u64::MAX),
    ] {
        let policy = OutputPolicy::for_model(model);
        assert_eq!(
            policy.estimate,
            OutputEstimate::Multiplier { per_mille },
            "{model}"
        );
        assert_eq!(policy.ceiling, ceiling, "{model}");
        assert!(policy.floor <= policy.default_max && policy.default_max <= policy.ceiling);
    }
}

fn class<'a>(model: &'a str, tenant: &'a str) -> OutputClass<'a> {
    OutputClass {
        model,
        tenant,
        endpoint: Endpoint::ChatCompletions,
    }
}

#[test]
fn a_key_seen_seldom_is_answered_by_a_wider_one() {
    let mut learner = Learner::new(100);
    let ask = |learner: &Learner, model, tenant, input| {
        learner.quantile(&class(model, tenant), input, 1_000)
    };
    assert_eq!(ask(&learner, "m", "t", 1_000), None);
    for _ in 1..MIN_SAMPLES {
        learner.observe(&class("m", "t"), 1_000, 10);
    }
    assert_eq!(ask(&learner, "m", "t", 1_000), None);
    learner.observe(&class("m", "t"), 1_023, 10);
    for (model, tenant, input) in [("m", "t", 600), ("m", "t", 5), ("m", "u", 5), ("n", "u", 5)] {
        assert_eq!(
            ask(&learner, model, tenant, input),
            Some(10),
            "{model} {tenant} {input}"
        );
    }
    for _ in 0..MIN_SAMPLES {
        learner.observe(&class("m", "t"), 4, 20);
    }
    assert_eq!(ask(&learner, "m", "t", 600), Some(10));
    assert_eq!(ask(&learner, "m", "t", 5), Some(20));
    assert_eq!(
        ask(&learner, "m", "t", 100),
        Some(20),
        "any size of the tenant"
    );
}

#[test]
fn keys_are_bounded_and_the_used_ones_stay() {
    let mut learner = Learner::new(40);
    for number in 0..2_000 {
        learner.observe(&class("m", &format!("tenant {number}")), 100, 5);
        learner.observe(&class("m", "loyal"), 100, 31);
        assert!(learner.keys() <= 40, "{}", learner.keys());
    }
    assert_eq!(learner.quantile(&class("m", "loyal"), 100, 500), Some(31));
}

#[test]
fn merged_learners_know_what_both_saw() {
    let mut learners = [Learner::new(100), Learner::new(100)];
    for round in 0..MIN_SAMPLES {
        learners[0].observe(&class("m", "a"), 100, 10);
        learners[1].observe(&class("m", if round % 2 == 0 { "a" } else { "b" }), 100, 50);
    }
    let [mut one, two] = learners;
    assert_eq!(one.quantile(&class("m", "a"), 100, 950), Some(10));
    one.merge(&two);
    assert_eq!(one.quantile(&class("m", "a"), 100, 950), Some(50));
    assert_eq!(one.quantile(&class("m", "a"), 100, 500), Some(10));
}

#[test]
fn what_happens_lately_counts_most() {
    let mut learner = Learner::new(100);
    for _ in 0..4 * HALF_LIFE {
        learner.observe(&class("m", "t"), 100, 30);
    }
    for _ in 0..2 * HALF_LIFE {
        learner.observe(&class("m", "t"), 100, 60);
    }
    assert_eq!(learner.quantile(&class("m", "t"), 100, 500), Some(60));
}

/// Calls of a trace as (input, output).
fn trace(name: &str) -> Vec<(u64, u64)> {
    let text = include_str!("../data/azure-llm-2023.txt");
    let section = text.split("# ").find_map(|part| part.strip_prefix(name));
    let rows = section
        .expect("the trace")
        .lines()
        .filter_map(|line| line.split_once(' '));
    rows.map(|(input, output)| {
        (
            input.parse().expect("a number"),
            output.parse().expect("a number"),
        )
    })
    .collect()
}

/// One pass: every call is estimated by what came before it. Tells the share of calls that
/// produced more than was held, and what was held for each token produced, both in per mille.
fn replay(calls: &[(u64, u64)], per_mille: u32) -> (u64, u64) {
    let mut learner = Learner::new(1_000);
    let class = class("gpt-4", "azure");
    let (mut under, mut held, mut used, mut asked) = (0, 0, 0, 0);
    for &(input, output) in calls {
        if let Some(quantile) = learner.quantile(&class, input, per_mille) {
            asked += 1;
            under += u64::from(output > quantile);
            held += quantile;
            used += output;
        }
        learner.observe(&class, input, output);
    }
    (under * 1_000 / asked, held * 1_000 / used)
}

/// The whole traces give 11.5 % and 1.39, 6.9 % and 1.57 (conversation), 11 % and 1.89, 5.9 % and
/// 3.07 (code) for an ideal sketch without decay; the extract is held to the same promise: few
/// calls above the quantile asked for, and far less held than by a flat maximum (19 and 146).
#[test]
fn quantiles_learned_from_a_real_trace_hold() {
    for (name, per_mille, most_under, most_held) in [
        ("conv", 900, 125, 1_550),
        ("conv", 950, 75, 1_750),
        ("code", 900, 125, 2_300),
        ("code", 950, 75, 3_500),
    ] {
        let (under, held) = replay(&trace(name), per_mille);
        eprintln!("{name} p{per_mille}: {under} per mille under, {held} per mille held");
        assert!(
            under <= most_under,
            "{name} p{per_mille}: {under} per mille under"
        );
        assert!(
            held <= most_held,
            "{name} p{per_mille}: {held} per mille held"
        );
    }
}
