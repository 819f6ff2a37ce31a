//! A primary of a Cluster dies under load.
use super::Two;
use super::shifts::sums;
use crate::failover;
use crate::live::{Load, layered};
use std::time::Duration;
use tallygate_sim::servers::{Cluster, Engine};
use tokio::runtime::Runtime;

/// Some hundred calls: reached after the death.
const LIMIT: u64 = 4000;

#[test]
fn a_primary_dies_under_load() {
    let cluster = Cluster::start(Engine::Valkey, 3, 3, &[]).expect("a cluster forms");
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let two = Two::open(&cluster, "dying", &layered(1 << 40, 1 << 40, LIMIT)).await;
        let (load, tasks) = Load::begin(&[two.one.clone(), two.two.clone()], 6);
        load.admits(100).await;
        let death = tokio::task::block_in_place(|| {
            let primary = super::broad_node(&cluster);
            let replicas = cluster.replicas_of(primary).expect("an answer");
            let heard = failover::keeps_up(primary, replicas[0]);
            failover::kill(primary, heard, || {
                let well = cluster.wait_until_well(Duration::from_secs(30));
                well.expect("another takes over");
            })
        });
        load.is_denied().await;
        let told = load.stop(tasks).await;
        failover::went_on(&told, &death);
        let (told_sum, taken_sum) = sums(&two, &told).await;
        failover::kept_count(&told, &death, (told_sum, taken_sum));
        failover::kept_limit(&told, &death, LIMIT);
    });
}
