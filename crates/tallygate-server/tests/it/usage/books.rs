//! The ledger's totals are the provider's own, to the token, over calls that end in every way that can be known exactly.
//!
//! `cargo xtask bench books` is the long version.
//!
//! An answer that is no stream and breaks off is not among them: nobody can know what it used, and what was held is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::Value;
use tallygate_sim::client::events;
use tallygate_sim::{ApiCall, Books};
use tallygate_tokens::Endpoint;

use super::report;
use crate::world::{World, within};

const SETTINGS: &str = "\
models:
  gpt-4o: { upstream: openai, output_estimate: max_tokens }
  gpt-4o-mini: { upstream: openai, output_estimate: 1.2 }
limits:
  - { name: busy, when: { model: gpt-4o }, per: [user], tokens: 40_000, every: 2s }
  - { name: most, tokens: 1_500, burst: 1_500, every: 1s, when: { user: greedy } }
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
        8 => chat().header("x-mock-cached-tokens", "4"),
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

/// Input and output tokens by model.
type Sums = BTreeMap<String, (u64, u64)>;

fn provided(books: &Books) -> Sums {
    let mut sums = Sums::new();
    for account in &books.accounts {
        let sum = sums.entry(account.model.clone()).or_default();
        sum.0 += account.counts.input_tokens;
        sum.1 += account.counts.output_tokens;
    }
    sums
}

fn recorded(report: &Value) -> Sums {
    let rows = report["rows"].as_array().expect("rows").iter();
    let sum = |row: &Value| {
        let tokens = |name: &str| row[name].as_u64().expect("a sum");
        let model = row["key"]["model"].as_str().expect("a model").to_owned();
        (model, (tokens("input_tokens"), tokens("output_tokens")))
    };
    rows.map(sum).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_are_the_providers_own_to_the_token() {
    let world = Arc::new(World::new(SETTINGS).await);
    let deeds = stream::iter(0..calls()).map(|number| {
        let world = Arc::clone(&world);
        async move { act(&world, deed(number)).await }
    });
    deeds.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    world.settled().await;
    let by_model = report(&world, "by=model").await;
    assert_eq!(recorded(&by_model), provided(&world.mock.books()));
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
