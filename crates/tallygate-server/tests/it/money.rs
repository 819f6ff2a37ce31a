//! Money: what calls are held and charged at, and budgets that stop at the micro-dollar.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tallygate_core::{Metric, Time};
use tallygate_sim::ApiCall;
use tallygate_store::{Clock, MemoryOptions, MemoryStore};
use tallygate_tokens::Endpoint;

use crate::world::{World, within};

/// Prices that no number of tokens makes even, in micro-dollars for a million tokens.
const INPUT: u128 = 2_499_999;
const CACHED: u128 = 1_250_001;
const OUTPUT: u128 = 9_999_997;
const REASONING: u128 = 12_345_679;

const UNEVEN: &str = "\
models: { gpt-4o: { upstream: openai, output_estimate: max_tokens } }
prices: { models: { gpt-4o: { input: 2.499999, cached_input: 1.250001, output: 9.999997, reasoning: 12.345679 } } }
limits: [{ name: budget, per: [tenant], cost: 0.02, every: month, timezone: Europe/Berlin }]";

const BUDGET: u128 = 20_000;

/// A tokenizer-exact prompt: 9 tokens with its frame.
const PROMPT: (&str, u128) = ("Hello world", 9);

async fn spent(world: &World) -> u128 {
    world.settled().await;
    world.used(Metric::COST, &[]).await.into()
}

/// A small generator of numbers: the same ones in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Each call is let through exactly when the most that it can cost is left, and is charged what it did cost, whatever is
/// cached, reasoned, streamed or refused.
#[tokio::test]
async fn a_budget_stops_at_the_micro_dollar() {
    let world = World::new(UNEVEN).await;
    let mut dice = Dice(7);
    let (mut charged, mut denied) = (0, 0);
    while denied < 25 {
        let (max, output) = (1 + dice.below(120), 1 + dice.below(120));
        let (cached, reasoning) = (dice.below(9), dice.below(output));
        let call = ApiCall::chat("gpt-4o", PROMPT.0)
            .max_tokens(max)
            .output(output)
            .header("x-mock-cached-tokens", &cached.to_string())
            .header("x-mock-reasoning-tokens", &reasoning.min(max).to_string());
        let call = if dice.below(2) == 0 {
            call
        } else {
            call.streamed()
        };
        let refused = dice.below(8) == 0;
        let call = if refused {
            call.header("x-mock-status", "400")
        } else {
            call
        };
        let bound = (PROMPT.1 * INPUT + u128::from(max) * REASONING).div_ceil(1_000_000);
        let fits = charged + bound <= BUDGET;
        let status = world.call(&call).await.status;
        let expected = if !fits {
            429
        } else if refused {
            400
        } else {
            200
        };
        assert_eq!(
            status, expected,
            "{charged} of {BUDGET} spent, {bound} more asked for"
        );
        denied += u32::from(!fits);
        if status == 200 {
            let output = u128::from(output.min(max));
            let (cached, reasoning) = (
                u128::from(cached),
                u128::from(reasoning.min(max)).min(output),
            );
            let exact = (PROMPT.1 - cached) * INPUT
                + cached * CACHED
                + (output - reasoning) * OUTPUT
                + reasoning * REASONING;
            charged += exact.div_ceil(1_000_000);
        }
        assert_eq!(spent(&world).await, charged);
    }
    assert!(charged <= BUDGET && charged > BUDGET * 9 / 10, "{charged}");
}

/// Even prices: the sum of all charges is the provider's own books at that price, whoever calls at once.
#[tokio::test]
async fn what_is_spent_is_the_providers_books_at_the_price() {
    let world = World::new(
        "\
models: { gpt-4o: { upstream: openai, output_estimate: max_tokens } }
prices: { models: { gpt-4o: { input: 2, output: 8 } } }
limits: [{ name: budget, cost: 0.05, every: day }]",
    )
    .await;
    let calls: Vec<ApiCall> = (0..160)
        .map(|place| {
            let call = ApiCall::chat("gpt-4o", PROMPT.0)
                .max_tokens(100)
                .output(20 + place % 60);
            match place % 5 {
                0 => call.header("x-mock-status", "500"),
                1 | 2 => call.streamed(),
                _ => call,
            }
        })
        .collect();
    let mut spent_before = 0;
    for _ in 0..10 {
        let replies = join_all(calls.iter().map(|call| world.call(call))).await;
        assert!(
            replies.iter().any(|reply| reply.status == 429),
            "the budget ends"
        );
        let spent = spent(&world).await;
        assert!((spent_before..=50_000).contains(&spent), "{spent}");
        spent_before = spent;
    }
    let books = world.mock.books().totals();
    let told = u128::from(books.input_tokens) * 2 + u128::from(books.output_tokens) * 8;
    assert_eq!(spent_before, told);
    assert!(told > 45_000, "{told}");
}

