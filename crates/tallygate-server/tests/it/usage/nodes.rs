//! Two nodes that share one store share its ledger: each answers for both.

use serde_json::{Value, json};
use tallygate_core::Amounts;
use tallygate_server::Server;
use tallygate_sim::servers::{Engine, Server as Redis};
use tallygate_sim::{ApiCall, Mock, MockOptions};
use tallygate_store::Settlement;

use super::{report, row, usage};
use crate::world::{World, config, patient, upstreams, within};

async fn node(redis: &Redis) -> World {
    let settings = format!(
        "store: {}\nlimits: [{{ name: day, per: [tenant], tokens: 1000, every: day }}]",
        patient(&redis.url())
    );
    let server = Server::open(config("", &settings)).await;
    World::of(server.expect("a server")).await
}

/// Settles a reservation of `tenant` for so many tokens.
async fn spend(world: &World, tenant: &str, tokens: u64) {
    let wanted = json!({ "subject": { "tenant": tenant }, "demand": { "tokens": 100 } });
    let held = world
        .post("/tallygate/v1/reserve", wanted.to_string())
        .await;
    assert_eq!(held.status, 200, "{}", held.json());
    let usage = json!({ "input_tokens": tokens, "output_tokens": 0 });
    let settle = json!({ "reservation": held.json()["reservation"], "usage": usage });
    let settled = world.post("/tallygate/v1/settle", settle.to_string()).await;
    assert_eq!(settled.status, 200, "{}", settled.json());
}

/// What is asked of a node of the decision API.
async fn ask(world: &World, operation: &str, body: &Value) -> Value {
    let path = format!("/tallygate/v1/{operation}");
    world.post(&path, body.to_string()).await.json()
}

const TIERS: &str = "
models: { gpt-4o: { upstream: openai }, gpt-4o-mini: { upstream: openai } }
limits: [{ name: day, per: [tenant], tokens: 100_000, every: day }]
tiers:
  pro: { limits: [{ name: pro-day, per: [tenant], when: { model: gpt-4o }, tokens: 50, every: day }], downgrade: [gpt-4o-mini] }";

async fn tiered(redis: &Redis) -> World {
    let settings = format!("store: {}{TIERS}", patient(&redis.url()));
    let mock = Mock::start(([127, 0, 0, 1], 0).into(), MockOptions::default()).await;
    let upstreams = upstreams(&mock.expect("a mock"));
    let server = Server::open(config(&upstreams, &settings)).await;
    World::of(server.expect("a server")).await
}

fn demand(tenant: &str) -> Value {
    json!({
        "subject": { "tenant": tenant, "tier": "pro" }, "model": "gpt-4o",
        "demand": { "input_tokens": 1_000, "output_tokens": 100 },
    })
}

/// Waits until a node's report by tenant, outcome and model has so many calls.
async fn counted(world: &World, calls: u64) -> Value {
    let counted = async {
        loop {
            let report = report(world, "by=tenant,outcome,asked,model").await;
            if report["totals"]["calls"] == calls {
                return report;
            }
            tokio::task::yield_now().await;
        }
    };
    within(counted).await
}

fn key(tenant: &str, outcome: &str) -> Value {
    json!({ "tenant": tenant, "outcome": outcome, "asked": "gpt-4o", "model": "gpt-4o-mini" })
}

