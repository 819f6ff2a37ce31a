//! Ladders under a budget in dollars: each rung is held and charged at its own price.

use tallygate_core::Metric;
use tallygate_sim::ApiCall;

use super::{as_tier, models};
use crate::world::World;

/// Micro-dollars for a million tokens.
const DEAR: (u128, u128) = (10_000_000, 40_000_000);
const CHEAP: (u128, u128) = (1_000_000, 4_000_000);

const SETTINGS: &str = "\
identify: { trust_headers: true }
models:
  gpt-4o: { upstream: openai, output_estimate: max_tokens }
  gpt-4o-mini: { upstream: openai, output_estimate: max_tokens }
prices:
  models:
    gpt-4o: { input: 10.00, output: 40.00 }
    gpt-4o-mini: { input: 1.00, output: 4.00 }
";

/// What a call of so many tokens costs, rounded up once.
fn cost((input, output): (u128, u128), tokens: (u64, u64)) -> u64 {
    let sum = u128::from(tokens.0) * input + u128::from(tokens.1) * output;
    u64::try_from(sum.div_ceil(1_000_000)).expect("little")
}

async fn spent(world: &World, limit: &str, downgraded: &str) -> u64 {
    world.settled().await;
    let subject = [("tier", "pro"), ("user", "ann"), ("downgraded", downgraded)];
    let standings = world.standings(&subject).await;
    let found = standings
        .iter()
        .find(|standing| *standing.limit.name == *limit && standing.limit.metric == Metric::COST);
    found.map_or(0, |standing| standing.used)
}

fn call() -> ApiCall {
    as_tier(
        ApiCall::chat("gpt-4o", "Hello world")
            .max_tokens(50)
            .output(20),
        "pro",
        "ann",
    )
}

/// A used-up budget sends calls down, and counts nothing of them there; what counts below it counts the price of the rung.
#[tokio::test]
async fn a_budget_that_is_used_up_sends_calls_down() {
    let world = World::new(&format!(
        "{SETTINGS}tiers: {{ pro: {{ downgrade: [gpt-4o-mini], limits: [
           {{ name: budget, per: [user], cost: 0.002100, every: month }},
           {{ name: below, per: [user], cost: 1.00, every: month, downgraded: only }} ] }} }}"
    ))
    .await;
    let first = world.call(&call()).await;
    let usage = first.answer().usage.expect("usage");
    let tokens = (usage.input, usage.output);
    assert_eq!((first.status, models(&first)), (200, (None, None)));
    assert_eq!(spent(&world, "budget", "no").await, cost(DEAR, tokens));
    let second = world.call(&call()).await;
    let told = (Some("gpt-4o-mini"), Some("gpt-4o"));
    assert_eq!((second.status, models(&second)), (200, told));
    assert_eq!(
        spent(&world, "budget", "no").await,
        cost(DEAR, tokens),
        "nothing stays of it"
    );
    assert_eq!(spent(&world, "below", "yes").await, cost(CHEAP, tokens));
}

/// A budget that counts both is spent on the dear model while one more call of it fits, then on the cheap one, and never over.
#[tokio::test]
async fn a_budget_that_counts_both_is_spent_to_the_cheap_ones_last_call() {
    const BUDGET: u64 = 5_000;
    let world = World::new(&format!(
        "{SETTINGS}tiers: {{ pro: {{ downgrade: [gpt-4o-mini], limits: [
           {{ name: budget, per: [user], cost: 0.005, every: month, downgraded: count }} ] }} }}"
    ))
    .await;
    let (most, input) = (50, 9);
    let mut charged = 0;
    let mut served = (0, 0);
    loop {
        let reply = world.call(&call()).await;
        let fits = |price| charged + cost(price, (input, most)) <= BUDGET;
        let expected = match () {
            () if fits(DEAR) => (200, None, DEAR),
            () if fits(CHEAP) => (200, Some("gpt-4o-mini"), CHEAP),
            () => (429, None, CHEAP),
        };
        assert_eq!(
            (reply.status, reply.header("x-tallygate-model")),
            (expected.0, expected.1)
        );
        if reply.status == 429 {
            break;
        }
        let usage = reply.answer().usage.expect("usage");
        charged += cost(expected.2, (usage.input, usage.output));
        assert_eq!(spent(&world, "budget", "no").await, charged);
        match expected.1 {
            None => served.0 += 1,
            Some(_) => served.1 += 1,
        }
    }
    assert!(served.0 > 1 && served.1 > 1, "{served:?}");
}
