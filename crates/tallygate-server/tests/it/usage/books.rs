//! The ledger's totals are the provider's own, to the call, the token and the micro-dollar, over calls that end in every way
//! that can be known exactly.
//!
//! `cargo xtask bench books` is the long version.
//!
//! An answer that is no stream and breaks off is not among them: nobody can know what it used, and what was held is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::Value;
use tallygate_core::Metric;
use tallygate_server::Config;
use tallygate_server::config::Priced;
use tallygate_sim::client::events;
use tallygate_sim::{ApiCall, Mock, MockOptions, Served};
use tallygate_tokens::{Endpoint, Usage};

use super::report;
use crate::world::{World, config, upstreams, within};

const SETTINGS: &str = "\
models:
  gpt-4o: { upstream: openai, output_estimate: max_tokens }
  gpt-4o-mini: { upstream: openai, output_estimate: 1.2 }
limits:
  - { name: busy, when: { model: gpt-4o }, per: [user], tokens: 40_000, every: 2s }
  - { name: spent, cost: 1_000_000, every: month }
  - { name: most, tokens: 1_500, burst: 1_500, every: 1s, when: { user: greedy } }
prices:
  models:
    gpt-4o: { input: 2.50, cached_input: 0.333333, output: 10.01, reasoning: 12.123457, above: [{ input_tokens: 40, input: 5.000001, cached_input: 1, output: 15, reasoning: 16 }] }
    gpt-4o-mini: { input: 0.15, cached_input: 0.075, output: 0.60 }
tiers:
  pro: { limits: [{ name: pro-day, per: [user], tokens: 400, every: month }], downgrade: [gpt-4o-mini] }
identify: { trust_headers: true }";

/// How many calls, and how many of them at once.
const CALLS: usize = 2_000;
const AT_ONCE: usize = 32;

fn calls() -> usize {
    let asked = std::env::var("TALLYGATE_MIXED_CALLS").ok();
    asked.map_or(CALLS, |calls| calls.parse().expect("a number of calls"))
}

/// What is done in a call.
enum Deed {
    /// It is read to its end, whatever that is.
    Read(ApiCall),
    /// Its caller leaves once so many events with text are there; the provider has fallen silent by then.
    Leave(ApiCall, usize),
}

/// Numbers by chance (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn deed(number: usize) -> Deed {
    let mut dice = Dice(number as u64);
    let prompt = format!("{number} {}", "word ".repeat(dice.below(60) as usize));
    let model = ["gpt-4o", "gpt-4o-mini"][dice.below(2) as usize];
    let output = 1 + dice.below(40);
    let user = ["alice", "bob", "greedy"][dice.below(3) as usize];
    let pro = format!("pro-{}", number % 40);
    let finish = |call: ApiCall| match user {
        "bob" => call
            .header("x-tallygate-user", &pro)
            .header("x-tallygate-tier", "pro"),
        user => call.header("x-tallygate-user", user),
    };
    let finish = |call: ApiCall| finish(call).output(output);
    let chat = || finish(ApiCall::chat(model, &prompt).max_tokens(60));
    let after = dice.below(output).to_string();
    Deed::Read(match dice.below(20) {
        0 => chat().header("x-mock-status", "500"),
        1 => chat().header("x-mock-status", "429"),
        2 => chat().header("x-mock-status", "400"),
        3 => chat().streamed().header("x-mock-status", "503"),
        4 => chat().streamed().header("x-mock-cut-after", &after),
        5 => chat().streamed().header("x-mock-error-after", &after),
        6 | 7 => {
            let call = chat().streamed().header("x-mock-stall-after", &after);
            return Deed::Leave(call, after.parse().expect("a number"));
        }
        8 => chat()
            .header("x-mock-cached-tokens", "4")
            .header("x-mock-reasoning-tokens", "3"),
        9 => finish(ApiCall::new(Endpoint::Responses, model, &prompt).max_tokens(60)),
        10 => finish(ApiCall::new(Endpoint::Responses, model, &prompt).max_tokens(60)).streamed(),
        11 => finish(ApiCall::messages("claude-sonnet-4-5", &prompt).max_tokens(60)),
        12 => finish(ApiCall::messages("claude-sonnet-4-5", &prompt).max_tokens(60)).streamed(),
        13 => finish(ApiCall::new(
            Endpoint::GenerateContent,
            "gemini-2.5-flash",
            &prompt,
        )),
        14 => finish(ApiCall::new(
            Endpoint::StreamGenerateContent,
            "gemini-2.5-flash",
            &prompt,
        )),
        15 => ApiCall::new(Endpoint::Embeddings, "text-embedding-3-small", &prompt),
        16 | 17 => chat().streamed(),
        _ => chat(),
    })
}