/// Behind a load balancer a reservation ends wherever: it is recorded as what it is, for whom it was made.
#[tokio::test]
async fn what_ends_at_another_node_is_recorded_for_whoever_reserved() {
    let redis = Redis::start(Engine::Valkey, &[]).expect("a server");
    let (one, other) = (tiered(&redis).await, tiered(&redis).await);
    let mut held = Vec::new();
    for place in 0..12 {
        let tenant = ["acme", "globex", "initech"][place % 3];
        let told = ask(&one, "reserve", &demand(tenant)).await;
        assert_eq!(told["decision"], "downgrade", "{told}");
        held.push(told["reservation"].clone());
    }
    let usage = json!({ "input_tokens": 600, "output_tokens": 50, "cached_input_tokens": 64 });
    for (place, reservation) in held.iter().enumerate() {
        let end = json!({ "reservation": reservation, "usage": usage });
        let cancel = json!({ "reservation": reservation });
        let more =
            json!({ "reservation": reservation, "demand": { "tokens": 300 }, "ttl_ms": 700_000 });
        match place {
            0..7 => {
                if place == 1 {
                    let extended = ask(&other, "extend", &more).await;
                    assert_eq!(extended["reserved"]["tokens"], 1_400, "{extended}");
                }
                let told = ask(&other, "settle", &end).await;
                assert_eq!(told["outcome"], "settled", "{told}");
                for again in [&one, &other] {
                    assert_eq!(ask(again, "settle", &end).await, told);
                }
            }
            7..9 => assert_eq!(ask(&other, "cancel", &cancel).await["outcome"], "cancelled"),
            _ => assert_eq!(ask(&one, "settle", &end).await["outcome"], "settled"),
        }
    }
    for world in [&one, &other] {
        let report = counted(world, 12).await;
        for (tenant, settled, cancelled) in [("acme", 4, 0), ("globex", 3, 1), ("initech", 3, 1)] {
            let row = row(&report, &key(tenant, "settled"));
            assert_eq!(row["calls"], settled, "{report}");
            assert_eq!(
                (&row["downgraded"], &row["tokens"]),
                (&json!(settled), &json!(650 * settled))
            );
            assert_eq!(row["cached_input_tokens"], 64 * settled);
            // What is held and not used: one of globex's holds was extended.
            let extended = if tenant == "globex" { 300 } else { 0 };
            assert_eq!(row["savings"]["refunded_tokens"], 450 * settled + extended);
            let saved = row["savings"]["downgraded_cost"].as_u64();
            assert!(saved.is_some_and(|saved| saved > 0), "{row}");
            let rows = report["rows"].as_array().expect("rows").iter();
            let given_back = rows.filter(|row| row["key"] == key(tenant, "cancelled"));
            let calls: Option<u64> = given_back.map(|row| row["calls"].as_u64()).sum();
            assert_eq!(calls, Some(cancelled), "{report}");
        }
    }
    // Nothing is left of those that have ended.
    assert!(memos(&redis).is_empty());
}

/// The memos of open reservations.
fn memos(redis: &Redis) -> Vec<Vec<u8>> {
    let keys = redis.ask(&["KEYS", "tg:{????????}m*"]);
    keys.expect("keys")
}

/// Has the deadlines of all memos passed long ago.
fn make_overdue(redis: &Redis) {
    let key = b"tg:{75736167}umemos";
    let ids: Vec<Vec<u8>> = redis.ask(&[&b"ZRANGE"[..], key, b"0", b"-1"]).expect("ids");
    assert!(!ids.is_empty());
    for id in ids {
        let moved: u64 = redis
            .ask(&[&b"ZADD"[..], key, b"XX", b"CH", b"1", &id])
            .expect("moved");
        assert_eq!(moved, 1);
    }
}

/// What a node that is gone has left, and nobody speaks of again, is recorded by one of those that are there, as it ended.
#[tokio::test]
async fn what_nobody_speaks_of_again_is_recorded_once_by_those_that_are_there() {
    let redis = Redis::start(Engine::Valkey, &[]).expect("a server");
    let gone = tiered(&redis).await;
    // One whose record the store has dropped already.
    let held = ask(&gone, "reserve", &demand("acme")).await;
    assert_eq!(held["decision"], "downgrade", "{held}");
    let kept: Vec<Vec<u8>> = redis.ask(&["KEYS", "tg:{????????}r*"]).expect("keys");
    let [record] = &kept[..] else {
        panic!("{kept:?}");
    };
    let dropped: u64 = redis.ask(&[&b"DEL"[..], record]).expect("an answer");
    assert_eq!(dropped, 1);
    // One whose settlement took effect while its node died.
    let held = ask(&gone, "reserve", &demand("globex")).await;
    let id = held["reservation"].as_str().expect("a name");
    let id = id
        .split(['.', '+'])
        .next()
        .expect("an id")
        .parse()
        .expect("an id");
    let used = Settlement::Exact(Amounts::call(600, 50));
    let settled = gone.server.store().settle(id, used).await;
    assert!(settled.is_ok(), "{settled:?}");
    // One that stands, and one that was recorded.
    ask(&gone, "reserve", &demand("initech")).await;
    let held = ask(&gone, "reserve", &demand("initech")).await;
    let end = json!({ "reservation": held["reservation"], "usage": { "tokens": 30 } });
    assert_eq!(ask(&gone, "settle", &end).await["outcome"], "settled");
    let (_mock, running) = gone.stop();
    within(running).await.expect("a task").expect("an end");
    assert_eq!(memos(&redis).len(), 3);
    make_overdue(&redis);

    let (one, other) = tokio::join!(tiered(&redis), tiered(&redis));
    for world in [&one, &other] {
        let report = counted(world, 3).await;
        assert_eq!(row(&report, &key("acme", "expired"))["tokens"], 1_100);
        assert_eq!(row(&report, &key("globex", "settled"))["tokens"], 650);
        assert_eq!(row(&report, &key("initech", "settled"))["tokens"], 30);
    }
    assert_eq!(memos(&redis).len(), 1);
}