#[tokio::test]
async fn what_cannot_be_known_stays_held_and_what_is_not_served_costs_nothing() {
    let call = || ApiCall::chat("gpt-4o", PROMPT.0).max_tokens(100).output(50);
    for (header, value, charged) in [
        ("x-mock-status", "503", 0),
        ("x-mock-status", "400", 0),
        ("x-mock-close", "before-headers", 0),
        // 9 × 2.499999 + 50 × 9.999997, counted here.
        ("x-mock-usage", "missing", 523),
    ] {
        let world = World::new(UNEVEN).await;
        world.call(&call().header(header, value)).await;
        assert_eq!(spent(&world).await, charged, "{header}: {value}");
    }
    let world = World::new(UNEVEN).await;
    let broken = within(
        world
            .client
            .call(&call().header("x-mock-close", "mid-body")),
    )
    .await;
    drop(broken);
    let held = (9 * INPUT + 100 * REASONING).div_ceil(1_000_000);
    let spent = spent(&world).await;
    assert!(spent == 0 || spent == held, "{spent}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_charged_what_passed_at_the_price_of_its_cache() {
    let world = World::new(
        "\
models: { claude-sonnet-4-5: { upstream: anthropic, output_estimate: max_tokens } }
prices: { models: { claude-sonnet-4-5: { input: 3, cached_input: 0.3, cache_write: 3.75, output: 15 } } }
limits: [{ name: budget, cost: 1.00, output_tokens: 1_000_000, every: month }]",
    )
    .await;
    let call = ApiCall::messages("claude-sonnet-4-5", PROMPT.0)
        .max_tokens(200)
        .output(40)
        .streamed();
    let whole = world.call(&call).await.answer().usage.expect("told");
    let first = spent(&world).await;
    assert_eq!(first, u128::from(whole.input * 3 + 40 * 15));
    let cut = call
        .header("x-mock-cached-tokens", "5")
        .header("x-mock-cut-after", "10");
    let _ = within(world.client.call(&cut)).await;
    // Claude's tokens are counted here, not as the mock counts.
    let second = spent(&world).await - first;
    let passed = world.used(Metric::OUTPUT_TOKENS, &[]).await - 40;
    assert!((1..40).contains(&passed), "{passed}");
    let exact = u128::from(whole.input - 5) * 3_000_000 + 5 * 300_000;
    let exact = exact + u128::from(passed) * 15_000_000;
    assert_eq!(second, exact.div_ceil(1_000_000));
}

/// A long text is let through on a bound of its size only where the bound's cost is plenty too.
#[tokio::test]
async fn a_long_prompt_is_counted_where_money_is_short() {
    let world = World::new(UNEVEN).await;
    let prompt = "A sentence of plain words that is repeated. ".repeat(200);
    let call = ApiCall::chat("gpt-4o", &prompt).max_tokens(10).output(10);
    // 8,800 bytes may be as many tokens, for which the budget has not the money; they are 1,800 or so.
    assert_eq!(world.call(&call).await.status, 200);
    assert!((4_000..6_000).contains(&spent(&world).await));
}

#[tokio::test]
async fn a_stream_that_outgrows_its_hold_asks_for_the_money_too() {
    let world = World::new(
        "\
models: { gpt-4o: { upstream: openai, output_estimate: 0.001 } }
prices: { models: { gpt-4o: { input: 1, output: 10 } } }
limits: [{ name: budget, cost: 0.01, every: month }]
bounds: { overrun: cut }",
    )
    .await;
    let call = ApiCall::chat("gpt-4o", PROMPT.0).output(3_000).streamed();
    let cut = within(world.client.call(&call)).await.expect("an answer");
    assert!(!cut.answer().complete, "there is money for a third of it");
    let spent = spent(&world).await;
    // What passed before the cut was seen is charged too; the events here have one token each.
    assert!((9_000..=10_020).contains(&spent), "{spent}");
}

const BUDGETS: &str = "\
models:
  gpt-4o: { upstream: openai, match: [\"gpt-4o\", \"gpt-4o-2*\"] }
prices: { models: { gpt-4o: { input: 2.50, cached_input: 1.25, output: 10 } } }
limits: [{ name: budget, when: { user: \"*\" }, per: [user], cost: 0.10, every: month }]";

async fn ask(world: &World, operation: &str, body: Value) -> (u16, Value) {
    let reply = world
        .post(&format!("/tallygate/v1/{operation}"), body.to_string())
        .await;
    (reply.status, reply.json())
}

fn reserve(model: &str, demand: Value) -> Value {
    json!({ "subject": { "user": "ann" }, "model": model, "demand": demand })
}

#[tokio::test]
async fn the_decision_api_prices_what_its_callers_do_not() {
    let world = World::new(BUDGETS).await;
    let tokens = json!({ "input_tokens": 1_000, "output_tokens": 1_000 });
    let (status, held) = ask(&world, "reserve", reserve("gpt-4o-2024-08-06", tokens)).await;
    assert_eq!(
        (status, &held["reserved"]["cost"]),
        (200, &json!(12_500)),
        "{held}"
    );
    let name = held["reservation"].as_str().expect("a name");
    assert!(name.ends_with(".gpt-4o-2024-08-06"), "{name}");
    let more = json!({ "reservation": name, "demand": { "output_tokens": 100 } });
    let (_, extended) = ask(&world, "extend", more).await;
    assert_eq!(extended["reserved"]["cost"], 13_500, "{extended}");
    let usage = json!({ "input_tokens": 1_000, "cached_input_tokens": 400, "output_tokens": 333 });
    let (_, settled) = ask(
        &world,
        "settle",
        json!({ "reservation": name, "usage": usage }),
    )
    .await;
    assert_eq!(
        settled["charged"]["cost"],
        600 * 5 / 2 + 400 * 5 / 4 + 3_330,
        "{settled}"
    );
    assert_eq!(settled["returned"]["cost"], 13_500 - 5_330);
    assert_eq!(world.used(Metric::COST, &[("user", "ann")]).await, 5_330);
}

/// What is added may make the whole a call of a dearer length: all of it is held at that price then, as it will be charged.
#[tokio::test]
async fn an_extension_is_priced_as_part_of_the_whole() {
    let world = World::new(
        "\
models: { gpt-4o: { upstream: openai } }
prices: { models: { gpt-4o: { input: 2.50, output: 10, above: [{ input_tokens: 1_000, input: 5, output: 20 }] } } }
limits: [{ name: budget, when: { user: \"*\" }, per: [user], cost: 0.10, every: month }]",
    )
    .await;
    let (_, held) = ask(
        &world,
        "reserve",
        reserve(
            "gpt-4o",
            json!({ "input_tokens": 900, "output_tokens": 100 }),
        ),
    )
    .await;
    assert_eq!(held["reserved"]["cost"], 900 * 5 / 2 + 1_000, "{held}");
    let name = held["reservation"].as_str().expect("a name");
    let more = |demand: Value| json!({ "reservation": name, "demand": demand });
    let (_, whole) = ask(&world, "extend", more(json!({ "input_tokens": 200 }))).await;
    assert_eq!(whole["reserved"]["cost"], 1_100 * 5 + 100 * 20, "{whole}");
    let (_, longer) = ask(&world, "extend", more(json!({ "output_tokens": 10 }))).await;
    assert_eq!(longer["reserved"]["cost"], 1_100 * 5 + 110 * 20, "{longer}");
    let (_, stated) = ask(
        &world,
        "extend",
        more(json!({ "output_tokens": 1, "cost": 1 })),
    )
    .await;
    assert_eq!(stated["reserved"]["cost"], 7_701, "{stated}");
    let (status, denied) = ask(&world, "extend", more(json!({ "tokens": 4_900 }))).await;
    assert_eq!(
        (status, &denied["decision"]),
        (429, &json!("deny")),
        "{denied}"
    );
    let usage = json!({ "input_tokens": 1_100, "output_tokens": 110 });
    let settle = json!({ "reservation": name, "usage": usage });
    let (_, settled) = ask(&world, "settle", settle).await;
    assert_eq!(settled["charged"]["cost"], 7_700, "{settled}");
    let unknown = json!({ "reservation": name, "demand": { "tokens": 1 } });
    assert_eq!(ask(&world, "extend", unknown).await.0, 409);
}

/// Of a sum of tokens nobody knows the sides: all are held as the dearer ones.
#[tokio::test]
async fn an_extension_of_a_sum_is_held_at_the_dearest_side() {
    let world = World::new(BUDGETS).await;
    let (_, held) = ask(
        &world,
        "reserve",
        reserve("gpt-4o", json!({ "tokens": 900 })),
    )
    .await;
    assert_eq!(held["reserved"]["cost"], 9_000, "{held}");
    let more = json!({ "reservation": held["reservation"], "demand": { "tokens": 200 } });
    let (_, whole) = ask(&world, "extend", more).await;
    assert_eq!(whole["reserved"]["cost"], 11_000, "{whole}");
    let settle = json!({ "reservation": held["reservation"], "usage": { "tokens": 500 } });
    let (_, settled) = ask(&world, "settle", settle).await;
    assert_eq!(settled["charged"]["cost"], 5_000, "as docs/prices.md says");
}

#[tokio::test]
async fn what_a_caller_states_goes_before_the_price() {
    let world = World::new(BUDGETS).await;
    let priced = |usage: Value, model: Option<&str>, id: &Value| json!({ "reservation": id, "usage": usage, "model": model });
    let tokens = || json!({ "input_tokens": 1_000, "output_tokens": 0 });
    let (_, held) = ask(&world, "reserve", reserve("gpt-4o", tokens())).await;
    let own = priced(
        json!({ "input_tokens": 1_000, "cost": 7 }),
        None,
        &held["reservation"],
    );
    assert_eq!(ask(&world, "settle", own).await.1["charged"]["cost"], 7);
    let (_, held) = ask(&world, "reserve", reserve("gpt-4o", tokens())).await;
    let other = priced(tokens(), Some("gpt-4o-mini"), &held["reservation"]);
    assert_eq!(ask(&world, "settle", other).await.1["charged"]["cost"], 150);
    let stated = json!({ "input_tokens": 1_000, "cost": 99 });
    let (_, held) = ask(&world, "reserve", reserve("gpt-4o", stated)).await;
    assert_eq!(held["reserved"]["cost"], 99);
    let id = held["reservation"].as_str().expect("a name");
    assert_eq!(
        id.len(),
        26,
        "whoever states its cost at first states it at the end"
    );
    let settle = priced(json!({ "input_tokens": 500 }), None, &held["reservation"]);
    assert_eq!(ask(&world, "settle", settle).await.1["charged"]["cost"], 99);
    let (_, held) = ask(
        &world,
        "reserve",
        reserve("gpt-4o", json!({ "tokens": 100 })),
    )
    .await;
    assert_eq!(held["reserved"]["cost"], 1_000, "of whatever side they are");
    let response = json!({ "model": "gpt-4o-2024-11-20", "usage": { "prompt_tokens": 60, "completion_tokens": 40,
        "prompt_tokens_details": { "cached_tokens": 20 } } });
    let settle = json!({ "reservation": held["reservation"], "response": response });
    assert_eq!(
        ask(&world, "settle", settle).await.1["charged"]["cost"],
        100 + 25 + 400
    );
    let (_, held) = ask(&world, "reserve", reserve("gpt-4o", tokens())).await;
    let none = json!({ "reservation": held["reservation"], "usage": { "requests": 1 } });
    assert_eq!(
        ask(&world, "settle", none).await.1["charged"]["cost"],
        2_500,
        "what nobody tells stays held"
    );
}

#[tokio::test]
async fn an_estimate_tells_the_cost() {
    let world = World::new(BUDGETS).await;
    let of = |model: &str| json!({ "model": model, "text": "Hello world" });
    let (_, told) = ask(&world, "estimate", of("gpt-4o")).await;
    let bound = |told: &Value, side: &str| told[side].as_u64().expect("a number");
    let micros = bound(&told, "input_tokens") * 5 / 2 + bound(&told, "output_tokens") * 10;
    assert_eq!(
        (told["cost"].as_u64(), told["cost_method"].as_str()),
        (Some(micros), Some("bound")),
        "{told}"
    );
    let (_, told) = ask(&world, "estimate", of("house-llm")).await;
    assert_eq!(
        (&told["cost"], &told["cost_method"]),
        (&Value::Null, &json!("unpriced"))
    );
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_where_money_is_counted_and_only_there() {
    let world = World::new(BUDGETS).await;
    let (status, told) = ask(
        &world,
        "reserve",
        reserve("house-llm", json!({ "input_tokens": 1 })),
    )
    .await;
    assert_eq!(
        (status, &told["error"]["type"]),
        (400, &json!("unpriced")),
        "{told}"
    );
    assert!(
        told["error"]["message"]
            .as_str()
            .expect("text")
            .contains("`house-llm`")
    );
    let nameless = json!({ "subject": { "user": "ann" }, "demand": { "input_tokens": 1 } });
    assert_eq!(ask(&world, "reserve", nameless.clone()).await.0, 400);
    let mut stated = nameless;
    stated["demand"]["cost"] = 3.into();
    assert_eq!(ask(&world, "reserve", stated).await.0, 200);
    let uncounted = json!({ "model": "house-llm", "demand": { "input_tokens": 1 } });
    let (status, admitted) = ask(&world, "reserve", uncounted).await;
    assert_eq!(
        (status, &admitted["reserved"]["cost"]),
        (200, &Value::Null),
        "no budget counts this one"
    );
    assert_eq!(world.used(Metric::COST, &[("user", "ann")]).await, 3);
}

#[tokio::test]
async fn the_gateway_refuses_what_it_cannot_price_in_each_dialect() {
    let budget = "limits: [{ name: budget, cost: 1.00, every: month }]";
    let world = World::new(budget).await;
    for (endpoint, code) in [
        (Endpoint::ChatCompletions, "code"),
        (Endpoint::Responses, "code"),
        (Endpoint::Messages, "type"),
        (Endpoint::GenerateContent, "status"),
    ] {
        let reply = world.call(&ApiCall::new(endpoint, "house-llm", "Hi")).await;
        let error = &reply.json()["error"];
        assert_eq!(reply.status, 400, "{error}");
        let message = error["message"].as_str().expect("text");
        assert!(
            message.contains("house-llm") && message.contains("`prices: models`"),
            "{message}"
        );
        assert!(error[code].is_string(), "{error}");
    }
    assert!(world.mock.received().is_empty(), "none went on");
    let known = world
        .call(&ApiCall::chat("gpt-4o-mini", "Hi").max_tokens(10))
        .await;
    assert_eq!(known.status, 200);
    for settings in [
        "limits: [{ name: seen, cost: 1.00, every: month, mode: shadow }]",
        "limits: [{ name: budget, cost: 1.00, every: month }]\nprices: { unknown: { input: 5, output: 15 } }",
    ] {
        let world = World::new(settings).await;
        let reply = world
            .call(&ApiCall::chat("house-llm", "Hi").max_tokens(10))
            .await;
        assert_eq!(reply.status, 200, "{settings}");
    }
}

/// A month of Berlin has an hour less in March and one more in October, and ends at another hour of UTC than it began.
#[tokio::test]
async fn a_months_budget_ends_when_berlins_month_does() {
    for (within_it, ends) in [
        ("2026-03-28T12:00:00Z", "2026-03-31T22:00:00.000Z"),
        ("2026-10-24T12:00:00Z", "2026-10-31T23:00:00.000Z"),
        ("2026-12-31T22:59:59Z", "2026-12-31T23:00:00.000Z"),
    ] {
        let instant = |text: &str| {
            text.parse::<jiff::Timestamp>()
                .expect("an instant")
                .as_nanosecond()
        };
        let start = u64::try_from(instant(within_it)).expect("after 1970");
        let clock = Clock::manual(Time::from_nanos(start));
        let settings = "\
tiers: { enterprise: { limits: [{ name: spend, per: [tenant], cost: 0.01, every: month, timezone: Europe/Berlin }] } }";
        let options = MemoryOptions {
            clock: clock.clone(),
            ..MemoryOptions::default()
        };
        let world = World::with_store(settings, |config| {
            MemoryStore::new(config.policy(), options)
        })
        .await;
        let subject = json!({ "tenant": "acme", "tier": "enterprise" });
        let call = json!({ "subject": subject, "model": "gpt-4o", "demand": { "input_tokens": 0, "output_tokens": 1_000 } });
        let (status, held) = ask(&world, "reserve", call.clone()).await;
        assert_eq!(
            (status, &held["limits"][0]["remaining"]),
            (200, &json!(0)),
            "{held}"
        );
        let settle = json!({ "reservation": held["reservation"], "usage": { "input_tokens": 0, "output_tokens": 1_000 } });
        assert_eq!(ask(&world, "settle", settle).await.0, 200);
        let (status, denied) = ask(&world, "reserve", call.clone()).await;
        assert_eq!(
            (status, &denied["retry_at"]),
            (429, &json!(ends)),
            "{denied}"
        );
        let left = u64::try_from(instant(ends)).expect("after 1970") - start;
        clock.pass(Duration::from_nanos(left - 1));
        assert_eq!(
            ask(&world, "reserve", call.clone()).await.0,
            429,
            "a nanosecond before"
        );
        clock.pass(Duration::from_nanos(1));
        assert_eq!(ask(&world, "reserve", call).await.0, 200, "at the instant");
    }
}
