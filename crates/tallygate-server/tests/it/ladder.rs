//! Ladders: calls that go down to a cheaper model instead of being refused, through every door and in every dialect.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tallygate_core::{Amounts, Metric, Standing};
use tallygate_sim::{ApiCall, Reply};
use tallygate_tokens::Endpoint;

use crate::admin_api::{administered, ask, made};
use crate::world::World;

mod dollars;
mod elsewhere;
mod reserving;

/// A tier whose quota is one call a month, and which goes down in each dialect.
const PRO: &str = "\
identify: { trust_headers: true }
models:
  gpt-4o: { upstream: openai, output_estimate: max_tokens }
  gpt-4o-mini: { upstream: openai, match: [\"gpt-4o-mini-2*\", gpt-4o-mini], output_estimate: max_tokens }
  large: { upstream: openai, match: [text-embedding-3-large] }
  small: { upstream: openai, match: [text-embedding-3-small] }
  sonnet: { upstream: anthropic, match: [claude-sonnet-4-5], output_estimate: max_tokens }
  haiku: { upstream: anthropic, match: [claude-haiku-4-5], output_estimate: max_tokens }
  pro: { upstream: gemini, match: [gemini-2.5-pro], output_estimate: max_tokens }
  flash: { upstream: gemini, match: [gemini-2.5-flash], output_estimate: max_tokens }
limits:
  - { name: all, requests: 1000, tokens: 100_000, every: 8000h }
tiers:
  pro:
    downgrade: [gpt-4o-mini, small, haiku, flash]
    limits:
      - { name: month, per: [user], requests: 1, tokens: 1_000_000, every: month }
      - { name: each, per: [user, model], requests: 100, tokens: 100_000, every: 8000h }
      - { name: minute, when: { user: hasty }, requests: 1, every: 8000h }
      - { name: once, when: { user: busy }, concurrency: 1 }
  free:
    models: [gpt-4o-mini]
    downgrade: [gpt-4o-mini]
    limits: [{ name: free-month, per: [user], requests: 2, every: month }]
";

/// Endpoint, the model asked for, and the one that serves below the quota.
const DOWN: [(Endpoint, &str, &str); 9] = [
    (Endpoint::ChatCompletions, "gpt-4o", "gpt-4o-mini"),
    (Endpoint::Responses, "gpt-4o", "gpt-4o-mini"),
    (
        Endpoint::Completions,
        "gpt-3.5-turbo-instruct",
        "gpt-4o-mini",
    ),
    (
        Endpoint::Embeddings,
        "text-embedding-3-large",
        "text-embedding-3-small",
    ),
    (Endpoint::Messages, "claude-sonnet-4-5", "claude-haiku-4-5"),
    (
        Endpoint::CountTokens,
        "claude-sonnet-4-5",
        "claude-haiku-4-5",
    ),
    (
        Endpoint::GenerateContent,
        "gemini-2.5-pro",
        "gemini-2.5-flash",
    ),
    (
        Endpoint::StreamGenerateContent,
        "gemini-2.5-pro",
        "gemini-2.5-flash",
    ),
    // Its own rung: it keeps its name.
    (
        Endpoint::ChatCompletions,
        "gpt-4o-mini-2024-07-18",
        "gpt-4o-mini-2024-07-18",
    ),
];

fn as_tier(call: ApiCall, tier: &str, user: &str) -> ApiCall {
    call.header("x-tallygate-tier", tier)
        .header("x-tallygate-user", user)
}

fn chat(tier: &str, user: &str) -> ApiCall {
    as_tier(
        ApiCall::chat("gpt-4o", "Hello world").max_tokens(50),
        tier,
        user,
    )
}

fn models(reply: &Reply) -> (Option<&str>, Option<&str>) {
    let header = |name| reply.header(name);
    (header("x-tallygate-model"), header("x-tallygate-asked"))
}

const AS_ASKED: (Option<&str>, Option<&str>) = (None, None);

/// How much of each limit is used, by name and metric, whatever model `user` of `tier` calls.
async fn used(world: &World, tier: &str, user: &str) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for model in [
        "gpt-4o",
        "gpt-4o-mini",
        "sonnet",
        "haiku",
        "pro",
        "flash",
        "large",
        "small",
    ] {
        for downgraded in ["no", "yes"] {
            let subject = [
                ("tier", tier),
                ("user", user),
                ("model", model),
                ("downgraded", downgraded),
            ];
            let name = |standing: &Standing| {
                let limit = &standing.limit;
                let apart = if &*limit.name == "each" { model } else { "" };
                let name = format!("{} {} {apart}", limit.name, limit.metric_name);
                (name, standing.used)
            };
            all.extend(world.standings(&subject).await.iter().map(name));
        }
    }
    all.sort();
    all.dedup();
    all.retain(|(_, used)| *used > 0);
    all
}

async fn used_of(world: &World, name: &str, user: &str) -> u64 {
    let all = used(world, "pro", user).await;
    let found = all.iter().find(|(known, _)| known == name);
    found.map_or(0, |(_, used)| *used)
}

fn streamed(call: &ApiCall) -> Option<ApiCall> {
    match call.endpoint() {
        Endpoint::ChatCompletions | Endpoint::Completions => {
            Some(call.clone().streamed_with_usage())
        }
        Endpoint::Responses | Endpoint::Messages => Some(call.clone().streamed()),
        _ => None,
    }
}

#[tokio::test]
async fn below_its_quota_a_call_is_served_by_the_next_model_in_every_dialect() {
    for (endpoint, asked, below) in DOWN {
        let plain = ApiCall::new(endpoint, asked, "Hello world").max_tokens(50);
        for call in std::iter::once(plain.clone()).chain(streamed(&plain)) {
            let call = as_tier(call, "pro", "ann");
            let world = World::new(PRO).await;
            let first = world.call(&call).await;
            assert_eq!((first.status, models(&first)), (200, AS_ASKED));
            world.settled().await;
            let before = used(&world, "pro", "ann").await;
            let second = world.call(&call).await;
            let told = (Some(below), Some(asked));
            assert_eq!(
                (second.status, models(&second)),
                (200, told),
                "{endpoint:?}"
            );
            assert!(second.answer().complete || second.json().is_object());
            world.settled().await;
            check_sent(&world, &call, below);
            check_charged(&before, &used(&world, "pro", "ann").await, &second);
        }
    }
}

/// The provider is sent the same call with another model, byte by byte.
fn check_sent(world: &World, call: &ApiCall, below: &str) {
    let sent = world.mock.received();
    let (first, second) = (&sent[0], &sent[1]);
    let named = |text: &[u8]| -> Value { serde_json::from_slice(text).expect("JSON") };
    match call.endpoint() {
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => {
            assert_eq!(second.body, first.body);
            let path = first.path.replace("gemini-2.5-pro", below);
            assert_eq!(second.path, path);
        }
        _ => {
            let asked = named(&first.body)["model"].to_string();
            let first = String::from_utf8_lossy(&first.body).into_owned();
            let second = String::from_utf8_lossy(&second.body).into_owned();
            assert_eq!(second, first.replace(&asked, &json!(below).to_string()));
        }
    }
    assert!(
        second
            .headers
            .keys()
            .all(|name| !name.as_str().starts_with("x-tallygate"))
    );
}

/// Only what counts everything, and the model that served, have changed, and by the use alone.
fn check_charged(before: &[(String, u64)], after: &[(String, u64)], reply: &Reply) {
    let of = |all: &[(String, u64)], name: &str| {
        let found = all.iter().find(|(known, _)| known == name);
        found.map_or(0, |(_, used)| *used)
    };
    let usage = reply.answer().usage;
    let tokens = usage.map_or(0, |usage| usage.input + usage.output);
    for (name, used) in after {
        let more = used - of(before, name);
        let expected = match name.as_str() {
            "all requests " => 1,
            "all tokens " => tokens,
            "month requests " | "month tokens " => 0,
            each if each.starts_with("each requests") && more > 0 => 1,
            each if each.starts_with("each tokens") && more > 0 => tokens,
            _ => 0,
        };
        assert_eq!(more, expected, "{name}: {before:?} {after:?}");
    }
    let served = after
        .iter()
        .filter(|(name, used)| name.starts_with("each requests") && *used > of(before, name));
    assert_eq!(served.count(), 1, "{before:?} {after:?}");
}

#[tokio::test]
async fn the_providers_word_on_the_model_passes_unchanged() {
    let world = World::new(PRO).await;
    world.call(&chat("pro", "ann")).await;
    let reply = world.call(&chat("pro", "ann")).await;
    assert_eq!(reply.json()["model"], "gpt-4o-mini");
    let metrics = world.metrics();
    for line in [
        "tallygate_downgrades_total{from=\"gpt-4o\",to=\"gpt-4o-mini\",reason=\"quota\"} 1",
        "tallygate_decisions_total{door=\"gateway\",decision=\"downgrade\",reason=\"quota\"} 1",
        "tallygate_decisions_total{door=\"gateway\",decision=\"admit\",reason=\"room\"} 1",
        "tallygate_limit_decisions_total{limit=\"month\",metric=\"requests\",decision=\"deny\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_failure_below_the_quota_gives_everything_back() {
    let world = World::new(PRO).await;
    world.call(&chat("pro", "ann")).await;
    world.settled().await;
    let before = used(&world, "pro", "ann").await;
    let failing = chat("pro", "ann").header("x-mock-status", "500");
    assert_eq!(world.call(&failing).await.status, 500);
    world.settled().await;
    assert_eq!(used(&world, "pro", "ann").await, before);
}

/// A tier without the model serves its best one instead, and counts it as any other call.
#[tokio::test]
async fn a_model_that_the_tier_lacks_is_replaced_or_refused() {
    let world = World::new(PRO).await;
    let refused = world
        .call(&chat("free", "bob").header("x-tallygate-downgrade", "never"))
        .await;
    assert_eq!((refused.status, models(&refused)), (403, AS_ASKED));
    for _ in 0..2 {
        let reply = world.call(&chat("free", "bob")).await;
        let told = (Some("gpt-4o-mini"), Some("gpt-4o"));
        assert_eq!((reply.status, models(&reply)), (200, told));
    }
    let spent = world.call(&chat("free", "bob")).await;
    assert_eq!(spent.status, 429, "its quota counts what it has instead");
    assert!(
        spent.json()["error"]["message"]
            .to_string()
            .contains("gpt-4o-mini")
    );
    let claude = as_tier(ApiCall::messages("claude-sonnet-4-5", "Hi"), "free", "cid");
    assert_eq!(
        world.call(&claude).await.status,
        403,
        "no rung speaks its dialect"
    );
    let embedding = ApiCall::new(Endpoint::Embeddings, "text-embedding-3-large", "Hi");
    assert_eq!(
        world.call(&as_tier(embedding, "free", "cid")).await.status,
        403
    );
    let metrics = world.metrics();
    for line in [
        "tallygate_downgrades_total{from=\"gpt-4o\",to=\"gpt-4o-mini\",reason=\"tier\"} 2",
        // What no limit counts otherwise below the quota is asked once.
        "limit=\"free-month\",metric=\"requests\",decision=\"deny\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn who_wants_no_cheaper_model_is_refused() {
    let world = World::new(PRO).await;
    let never = chat("pro", "ann").header("x-tallygate-downgrade", "never");
    assert_eq!(world.call(&never).await.status, 200);
    let refused = world.call(&never).await;
    assert_eq!((refused.status, models(&refused)), (429, AS_ASKED));
    assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
    let allowed = chat("pro", "ann").header("x-tallygate-downgrade", "allow");
    assert_eq!(world.call(&allowed).await.status, 200);
    let odd = chat("pro", "ann").header("x-tallygate-downgrade", "sometimes");
    assert_eq!(world.call(&odd).await.status, 400);
}

#[tokio::test]
async fn a_key_may_say_that_it_wants_no_cheaper_model() {
    let hash = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"; // of "secret"
    for (downgrade, status) in [("never", 429), ("allow", 200)] {
        let key = format!(
            "{{ id: a, hash: \"{hash}\", subject: {{ tier: pro, user: ann }}, downgrade: {downgrade} }}"
        );
        let world = World::new(&format!("{PRO}keys: [{key}]"))
            .await
            .keyed("secret");
        let call = ApiCall::chat("gpt-4o", "Hello world").header("x-tallygate-downgrade", "allow");
        assert_eq!(world.call(&call).await.status, 200);
        assert_eq!(world.call(&call).await.status, status);
    }
}

#[tokio::test]
async fn a_key_made_at_run_time_may_say_so_too() {
    for (downgrade, status) in [("never", 429), ("allow", 200)] {
        let (world, root) = administered(PRO).await;
        let subject = json!({ "tier": "pro", "user": "ann" });
        let wanted = json!({ "id": "a", "subject": subject, "downgrade": downgrade });
        let key = made(&world, Some(&root), wanted).await;
        let shown = ask(
            &world,
            Some(&root),
            Method::GET,
            ("/api/keys/a", Value::Null),
        )
        .await;
        assert_eq!(shown.json()["downgrade"], downgrade);
        let world = world.keyed(&key);
        let call = ApiCall::chat("gpt-4o", "Hello world");
        assert_eq!(world.call(&call).await.status, 200);
        assert_eq!(world.call(&call).await.status, status);
    }
}

#[tokio::test]
async fn a_rate_sends_nobody_down() {
    let world = World::new(PRO).await;
    let subject = [("tier", "pro"), ("user", "hasty")];
    let mut call = chat("pro", "hasty");
    assert_eq!(world.call(&call).await.status, 200);
    // Both the quota and the rate are in the way; below the quota the rate still is.
    let reply = world.call(&call).await;
    assert_eq!((reply.status, models(&reply)), (429, AS_ASKED));
    assert_eq!(world.mock.received().len(), 1);
    let held = world.hold(&[("tier", "pro"), ("user", "busy")]).await;
    call = chat("pro", "busy");
    let busy = world.call(&call).await;
    assert_eq!((busy.status, models(&busy)), (429, AS_ASKED));
    assert!(
        busy.json()["error"]["message"]
            .to_string()
            .contains("gpt-4o in limit once")
    );
    world.server.store().cancel(held).await.expect("held");
    let reply = world.call(&call).await;
    assert_eq!((reply.status, models(&reply)), (200, AS_ASKED));
    assert!(!world.standings(&subject).await.is_empty());
}

/// Whoever is held up by anything but a quota waits for the model it asked for.
#[tokio::test]
async fn a_rate_is_waited_for_and_a_quota_is_not() {
    let world = World::new(&format!("{PRO}waiting: {{ max_wait: 20s }}")).await;
    let slot = [
        ("tier", "pro"),
        ("user", "busy"),
        ("downgraded", "no"),
        ("model", "none"),
    ];
    let held = world.hold(&slot[..2]).await;
    let call = chat("pro", "busy");
    let (reply, ()) = tokio::join!(world.call(&call), async {
        world.until(|store| store.stats().waiters == 1).await;
        world.server.store().cancel(held).await.expect("held");
    });
    assert_eq!((reply.status, models(&reply)), (200, AS_ASKED));
    let below = world.call(&call).await;
    assert_eq!(
        (below.status, below.header("x-tallygate-model")),
        (200, Some("gpt-4o-mini"))
    );
    // Below the quota too.
    let held = world.hold(&slot[..2]).await;
    let (reply, ()) = tokio::join!(world.call(&call), async {
        world.until(|store| store.stats().waiters == 1).await;
        world.server.store().cancel(held).await.expect("held");
    });
    assert_eq!(
        (reply.status, reply.header("x-tallygate-model")),
        (200, Some("gpt-4o-mini"))
    );
    assert_eq!(used_of(&world, "month requests ", "busy").await, 1);
}

/// Who was to serve is told where it is not the provider that answers, too.
#[tokio::test]
async fn a_failure_below_the_quota_says_which_model_failed() {
    let world = World::new(PRO).await;
    assert_eq!(world.call(&chat("pro", "ann")).await.status, 200);
    for (header, value) in [
        ("x-mock-close", "before-headers"),
        ("x-mock-cut-after", "0"),
    ] {
        let reply = world.call(&chat("pro", "ann").header(header, value)).await;
        let told = (Some("gpt-4o-mini"), Some("gpt-4o"));
        assert_eq!((reply.status, models(&reply)), (502, told), "{value}");
    }
    let as_asked = chat("pro", "bob").header("x-mock-close", "before-headers");
    let reply = world.call(&as_asked).await;
    assert_eq!((reply.status, models(&reply)), (502, AS_ASKED));
}

/// A call that waits for a rate goes down as soon as a quota of its own model fills: it would have come to the quota's line.
#[tokio::test]
async fn a_quota_that_fills_sends_down_who_waits_for_a_rate() {
    let world = World::new(&format!("{PRO}waiting: {{ max_wait: 20s }}")).await;
    let busy = [("tier", "pro"), ("user", "busy"), ("downgraded", "no")];
    let slot = world.hold(&busy[..2]).await;
    let call = chat("pro", "busy");
    let (reply, ()) = tokio::join!(world.call(&call), async {
        world.until(|store| store.stats().waiters == 1).await;
        // It needs no slot, and nobody is in the line of the month.
        let month = Amounts::ZERO.with(Metric::REQUESTS, 1);
        world.hold_of(&busy, month).await;
        // It is in line again, for the slot of the model below.
        world
            .until(|store| store.stats().waiters == 1 && store.stats().reservations == 2)
            .await;
        world.server.store().cancel(slot).await.expect("held");
    });
    let told = (Some("gpt-4o-mini"), Some("gpt-4o"));
    assert_eq!((reply.status, models(&reply)), (200, told));
    let waits = "tallygate_wait_seconds_count{outcome=\"admit\"} 1";
    assert!(world.metrics().contains(waits), "{}", world.metrics());
    let gave_up = "tallygate_wait_seconds_count{outcome=\"deny\"}";
    assert!(!world.metrics().contains(gave_up), "it went on");
}

const STAIRS: &str = "\
identify: { trust_headers: true }
models:
  gpt-4o: { upstream: openai, output_estimate: max_tokens }
  gpt-4o-mini: { upstream: openai, output_estimate: max_tokens }
  gpt-4.1-nano: { upstream: openai, output_estimate: max_tokens }
tiers:
  pro:
    downgrade: [gpt-4o-mini, gpt-4.1-nano]
    limits:
      - { name: month, requests: 1, every: month }
      - { name: large, when: { model: gpt-4o }, tokens: 60, every: 8000h }
      - { name: mini-week, when: { model: gpt-4o-mini }, requests: 1, every: week }
      - { name: nano-day, when: { model: gpt-4.1-nano }, requests: 1, every: day }
";

#[tokio::test]
async fn a_ladder_is_gone_down_rung_by_rung_and_the_end_tells_the_earliest_retry() {
    let world = World::new(STAIRS).await;
    let mut served = Vec::new();
    for _ in 0..3 {
        let reply = world.call(&chat("pro", "ann")).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        served.push(reply.header("x-tallygate-model").map(str::to_owned));
    }
    let below = |model: &str| Some(model.to_owned());
    assert_eq!(served, [None, below("gpt-4o-mini"), below("gpt-4.1-nano")]);
    world.settled().await;
    let reply = world.call(&chat("pro", "ann")).await;
    assert_eq!(reply.status, 429);
    let wait = reply.retry_after().expect("a wait");
    let (limit, reset) = first_reset(&world).await;
    assert!(wait < reset + Duration::from_secs(5), "{wait:?}, {reset:?}");
    let message = reply.json()["error"]["message"].to_string();
    assert!(
        message.contains(&format!("in limit {limit} on")),
        "{message}"
    );
    let metrics = world.metrics();
    for (limit, times) in [("month", 3), ("mini-week", 2), ("nano-day", 1)] {
        let said = format!("limit=\"{limit}\",metric=\"requests\",decision=\"deny\"}} {times}\n");
        assert!(metrics.contains(&said), "{said}{metrics}");
    }
    let ended =
        "tallygate_decisions_total{door=\"gateway\",decision=\"deny\",reason=\"limit\"} 1\n";
    assert!(metrics.contains(ended));
}

/// The quota that is back first, and when. At the end of a week or month several are; the first attempt's is told.
async fn first_reset(world: &World) -> (String, Duration) {
    let mut first = None;
    for (model, downgraded, quota) in [
        ("gpt-4o", "no", "month"),
        ("gpt-4o-mini", "yes", "mini-week"),
        ("gpt-4.1-nano", "yes", "nano-day"),
    ] {
        let subject = [
            ("tier", "pro"),
            ("model", model),
            ("downgraded", downgraded),
        ];
        for standing in world.standings(&subject).await {
            let earlier = first
                .as_ref()
                .is_none_or(|(_, reset)| standing.reset + Duration::from_secs(1) < *reset);
            if &*standing.limit.name == quota && earlier {
                first = Some((quota.to_owned(), standing.reset));
            }
        }
    }
    first.expect("a quota")
}

#[tokio::test]
async fn what_can_never_fit_goes_down_and_is_sized_anew() {
    let world = World::new(STAIRS).await;
    let large = as_tier(
        ApiCall::chat("gpt-4o", "Hello world").max_tokens(500),
        "pro",
        "ann",
    );
    let reply = world.call(&large).await;
    let told = (Some("gpt-4o-mini"), Some("gpt-4o"));
    assert_eq!((reply.status, models(&reply)), (200, told));
    let line = "tallygate_downgrades_total{from=\"gpt-4o\",to=\"gpt-4o-mini\",reason=\"never\"} 1";
    assert!(world.metrics().contains(line));
}

/// What has no size counts to the quotas of a tier with a ladder as it does without one.
#[tokio::test]
async fn what_passes_unsized_counts_to_the_quota() {
    let world = World::new(PRO).await;
    let client = world.client.clone().with_header("x-tallygate-tier", "pro");
    let client = client.with_header("x-tallygate-user", "ann");
    assert_eq!(
        client.get("/v1/models").await.expect("an answer").status,
        200
    );
    world.settled().await;
    assert_eq!(used_of(&world, "month requests ", "ann").await, 1);
    let reply = world.call(&chat("pro", "ann")).await;
    assert_eq!(reply.header("x-tallygate-model"), Some("gpt-4o-mini"));
}

/// A ladder that is added or taken away leaves the counters of the tier's quotas.
#[tokio::test]
async fn counters_outlive_a_change_of_the_ladder() {
    let world = World::new(PRO).await;
    world.call(&chat("pro", "ann")).await;
    world.settled().await;
    let without = PRO.replace("    downgrade: [gpt-4o-mini, small, haiku, flash]\n", "");
    for (settings, status) in [(without.as_str(), 429), (PRO, 200)] {
        let config = crate::world::config(&crate::world::upstreams(&world.mock), settings);
        world.server.reload(config).expect("reloaded");
        assert_eq!(world.call(&chat("pro", "ann")).await.status, status);
    }
}
