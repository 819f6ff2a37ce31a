//! Many who change one reservation at once: none of them is told that the store is down.
use super::fleet::{admitted, ask, open, policy, quota, tokens, used};
use std::sync::Arc;
use tallygate_core::{Extended, ReservationId, StoreDown};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{RedisStore, Store};

/// Has each of these tasks extend a reservation so often by one token.
async fn extended(tasks: &[Arc<RedisStore>], id: ReservationId, times: u64) {
    let tasks = tasks.iter().map(|store| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..times {
                let answer = store.extend(id, tokens(1), None).await;
                assert!(matches!(answer, Ok(Extended::Granted { .. })), "{answer:?}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("all are granted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extensions_of_one_reservation_all_come_through() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("the server starts");
        let policy = policy([quota("q", 1000, StoreDown::Closed)]);
        let stores = [open(&server, &policy).await, open(&server, &policy).await];
        let alone = admitted(&stores[0], ask(100)).await.id;
        extended(&vec![stores[0].clone(); 16], alone, 12).await;
        assert_eq!(used(&stores[0]).await, 100 + 16 * 12);
        let both = admitted(&stores[0], ask(100)).await.id;
        let tasks: Vec<_> = stores.iter().cycle().take(8).cloned().collect();
        extended(&tasks, both, 5).await;
        assert_eq!(used(&stores[1]).await, 200 + 16 * 12 + 8 * 5);
    }
}