/// A call of the gateway that lasts has a memo, until its record is kept.
#[tokio::test]
async fn a_call_that_lasts_is_known_to_other_nodes_until_it_is_recorded() {
    let redis = Redis::start(Engine::Redis, &[]).expect("a server");
    let world = World::new(&format!("store: {}{TIERS}", patient(&redis.url()))).await;
    let call = ApiCall::chat("gpt-4o-mini", "Hello world").max_tokens(100);
    let call = call.streamed().output(50).header("x-mock-stall-after", "5");
    let mut stalled = within(world.client.open(&call)).await.expect("an answer");
    assert!(
        within(stalled.chunk())
            .await
            .is_ok_and(|piece| piece.is_some())
    );
    let known = async {
        while memos(&redis).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    within(known).await;
    drop(stalled);
    counted(&world, 1).await;
    assert!(memos(&redis).is_empty());
}

/// The node that made a reservation may be gone when it ends, also when it ends too late.
#[tokio::test]
async fn what_a_node_that_is_gone_has_left_open_is_recorded_for_whoever_reserved() {
    let redis = Redis::start(Engine::Valkey, &[]).expect("a server");
    let (one, other) = (tiered(&redis).await, tiered(&redis).await);
    let open = ask(&one, "reserve", &demand("acme")).await;
    let mut short = demand("globex");
    short["ttl_ms"] = 1.into();
    let over = ask(&one, "reserve", &short).await;
    // Stopped before it looks at deadlines again, or after: it is recorded once.
    let (_mock, running) = one.stop();
    within(running).await.expect("a task").expect("an end");
    let usage = json!({ "input_tokens": 600, "output_tokens": 50 });
    for _ in 0..2 {
        for told in [&open, &over] {
            let end = json!({ "reservation": told["reservation"], "usage": usage });
            ask(&other, "settle", &end).await;
        }
    }
    let report = counted(&other, 2).await;
    assert_eq!(row(&report, &key("acme", "settled"))["tokens"], 650);
    assert_eq!(row(&report, &key("globex", "expired"))["tokens"], 1_100);
}

#[tokio::test]
async fn each_node_answers_for_both() {
    let redis = Redis::start(Engine::Redis, &[]).expect("a server");
    let (one, other) = (node(&redis).await, node(&redis).await);
    spend(&one, "acme", 30).await;
    spend(&other, "acme", 12).await;
    spend(&other, "globex", 5).await;
    // A question keeps what its own node recorded before; the other node does so four times a second.
    for world in [&one, &other] {
        let counted = async {
            while report(world, "by=tenant").await["totals"]["calls"] != 3 {
                tokio::task::yield_now().await;
            }
        };
        within(counted).await;
        let report = report(world, "by=tenant").await;
        let acme = row(&report, &json!({ "tenant": "acme" }));
        assert_eq!((&acme["calls"], &acme["tokens"]), (&json!(2), &json!(42)));
        let globex = row(&report, &json!({ "tenant": "globex" }));
        assert_eq!(
            (&globex["calls"], &globex["tokens"]),
            (&json!(1), &json!(5))
        );
    }
    // What both kept outlives them, and a node that comes later knows all of it.
    for world in [one, other] {
        let (_mock, running) = world.stop();
        within(running).await.expect("a task").expect("an end");
    }
    let later = node(&redis).await;
    assert_eq!(report(&later, "by=tenant").await["totals"]["tokens"], 47);
    assert_eq!(usage(&later, "by=tenant&format=csv").await.status, 200);
}
