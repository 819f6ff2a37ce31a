//! Standing in line instead of being denied.

use std::time::Duration;

use tallygate_core::Metric;
use tallygate_sim::ApiCall;

use crate::world::World;

const ONE_SLOT: &str = "\
limits: [{ name: slot, concurrency: 1 }]
waiting: { max_wait: 20s }";

fn slow() -> ApiCall {
    ApiCall::chat("gpt-4o", "Hello world").header("x-mock-first-token-ms", "300")
}

fn quick() -> ApiCall {
    ApiCall::chat("gpt-4o", "Hello world")
}

#[tokio::test]
async fn a_caller_waits_for_a_slot_and_is_served() {
    let world = World::new(ONE_SLOT).await;
    let call = slow();
    let (first, second) = tokio::join!(world.call(&call), world.call(&call));
    assert_eq!((first.status, second.status), (200, 200));
    assert!(first.total.max(second.total) >= Duration::from_millis(600));
    world.settled().await;
    assert_eq!(world.used(Metric::CONCURRENCY, &[]).await, 0);
    let metrics = world.metrics();
    assert!(
        metrics.contains("tallygate_wait_seconds_count{outcome=\"admit\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_caller_may_wait_less_and_not_more() {
    let world =
        World::new("limits: [{ name: slot, concurrency: 1 }]\nwaiting: { max_wait: 100ms }").await;
    let held = world.hold(&[]).await;
    let at_once = world
        .call(&quick().header("x-tallygate-max-wait-ms", "0"))
        .await;
    assert_eq!(at_once.status, 429);
    let long = world
        .call(&quick().header("x-tallygate-max-wait-ms", "99999999"))
        .await;
    assert_eq!(long.status, 429);
    assert!(long.total >= Duration::from_millis(100));
    let odd = world
        .call(&quick().header("x-tallygate-max-wait-ms", "soon"))
        .await;
    assert_eq!(odd.status, 400);
    world.server.store().cancel(held).await.unwrap();
    assert_eq!(world.call(&quick()).await.status, 200);
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_the_line() {
    let world = World::new(ONE_SLOT).await;
    let held = world.hold(&[]).await;
    let call = quick();
    let mut waiting = Box::pin(world.client.open(&call));
    tokio::select! {
        _ = &mut waiting => panic!("the slot is taken"),
        () = world.until(|store| store.stats().waiters == 1) => {}
    }
    drop(waiting);
    world.until(|store| store.stats().waiters == 0).await;
    world.server.store().cancel(held).await.unwrap();
    assert_eq!(world.call(&quick()).await.status, 200);
    assert_eq!(world.mock.books().totals().received, 1);
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_denied_with_its_end() {
    let world =
        World::new("limits: [{ name: rpm, requests: 1, every: 60s }]\nwaiting: { max_wait: 1s }")
            .await;
    assert_eq!(world.call(&quick()).await.status, 200);
    let denied = world.call(&quick()).await;
    assert_eq!(denied.status, 429);
    let wait = denied.retry_after().unwrap();
    assert!(
        (Duration::from_secs(20)..=Duration::from_secs(61)).contains(&wait),
        "{wait:?}"
    );
    assert_eq!(denied.header("x-should-retry"), None);
}

#[tokio::test]
async fn a_full_line_is_a_denial_at_once() {
    let line = "limits: [{ name: slot, concurrency: 1 }]\nwaiting: { queue: 1, max_wait: 20s }";
    let world = World::new(line).await;
    let held = world.hold(&[]).await;
    let call = quick();
    let beyond = async {
        world.until(|store| store.stats().waiters == 1).await;
        let denied = world.call(&call).await;
        world.server.store().cancel(held).await.unwrap();
        denied
    };
    let (waited, denied) = tokio::join!(world.call(&call), beyond);
    assert_eq!((waited.status, denied.status), (200, 429));
    assert!(denied.header("retry-after").is_some());
}
