//! Slots that move and primaries that die under load.
use super::Two;
use crate::live::{Load, Told, USERS, layered, taken, until};
use std::time::Instant;
use tallygate_sim::servers::{Cluster, Engine, Server};
use tallygate_store::Store;
use tokio::runtime::Runtime;

const CALLERS: usize = 6;

/// The slots in which the load's counters are.
fn slots(two: &Two<'_>) -> Vec<u16> {
    let mut slots: Vec<u16> = two
        .keys(b'a')
        .iter()
        .map(|(key, _)| two.cluster.slot_of(key).expect("a slot"))
        .collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// Moves every slot of the counters to another primary.
fn move_all(cluster: &Cluster, slots: &[u16]) {
    let primaries = cluster.primaries().expect("an answer");
    for slot in slots {
        let owner = cluster.owner_of(*slot).expect("an owner").port();
        let at = primaries
            .iter()
            .position(|node| node.port() == owner)
            .expect("a primary");
        let to: &Server = primaries[(at + 1) % primaries.len()];
        cluster.migrate_slot(*slot, to).expect("moved");
    }
}

/// Waits until no reservation stands, and compares what is taken with what callers were told.
pub(super) async fn sums(two: &Two<'_>, told: &Told) -> (u64, u64) {
    let mut taken_users = Vec::new();
    let (mut all, mut tenant) = (0, 0);
    for user in 0..USERS {
        let name = format!("u{user}");
        let subject = [("user", name.as_str()), ("tenant", "t")];
        let mut sums = [(0, 0); 3];
        // What an interrupted demand left in some slots is given back, or ends at its deadline.
        until("free slots", async || {
            sums = taken(&*two.one, &subject).await;
            sums.iter().all(|(_, slots)| *slots == 0)
        })
        .await;
        ((all, _), (tenant, _)) = (sums[0], sums[1]);
        taken_users.push(sums[2].0);
    }
    let told_users = told.charged;
    eprintln!("told {told_users:?}, users {taken_users:?}, tenant {tenant}, all {all}");
    (
        told_users.iter().sum(),
        all.max(tenant).max(taken_users.iter().sum()),
    )
}

#[test]
fn slots_move_under_load() {
    let cluster = Cluster::start(Engine::Valkey, 3, 0, &[]).expect("a cluster forms");
    let runtime = Runtime::new().expect("a runtime");
    let huge = layered(1 << 40, 1 << 40, 1 << 40);
    runtime.block_on(async {
        let two = Two::open(&cluster, "moving", &huge).await;
        let (load, tasks) = Load::begin(&[two.one.clone(), two.two.clone()], CALLERS);
        load.admits(50).await;
        let slots = slots(&two);
        for _ in 0..3 {
            let moving = tokio::task::block_in_place(|| {
                let began = Instant::now();
                move_all(&cluster, &slots);
                began.elapsed()
            });
            eprintln!("{} slots moved in {moving:?}", slots.len());
            load.admits(50).await;
        }
        let told = load.stop(tasks).await;
        eprintln!(
            "{} admissions, {} failures, longest {:?}",
            told.admissions.len(),
            told.failures.len(),
            told.outage
        );
        assert_eq!(told.failures, Vec::<String>::new());
        assert_eq!((told.denials, told.unknown), (0, 0));
        let (told_sum, taken_sum) = sums(&two, &told).await;
        assert_eq!(told_sum, taken_sum);
        for user in 0..USERS {
            let name = format!("u{user}");
            let standings = two.one.peek(&[("user", &name), ("tenant", "t")]).await;
            let user_tokens = standings.expect("an answer")[4].used;
            assert_eq!(user_tokens, told.charged[user]);
        }
    });
}
