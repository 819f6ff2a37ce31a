//! Which limits apply, where they stand, what they promise.

use std::fs;

use serde_json::json;

use crate::command::{Ran, run, run_with};
use crate::folder::Folder;

const CONFIG: &str = "
upstreams:
  openai: { dialect: openai, base_url: \"http://127.0.0.1:1/v1\" }
  anthropic: { dialect: anthropic, base_url: \"http://127.0.0.1:1\" }
models:
  gpt-4o: { upstream: openai, match: [\"gpt-4o\", \"gpt-4o-2*\"] }
limits:
  - { name: account, when: { model: gpt-4o }, per: [upstream, model], requests: 60, tokens: 100_000, every: 60s }
  - { name: free-day, when: { tier: free }, per: [user], tokens: 500, every: day }
";

fn explain(name: &str, arguments: &[&str]) -> Ran {
    let folder = Folder::new(name);
    let file = folder.path().join("tallygate.yaml");
    fs::write(&file, CONFIG).expect("a file");
    let path = file.display().to_string();
    run(&[&["explain", "--config", &path], arguments].concat())
}

#[test]
fn the_limits_that_apply_are_named_with_their_promises() {
    let ran = explain(
        "applies",
        &["user=alice", "tier=free", "--model", "gpt-4o-2024-08-06"],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("model=gpt-4o upstream=openai"),
        "{}",
        ran.stdout
    );
    for said in [
        "account: 60 requests every 60s, 60 left",
        "free-day: 500 tokens every day, 500 left",
        "never more than 500 tokens in a calendar day",
    ] {
        assert!(ran.stdout.contains(said), "{said} is not in {}", ran.stdout);
    }
}

/// A call is explained as it is asked for; with the label, as it is below its quota.
#[test]
fn a_tier_with_a_ladder_is_explained_above_and_below_its_quota() {
    let folder = Folder::new("ladder");
    let file = folder.path().join("tallygate.yaml");
    let ladder = "tiers: { pro: { downgrade: [gpt-4o], limits: [{ name: pro-day, tokens: 5, every: day }, \
                  { name: below, requests: 5, every: day, downgraded: only }] } }";
    fs::write(&file, format!("{CONFIG}{ladder}\n")).expect("a file");
    let path = file.display().to_string();
    for (label, limit) in [("user=ann", "pro-day"), ("downgraded=yes", "below")] {
        let answer = run(&["explain", "--config", &path, "tier=pro", label, "--json"]).json();
        let limits = answer["limits"].as_array().expect("limits");
        assert_eq!(limits.len(), 1, "{answer}");
        assert_eq!(limits[0]["name"], limit);
    }
}

/// Which models serve, in what order and at what price, by the file and by a server of it.
#[test]
fn the_ladder_and_the_prices_are_told() {
    let folder = Folder::new("ladder-prices");
    let file = folder.path().join("tallygate.yaml");
    let rest = "\
prices: { models: { gpt-4o: { input: 2.50, output: 10, above: [{ input_tokens: 1_000, input: 5, output: 20 }] }, mini: { input: 0.15, output: 0.60 } } }
tiers:
  pro: { downgrade: [mini], limits: [{ name: pro-day, tokens: 5, every: day }] }
  free: { models: [mini], downgrade: [mini], limits: [{ name: f, tokens: 5, every: day }] }
  none: { models: [mini] }
";
    let config = CONFIG.replace(
        "models:\n",
        "models:\n  mini: { upstream: openai, match: [gpt-4o-mini] }\n",
    );
    fs::write(&file, format!("{config}{rest}")).expect("a file");
    let path = file.display().to_string();
    let explain = |tier: &str, last: &str| {
        let told = [
            "explain", "--config", &path, tier, "--model", "gpt-4o", last,
        ];
        run(&told[..if last.is_empty() { 6 } else { 7 }])
    };
    let models = |tier: &str| explain(tier, "--json").json()["models"].clone();
    let named = |told: &serde_json::Value| -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let all = told.as_array().expect("models").iter();
        all.map(|one| (text(&one["model"]), text(&one["step"])))
            .collect()
    };
    let pair = |model: &str, step: &str| (model.to_owned(), step.to_owned());
    let pro = models("tier=pro");
    assert_eq!(
        named(&pro),
        [pair("gpt-4o", "asked"), pair("gpt-4o-mini", "below")]
    );
    assert_eq!(pro[0]["price"]["input"], 2_500_000);
    assert_eq!(pro[0]["price"]["above"][0]["output"], 20_000_000);
    assert_eq!(
        named(&models("tier=free")),
        [pair("gpt-4o-mini", "instead")]
    );
    assert_eq!(named(&models("tier=none")), []);
    let text = explain("tier=pro", "").stdout;
    for said in [
        "gpt-4o: $2.50 input, $10.00 output a million tokens; with more than 1000 input tokens $5.00 input, $20.00 output",
        "gpt-4o-mini, where a quota of those before it is used up: $0.15 input, $0.60 output a million tokens",
    ] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
}

/// Where calls that nobody can size are refused, why, and what lets them pass; nothing where nothing stands against them.
#[test]
fn what_nobody_can_size_is_told_where_it_is_refused() {
    let folder = Folder::new("unsized");
    let file = folder.path().join("tallygate.yaml");
    let config = "
upstreams:
  openai: { dialect: openai, base_url: \"http://127.0.0.1:1/v1\" }
  second: { dialect: openai, base_url: \"http://127.0.0.1:1/v1\" }
  anthropic: { dialect: anthropic, base_url: \"http://127.0.0.1:1\" }
  gemini: { dialect: gemini, base_url: \"http://127.0.0.1:1\", passthrough: allow }
models: { mini: { upstream: openai } }
tiers:
  free: { models: [mini], limits: [{ name: free-day, per: [user], requests: 500, every: day }] }
  paid: { limits: [{ name: spend, when: { model: gpt-4o, upstream: openai }, cost: 1.00, every: month }] }
";
    fs::write(&file, config).expect("a file");
    let path = file.display().to_string();
    let told = |tier: &str| run(&["explain", "--config", &path, tier]).stdout;
    let refused =
        "calls that nobody can size are refused where they may generate (403, unsized_call)";
    let option =
        "`passthrough: allow` at an upstream lets them pass there, counted as requests alone";
    for (tier, at) in [
        (
            "tier=free",
            "  at openai, anthropic: the tier `free` has some models only\n",
        ),
        ("tier=paid", "  at openai: the limit `spend` counts cost\n"),
    ] {
        let text = told(tier);
        for said in [refused, at, option] {
            assert!(text.contains(said), "{said} is not in {text}");
        }
    }
    assert!(!told("user=ann").contains("nobody can size"));
    // Such a call does not go where the one asked about goes.
    let asked = ["tier=paid", "--model", "claude-sonnet-4-5", "--json"];
    let json = run(&[&["explain", "--config", &path], &asked[..]].concat()).json();
    assert_eq!(json["subject"]["upstream"], "anthropic");
    let calls = |upstream: &str, passthrough: &str, why: Option<&str>| json!({ "upstream": upstream, "passthrough": passthrough, "refused_because": why });
    let all = [
        calls("openai", "guarded", Some("the limit `spend` counts cost")),
        calls("anthropic", "guarded", None),
        calls("gemini", "allow", None),
    ];
    assert_eq!(json["unsized_calls"], json!(all));
}

#[test]
fn a_limit_of_others_does_not_appear() {
    let answer = explain(
        "others",
        &[
            "user=bob",
            "tier=pro",
            "--model",
            "claude-sonnet-4-5",
            "--json",
        ],
    )
    .json();
    assert_eq!(answer["limits"].as_array().unwrap().len(), 0, "{answer:#}");
    assert_eq!(answer["subject"]["upstream"], "anthropic");
}

#[test]
fn a_size_has_room_or_can_never_have() {
    let room = |name: &str, input: &str| {
        let arguments = [
            "user=alice",
            "tier=free",
            "--model",
            "gpt-4o",
            "--json",
            "--input-tokens",
            input,
        ];
        explain(name, &arguments).json()["room"]["room"].clone()
    };
    assert_eq!(room("fits", "500"), "now");
    assert_eq!(room("never", "501"), "never");
}

#[test]
fn what_becomes_of_each_limit_without_its_store_is_told() {
    let folder = Folder::new("store-down");
    let file = folder.path().join("tallygate.yaml");
    let config = "
store: redis://:never-shown@10.0.0.9
store_down: share
limits:
  - { name: hour, requests: 60, every: 1h }
  - { name: hard, tokens: 100, every: day, store_down: closed }
  - { name: soft, tokens: 100, every: 60s, store_down: open }
";
    fs::write(&file, config).expect("a file");
    let path = file.display().to_string();
    let text = run(&["explain", "--config", &path]).stdout;
    for said in [
        "counters on redis://:***@10.0.0.9:6379",
        "without its store lets each node spend what it had leased before, and no more (share)",
        "without its store refuses every call (closed)",
        "without its store lets every call through uncounted (open)",
    ] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    let told = run(&["explain", "--config", &path, "--json"]).json();
    assert_eq!(told["store"], "redis://:***@10.0.0.9:6379");
    assert_eq!(told["limits"][1]["store_down"], "closed");
    let memory = explain("store-memory", &["user=alice", "--json"]).json();
    assert_eq!(memory["limits"][0].get("store_down"), None);
}

#[test]
fn nothing_to_explain_is_a_usage_failure() {
    assert_eq!(run(&["explain", "user=alice"]).code, 2);
    assert_eq!(explain("label", &["alice"]).code, 2);
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let ran = run(&["explain", "--url", "http://127.0.0.1:1", "user=alice"]);
    assert_eq!(ran.code, 6);
    assert!(ran.stderr.contains("tallygate serve"), "{}", ran.stderr);
}

#[test]
fn a_call_that_a_budget_cannot_pay_is_told_so() {
    let text = "\
upstreams: { openai: { dialect: openai, base_url: \"http://127.0.0.1:1/v1\" } }
limits: [{ name: budget, cost: 2.00, every: month }]\n";
    let ask = |input: &str| {
        let ran = run_with(
            &[
                "explain",
                "--config",
                "-",
                "--model",
                "gpt-4o",
                "--input-tokens",
                input,
                "--json",
            ],
            text,
        );
        ran.json()
    };
    let dear = ask("1000000");
    assert_eq!(dear["demand"]["cost"], 2_500_000, "{dear}");
    assert_eq!(dear["room"]["blocked_by"][0], "budget (cost)", "{dear}");
    assert_eq!(ask("800000")["room"]["room"], "now");
}
