//! Two nodes that share one store share its ledger: each answers for both.

use serde_json::json;
use tallygate_server::Server;
use tallygate_sim::servers::{Engine, Server as Redis};

use super::{report, row, usage};
use crate::world::{World, config, patient, within};

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
