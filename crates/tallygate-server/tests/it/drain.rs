//! Stopping: nothing new, what is under way to its end, and every account settled.

use tallygate_sim::ApiCall;
use tallygate_sim::client::events;

use crate::world::{LIMITS, World, within};

fn slow() -> ApiCall {
    let call = ApiCall::chat("gpt-4o", "Hello world")
        .max_tokens(100)
        .output(50);
    call.streamed().header("x-mock-token-us", "10000")
}

#[tokio::test]
async fn an_answer_under_way_finishes_and_new_connections_are_refused() {
    let world = World::new(LIMITS).await;
    let opened = within(world.client.open(&slow())).await.unwrap();
    let idle = world.client.clone();
    let (base, store) = (world.base.clone(), world.server.store().clone());
    let (_mock, running) = world.stop();
    let reply = within(opened.read()).await.unwrap();
    assert!(reply.answer().complete && !reply.broken);
    within(running).await.unwrap().unwrap();
    assert_eq!(store.stats().reservations, 0);
    let late = tallygate_sim::Client::new(base);
    assert!(within(late.call(&slow())).await.is_err());
    assert!(within(idle.call(&slow())).await.is_err());
}

#[tokio::test]
async fn an_answer_that_outlasts_the_drain_is_cut_and_settled() {
    let world = World::new(&format!("{LIMITS}\nbounds: {{ drain_time: 100ms }}")).await;
    let mut opened = within(
        world
            .client
            .open(&slow().header("x-mock-stall-after", "10")),
    )
    .await
    .unwrap();
    let mut seen = Vec::new();
    while events(&seen).len() < 11 {
        seen.extend(within(opened.chunk()).await.unwrap().unwrap());
    }
    let store = world.server.store().clone();
    let (_mock, running) = world.stop();
    let rest = within(opened.read()).await.unwrap();
    assert!(rest.broken);
    within(running).await.unwrap().unwrap();
    assert_eq!(store.stats().reservations, 0);
    let standings = store.peek(&[]).await.unwrap();
    assert_eq!(standings[1].used, 9 + 10);
}