async fn act(world: &World, deed: Deed) {
    match deed {
        Deed::Read(call) => drop(world.call(&call).await),
        Deed::Leave(call, after) => {
            let mut opened = within(world.client.open(&call)).await.expect("an answer");
            let mut seen = Vec::new();
            // The first event has no text.
            while opened.status == 200 && events(&seen).len() < after + 1 {
                seen.extend(
                    within(opened.chunk())
                        .await
                        .expect("a chunk")
                        .expect("more"),
                );
            }
        }
    }
}

/// What both sides know of the calls of one model.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    /// Calls that came to the provider.
    sent: u64,
    /// Calls that it served, or began to.
    served: u64,
    input: u64,
    output: u64,
    /// Micro-dollars.
    cost: u64,
}

type Sums = BTreeMap<String, Sum>;

/// The provider's own books, each call by the prices of `config`.
fn provided(mock: &Mock, config: &Config) -> Sums {
    let mut sums = Sums::new();
    for account in &mock.books().accounts {
        let sum = sums.entry(account.model.clone()).or_default();
        sum.sent += account.counts.received;
        sum.served += account.counts.admitted;
        sum.input += account.counts.input_tokens;
        sum.output += account.counts.output_tokens;
    }
    for call in mock.calls() {
        let cost = bill(&call, config);
        sums.entry(call.model).or_default().cost += cost;
    }
    sums
}

fn bill(call: &Served, config: &Config) -> u64 {
    let (label, upstream) = config.model_label(&call.model);
    let rates = config.prices().of(&Priced {
        name: &call.model,
        label,
        upstream: upstream.map(|upstream| upstream.name()),
    });
    let usage = Usage {
        input_tokens: call.input_tokens,
        cached_input_tokens: call.cached_tokens,
        output_tokens: call.output_tokens,
        reasoning_tokens: call.reasoning_tokens,
        ..Usage::default()
    };
    rates.expect("a price").of(&usage).micros()
}

fn recorded(report: &Value) -> Sums {
    let mut sums = Sums::new();
    for row in report["rows"].as_array().expect("rows") {
        let of = |name: &str| row[name].as_u64().expect("a sum");
        let text = |name: &str| row["key"][name].as_str().expect("a key");
        let calls = of("calls");
        let (sent, served) = match text("outcome") {
            "settled" => (calls, calls),
            "refused" | "failed" => (calls, 0),
            _ => (0, 0),
        };
        let sum = sums.entry(text("model").to_owned()).or_default();
        sum.sent += sent;
        sum.served += served;
        sum.input += of("input_tokens");
        sum.output += of("output_tokens");
        sum.cost += of("cost");
    }
    sums.retain(|_, sum| sum.sent > 0);
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_are_the_providers_own() {
    let options = MockOptions {
        keep_calls: calls(),
        ..MockOptions::default()
    };
    let world = Arc::new(World::with_mock(SETTINGS, options).await);
    let deeds = stream::iter(0..calls()).map(|number| {
        let world = Arc::clone(&world);
        async move { act(&world, deed(number)).await }
    });
    deeds.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    world.settled().await;
    let by_model = report(&world, "by=model,outcome").await;
    let config = config(&upstreams(&world.mock), SETTINGS);
    let provided = provided(&world.mock, &config);
    assert_eq!(recorded(&by_model), provided);
    let spent: u64 = provided.values().map(|sum| sum.cost).sum();
    assert_eq!(world.used(Metric::COST, &[]).await, spent, "the budget");
    assert!(provided.values().all(|sum| sum.cost > 0), "{provided:?}");
    for (model, sum) in &provided {
        eprintln!(
            "{model}: {} calls, {} served, {} + {} tokens, {} micro-dollars",
            sum.sent, sum.served, sum.input, sum.output, sum.cost
        );
    }
    let by_outcome = report(&world, "by=outcome,method").await;
    assert_eq!(by_outcome["totals"]["calls"].as_u64(), Some(calls() as u64));
    for row in by_outcome["rows"].as_array().expect("rows") {
        eprintln!(
            "{} {}: {} calls, {} tokens",
            row["key"]["outcome"], row["key"]["method"], row["calls"], row["tokens"]
        );
    }
    let downgraded = &by_outcome["totals"]["downgraded"];
    assert!(downgraded.as_u64() > Some(0), "{by_outcome}");
    eprintln!("{downgraded} downgraded");
    let outcomes = by_outcome["rows"].as_array().expect("rows").len();
    assert!(
        outcomes >= 5,
        "settled in two ways, denied, failed and refused: {by_outcome}"
    );
}
