//! The same through the decision API, whose callers are told which model to call.

use std::collections::HashSet;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tallygate_core::{Amounts, Metric, Time};
use tallygate_store::{Clock, MemoryOptions, MemoryStore};

use crate::world::{World, within};

pub(super) const TIERS: &str = "\
waiting: { max_wait: 20s }
models:
  gpt-4: { upstream: openai, output_estimate: max_tokens }
  mini: { upstream: openai, match: [gpt-4o-mini, \"gpt-4o-mini-2*\"], output_estimate: 2 }
  haiku: { upstream: anthropic, match: [claude-haiku-4-5] }
  small: { upstream: openai, match: [text-embedding-3-small] }
tiers:
  pro:
    downgrade: [mini, haiku, small]
    limits:
      - { name: month, per: [user], requests: 1, every: month }
      - { name: below, per: [user, model], requests: 2, every: month, downgraded: only }
";

pub(super) async fn ask(world: &World, operation: &str, body: &Value) -> (u16, Value) {
    let reply = world
        .post(&format!("/tallygate/v1/{operation}"), body.to_string())
        .await;
    (reply.status, reply.json())
}

pub(super) fn reserve(model: &str) -> Value {
    json!({ "subject": { "tier": "pro", "user": "ann" }, "model": model, "demand": { "tokens": 5 } })
}

pub(super) fn keyed(key: &str) -> Value {
    let mut body = reserve("gpt-4");
    body["idempotency_key"] = key.into();
    body
}

pub(super) async fn admitted(world: &World, body: &Value) -> Value {
    let (status, told) = ask(world, "reserve", body).await;
    assert_eq!(status, 200, "{told}");
    told
}

pub(super) async fn cancel(world: &World, told: &Value) {
    let body = json!({ "reservation": told["reservation"] });
    assert_eq!(ask(world, "cancel", &body).await.0, 200);
}

pub(super) fn chosen(told: &Value) -> (&str, &str, Option<&str>) {
    let text = |name: &str| told[name].as_str();
    let (decision, model) = (text("decision"), text("model"));
    (
        decision.unwrap_or_default(),
        model.unwrap_or_default(),
        text("asked"),
    )
}

#[tokio::test]
async fn a_downgrade_says_what_to_call() {
    let world = World::new(TIERS).await;
    let first = admitted(&world, &reserve("gpt-4")).await;
    assert_eq!(chosen(&first), ("admit", "gpt-4", None));
    let second = admitted(&world, &reserve("gpt-4")).await;
    assert_eq!(chosen(&second), ("downgrade", "gpt-4o-mini", Some("gpt-4")));
    assert_eq!(second["limits"][0]["name"], "below");
    let (status, settled) = ask(
        &world,
        "settle",
        &json!({ "reservation": second["reservation"], "usage": { "input_tokens": 2, "output_tokens": 1 } }),
    )
    .await;
    assert_eq!((status, &settled["charged"]["tokens"]), (200, &json!(3)));
    let metrics = world.metrics();
    for line in [
        "tallygate_downgrades_total{from=\"gpt-4\",to=\"mini\",reason=\"quota\"} 1",
        "tallygate_decisions_total{door=\"decision\",decision=\"downgrade\",reason=\"quota\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

/// The dialect is the one said, else that of the model's upstream; models for embeddings stand for one another alone.
#[tokio::test]
async fn rungs_are_those_of_the_models_dialect_and_sort() {
    let world = World::new(TIERS).await;
    admitted(&world, &reserve("gpt-4")).await;
    for (model, dialect, called) in [
        ("gpt-4", None, "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", None, "gpt-4o-mini-2024-07-18"),
        (
            "text-embedding-3-large",
            Some("openai"),
            "text-embedding-3-small",
        ),
        ("claude-opus-4-1", Some("anthropic"), "claude-haiku-4-5"),
    ] {
        let mut body = reserve(model);
        body["dialect"] = dialect.map_or(Value::Null, Value::from);
        let told = admitted(&world, &body).await;
        assert_eq!(chosen(&told), ("downgrade", called, Some(model)));
    }
    let mut gemini = reserve("gemini-2.5-pro");
    gemini["dialect"] = "gemini".into();
    assert_eq!(ask(&world, "reserve", &gemini).await.0, 429);
}

#[tokio::test]
async fn a_request_is_sized_anew_for_the_rung() {
    let world = World::new(TIERS).await;
    let request = |model: &str| {
        json!({ "model": model, "max_tokens": 300,
                "messages": [{ "role": "user", "content": "Donaudampfschifffahrtsgesellschaft? நன்றி!" }] })
    };
    let subject = json!({ "tier": "pro", "user": "ann" });
    let body = json!({ "subject": subject, "request": request("gpt-4") });
    let mut sizes = Vec::new();
    for (called, decision) in [("gpt-4", "admit"), ("gpt-4o-mini", "downgrade")] {
        let told = admitted(&world, &body).await;
        assert_eq!(
            (told["decision"].as_str(), told["model"].as_str()),
            (Some(decision), Some(called))
        );
        let (_, estimate) = ask(&world, "estimate", &json!({ "request": request(called) })).await;
        for kind in ["input_tokens", "output_tokens"] {
            assert_eq!(told["reserved"][kind], estimate[kind], "{called}: {kind}");
        }
        sizes.push(told["reserved"]["input_tokens"].as_u64());
    }
    assert!(sizes[0] > sizes[1], "another tokenizer: {sizes:?}");
}

#[tokio::test]
async fn the_header_refuses_a_downgrade_here_too() {
    let world = World::new(TIERS).await;
    admitted(&world, &reserve("gpt-4")).await;
    let client = world
        .client
        .clone()
        .with_header("x-tallygate-downgrade", "never");
    let body = reserve("gpt-4").to_string();
    let request = client.request(Method::POST, "/tallygate/v1/reserve", body.into());
    let opened = within(client.send(request.expect("a request")))
        .await
        .expect("an answer");
    assert_eq!(opened.status, 429);
}

/// A repeat gets the same decision with the same model, though the quota has room by then.
#[tokio::test]
async fn a_repeat_is_served_by_the_same_model() {
    let world = World::new(TIERS).await;
    let first = admitted(&world, &reserve("gpt-4")).await;
    let below = admitted(&world, &keyed("a")).await;
    assert_eq!(chosen(&below), ("downgrade", "gpt-4o-mini", Some("gpt-4")));
    cancel(&world, &first).await;
    let again = admitted(&world, &keyed("a")).await;
    assert_eq!(chosen(&again), chosen(&below));
    assert_eq!(again["reservation"], below["reservation"]);
    assert_eq!(again["replayed"], true);
    let other = admitted(&world, &keyed("b")).await;
    assert_eq!(chosen(&other), ("admit", "gpt-4", None));
    let mut never = keyed("a");
    never["model"] = "gpt-4".into();
    let client = world
        .client
        .clone()
        .with_header("x-tallygate-downgrade", "never");
    let request = client.request(
        Method::POST,
        "/tallygate/v1/reserve",
        never.to_string().into(),
    );
    let opened = within(client.send(request.expect("a request")))
        .await
        .expect("an answer");
    assert_eq!(
        opened.status, 409,
        "the decision stands, and this caller does not want it"
    );
    let user = [
        ("tier", "pro"),
        ("user", "ann"),
        ("model", "mini"),
        ("downgraded", "yes"),
    ];
    assert_eq!(world.used(Metric::REQUESTS, &user).await, 1);
}

/// Puts `settings` in force.
fn reload(world: &World, settings: &str) {
    let config = crate::world::config(&crate::world::upstreams(&world.mock), settings);
    world.server.reload(config).expect("reloaded");
}

fn open(world: &World) -> usize {
    world.server.store().stats().reservations
}

/// A ladder that does not lead to a reservation any more does not lead to a second one.
#[tokio::test]
async fn a_key_makes_no_second_reservation_under_another_ladder() {
    for ladder in ["[haiku, small]", "[cheap]", "[cheap, haiku]"] {
        let world = World::new(TIERS).await;
        let first = admitted(&world, &reserve("gpt-4")).await;
        let below = admitted(&world, &keyed("a")).await;
        assert_eq!(chosen(&below), ("downgrade", "gpt-4o-mini", Some("gpt-4")));
        cancel(&world, &first).await;
        let cheap = "models:\n  cheap: { upstream: openai, match: [gpt-4.1-nano] }";
        let other = TIERS.replacen("models:", cheap, 1);
        reload(&world, &other.replace("[mini, haiku, small]", ladder));
        let subject = [("tier", "pro"), ("user", "ann"), ("downgraded", "yes")];
        for _ in 0..2 {
            let (status, told) = ask(&world, "reserve", &keyed("a")).await;
            assert_eq!(
                (status, &told["error"]["type"]),
                (409, &json!("other_ladder")),
                "{told}"
            );
        }
        for model in ["gpt-4", "cheap", "haiku"] {
            let mut subject = subject.to_vec();
            subject.push(("model", model));
            assert_eq!(world.used(Metric::REQUESTS, &subject).await, 0, "{model}");
        }
        reload(
            &world,
            &other.replace("[mini, haiku, small]", "[cheap, mini]"),
        );
        let again = admitted(&world, &keyed("a")).await;
        assert_eq!(again["reservation"], below["reservation"]);
        assert_eq!(chosen(&again), chosen(&below));
    }
}

/// Whether there is a ladder does not matter to who was served as asked.
#[tokio::test]
async fn a_key_that_was_served_as_asked_is_so_after_any_change() {
    let without = TIERS.replace("    downgrade: [mini, haiku, small]\n", "");
    let without = without.replace(", downgraded: only", "");
    let lacking = TIERS.replace(
        "    downgrade:",
        "    models: [mini, haiku, small]\n    downgrade:",
    );
    for (before, after) in [
        (without.as_str(), TIERS),
        (TIERS, without.as_str()),
        (TIERS, lacking.as_str()),
        (without.as_str(), lacking.as_str()),
    ] {
        let world = World::new(before).await;
        let first = admitted(&world, &keyed("a")).await;
        assert_eq!(chosen(&first), ("admit", "gpt-4", None));
        reload(&world, after);
        let again = admitted(&world, &keyed("a")).await;
        assert_eq!(again["reservation"], first["reservation"]);
        assert_eq!(chosen(&again), chosen(&first));
        cancel(&world, &first).await;
    }
}

/// The wait is that for all rungs together.
#[tokio::test]
async fn the_wait_is_the_sum_over_the_rungs() {
    let limits = "      - { name: slot, per: [user], concurrency: 1 }\n";
    let world = World::new(&format!("{TIERS}{limits}")).await;
    let user = [("tier", "pro"), ("user", "ann"), ("downgraded", "no")];
    let slot = world.hold(&[("tier", "pro"), ("user", "ann")]).await;
    let mut body = reserve("gpt-4");
    body["max_wait_ms"] = 20_000.into();
    body["demand"]["concurrency"] = 1.into();
    let pause = std::time::Duration::from_millis(40);
    let (told, ()) = tokio::join!(admitted(&world, &body), async {
        world.until(|store| store.stats().waiters == 1).await;
        tokio::time::sleep(pause).await; // tidy: sleeps because the time in the first line is measured
        let month = Amounts::ZERO.with(Metric::REQUESTS, 1);
        world.hold_of(&user, month).await;
        world.until(|store| store.stats().waiters == 1).await;
        world.server.store().cancel(slot).await.expect("held");
    });
    assert_eq!(chosen(&told), ("downgrade", "gpt-4o-mini", Some("gpt-4")));
    let waited = told["waited_ms"].as_u64().expect("a wait");
    assert!((40..20_000).contains(&waited), "{waited} ms");
}

/// Which models would serve, and at what price, is told at both listeners; without the ladder to who wants none.
#[tokio::test]
async fn the_ladder_is_told_with_its_prices() {
    let prices = "prices: { models: { gpt-4: { input: 30, output: 60 }, mini: { input: 0.15, output: 0.60 } } }\n";
    let world = World::new(&format!("{prices}{TIERS}")).await;
    let query = "tier=pro&user=ann&model=gpt-4";
    let limits = format!("/tallygate/v1/limits?{query}");
    let told = within(world.client.get(&limits)).await.expect("an answer");
    let explain = format!("/api/explain?{query}");
    let at_admin = within(world.admin.get(&explain)).await.expect("an answer");
    for told in [told.json(), at_admin.json()] {
        let models = told["models"].as_array().expect("models");
        let [first, below] = &models[..] else {
            panic!("{told}")
        };
        assert_eq!(
            (&first["model"], &first["step"]),
            (&json!("gpt-4"), &json!("asked"))
        );
        assert_eq!(first["price"]["output"], 60_000_000);
        assert_eq!(
            (&below["model"], &below["step"]),
            (&json!("gpt-4o-mini"), &json!("below"))
        );
        assert_eq!(below["price"]["input"], 150_000);
    }
    let never = world
        .client
        .clone()
        .with_header("x-tallygate-downgrade", "never");
    let told = within(never.get(&limits)).await.expect("an answer").json();
    assert_eq!(told["models"].as_array().map(Vec::len), Some(1), "{told}");
    let nobody = "/tallygate/v1/limits?tier=pro&user=ann";
    let told = within(world.client.get(nobody))
        .await
        .expect("an answer")
        .json();
    assert!(told.get("models").is_none(), "{told}");
}

/// A call that was refused on every rung leaves its key free.
#[tokio::test]
async fn a_key_that_was_refused_is_free() {
    let world = World::new(TIERS).await;
    let first = admitted(&world, &reserve("gpt-4")).await;
    for _ in 0..2 {
        admitted(&world, &reserve("gpt-4")).await;
    }
    let before = open(&world);
    let mut body = keyed("a");
    body["max_wait_ms"] = 0.into();
    assert_eq!(ask(&world, "reserve", &body).await.0, 429);
    assert_eq!(open(&world), before, "nothing is left of it");
    cancel(&world, &first).await;
    let told = admitted(&world, &body).await;
    assert_eq!(chosen(&told), ("admit", "gpt-4", None));
}

/// However many ask at once under one key while the quota comes and goes, all are told of one reservation.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn raced_repeats_agree_on_one_reservation() {
    let world = World::new(TIERS).await;
    for round in 0..20 {
        let mut held = admitted(&world, &reserve("gpt-4o-mini")).await;
        let key = format!("round {round}");
        let body = keyed(&key);
        let racing = futures_util::future::join_all((0..12).map(|_| ask(&world, "reserve", &body)));
        let flipping = async {
            for _ in 0..4 {
                cancel(&world, &held).await;
                let mut again = reserve("gpt-4o-mini");
                again["max_wait_ms"] = 20_000.into();
                let (status, told) = ask(&world, "reserve", &again).await;
                if status != 200 {
                    return;
                }
                held = told;
            }
            cancel(&world, &held).await;
        };
        let (answers, ()) = tokio::join!(racing, flipping);
        let told: Vec<&Value> = answers
            .iter()
            .filter(|(status, _)| *status == 200)
            .map(|(_, told)| told)
            .collect();
        let one: HashSet<_> = told
            .iter()
            .map(|told| (told["reservation"].to_string(), chosen(told)))
            .collect();
        assert_eq!(one.len(), 1, "{answers:?}");
        cancel(&world, told[0]).await;
    }
}

/// A world in which time stands until it is moved.
async fn in_still_time() -> (World, Clock) {
    let clock = Clock::manual(Time::from_secs(1_794_571_201));
    let options = MemoryOptions {
        clock: clock.clone(),
        ..MemoryOptions::default()
    };
    let world = World::with_store(TIERS, |config| MemoryStore::new(config.policy(), options));
    (world.await, clock)
}

fn minutes(length: u64) -> Duration {
    Duration::from_secs(length * 60)
}

/// What leads a repeat to its reservation stands as long as that, however often it is extended, and is no reservation itself.
#[tokio::test]
async fn a_repeat_finds_a_reservation_that_was_extended() {
    let (world, clock) = in_still_time().await;
    let first = admitted(&world, &reserve("gpt-4")).await;
    let below = admitted(&world, &keyed("a")).await;
    assert_eq!(chosen(&below), ("downgrade", "gpt-4o-mini", Some("gpt-4")));
    assert_eq!(world.server.store().stats().reservations, 2);
    let longer = json!({ "reservation": below["reservation"], "ttl_ms": 86_400_000 });
    assert_eq!(ask(&world, "extend", &longer).await.0, 200);
    cancel(&world, &first).await;
    for _ in 0..12 {
        clock.pass(minutes(5));
        // What is due happens, and old receipts are forgotten.
        let mut other = reserve("gpt-4");
        other["subject"]["user"] = "bob".into();
        let other = admitted(&world, &other).await;
        cancel(&world, &other).await;
    }
    let again = admitted(&world, &keyed("a")).await;
    assert_eq!(again["reservation"], below["reservation"]);
    assert_eq!(
        (chosen(&again), &again["replayed"]),
        (chosen(&below), &json!(true))
    );
}

/// A key is as good as new once its receipt is forgotten, whatever time its reservation was given.
#[tokio::test]
async fn a_key_is_free_when_its_receipt_is_forgotten() {
    for operation in ["settle", "cancel"] {
        let (world, clock) = in_still_time().await;
        let first = admitted(&world, &reserve("gpt-4")).await;
        let mut body = keyed("a");
        body["ttl_ms"] = 86_400_000.into();
        let below = admitted(&world, &body).await;
        cancel(&world, &first).await;
        let mut end = json!({ "reservation": below["reservation"] });
        if operation == "settle" {
            end["usage"] = json!({ "tokens": 2 });
        }
        assert_eq!(ask(&world, operation, &end).await.0, 200);
        clock.pass(minutes(9));
        let again = admitted(&world, &body).await;
        assert_eq!(again["reservation"], below["reservation"]);
        assert_eq!(again["replayed"], true);
        clock.pass(minutes(2));
        // Receipts are forgotten when the next one is kept.
        let other = admitted(&world, &reserve("gpt-4")).await;
        cancel(&world, &other).await;
        let fresh = admitted(&world, &body).await;
        assert_eq!(chosen(&fresh), ("admit", "gpt-4", None), "{operation}");
        assert_eq!(fresh["replayed"], Value::Null);
    }
}

/// A name that was not handed back as it came is one of nothing.
#[tokio::test]
async fn a_name_with_something_else_in_it_is_refused() {
    let world = World::new(TIERS).await;
    let told = admitted(&world, &reserve("gpt-4")).await;
    let name = told["reservation"].as_str().expect("a name");
    let (id, _) = name.split_once('.').expect("a price of the model's");
    for name in [
        format!("{id}+"),
        format!("+{id}"),
        format!("{id}+x"),
        id.to_owned() + &format!("+{id}").repeat(257),
    ] {
        let body = json!({ "reservation": name });
        assert_eq!(ask(&world, "cancel", &body).await.0, 400, "{name}");
    }
}
