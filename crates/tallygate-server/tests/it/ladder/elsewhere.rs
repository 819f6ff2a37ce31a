//! The same where several instances share a store.

use std::collections::HashSet;

use serde_json::Value;
use tallygate_server::{Config, Server};
use tallygate_sim::servers::{Cluster, Engine};

use super::reserving::{TIERS, admitted, ask, cancel, chosen, keyed, reserve};
use crate::world::{World, patient};

async fn instance(store: &str) -> World {
    let upstreams = "upstreams: { openai: { dialect: openai, base_url: \"http://127.0.0.1:1/v1\" }, \
                     anthropic: { dialect: anthropic, base_url: \"http://127.0.0.1:1\" } }";
    let text = format!(
        "admin: none\nstore: {}\n{upstreams}\n{TIERS}",
        patient(store)
    );
    let config = Config::parse(&text, "test.yaml", &|_| None)
        .unwrap_or_else(|errors| panic!("{}", errors.render()));
    World::of(Server::open(config).await.expect("a server")).await
}

/// The counters of two models may be on different servers, and the repeat may come to another instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_decision_stands_for_a_key_at_all_instances_of_a_cluster() {
    let cluster = Cluster::start(Engine::Redis, 3, 0, &[]).expect("a cluster");
    let (one, other) = (
        instance(&cluster.url()).await,
        instance(&cluster.url()).await,
    );
    for round in 0..10 {
        let body = keyed(&format!("round {round}"));
        let first = admitted(&one, &reserve("gpt-4")).await;
        let below = admitted(&one, &body).await;
        assert_eq!(chosen(&below), ("downgrade", "gpt-4o-mini", Some("gpt-4")));
        cancel(&other, &first).await;
        let again = admitted(&other, &body).await;
        assert_eq!(again["reservation"], below["reservation"]);
        assert_eq!(chosen(&again), chosen(&below));
        cancel(&one, &below).await;
    }
    for round in 0..10 {
        let body = keyed(&format!("race {round}"));
        let held = admitted(&one, &reserve("gpt-4")).await;
        let races = (0..8).map(|at| ask(if at % 2 == 0 { &one } else { &other }, "reserve", &body));
        let (answers, ()) =
            tokio::join!(futures_util::future::join_all(races), cancel(&other, &held));
        let told: Vec<&Value> = answers.iter().map(|(_, told)| told).collect();
        let agreed: HashSet<_> = told
            .iter()
            .map(|told| (told["reservation"].to_string(), chosen(told)))
            .collect();
        assert_eq!(agreed.len(), 1, "{answers:?}");
        cancel(&one, told[0]).await;
    }
}
