//! Ends made while the server is away: delivered once when it is back.
use super::fleet::{
    admitted, ask, durable, open, options, policy, quota, three, tokens, until_delivered, until_up,
    url, used,
};
use super::scratch::Scratch;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Decision, Outcome, ReservationId, StoreDown};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{
    RedisOpenError, RedisStore, Reserve, SettleError, Settlement, Store, StoreError,
};

fn kept(outcome: Outcome) -> SettleError {
    SettleError::Kept { outcome }
}

async fn settle(store: &RedisStore, id: ReservationId, amount: u64) -> Result<(), SettleError> {
    let usage = Settlement::Exact(tokens(amount));
    store.settle(id, usage).await.map(drop)
}

async fn reservations(store: &RedisStore, count: u64, amount: u64) -> Vec<ReservationId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(admitted(store, ask(amount)).await.id);
    }
    ids
}

/// Right to the token, on every handle, whatever was repeated meanwhile.
#[tokio::test]
async fn ends_made_during_an_outage_are_delivered_once() {
    let server = durable(Engine::Redis);
    let stores = three(&server, &policy([quota("q", 100_000, StoreDown::Closed)])).await;
    let mut expected = 0;
    let mut ids = Vec::new();
    for store in &stores {
        ids.push(reservations(store, 40, 100).await);
    }
    server.kill();
    for (store, ids) in stores.iter().zip(&ids) {
        for (at, id) in ids.iter().enumerate() {
            let used = at as u64 * 7;
            match at % 4 {
                0 => {
                    assert_eq!(store.cancel(*id).await, Err(kept(Outcome::Cancelled)));
                    assert_eq!(settle(store, *id, 5).await, Err(kept(Outcome::Cancelled)));
                }
                1 => expected += 100,
                _ => {
                    expected += used;
                    for repeat in [used, used, used + 1] {
                        let told = settle(store, *id, repeat).await;
                        assert_eq!(told, Err(kept(Outcome::Settled)));
                    }
                    let told = store.cancel(*id).await;
                    assert_eq!(told, Err(kept(Outcome::Settled)), "the first stands");
                    let told = store.extend(*id, tokens(1), None).await;
                    assert_eq!(told.err(), Some(kept(Outcome::Settled)));
                }
            }
        }
        assert_eq!(store.outage().kept, 30);
    }
    server.restart().expect("it comes back");
    for store in &stores {
        until_delivered(store).await;
        let outage = store.outage();
        assert_eq!((outage.settled, outage.cancelled), (20, 10));
        assert_eq!((outage.overtaken, outage.lost), (0, 0));
    }
    assert_eq!(used(&stores[0]).await, expected);
    let receipt = settle(&stores[1], ids[0][2], 999).await;
    assert_eq!(receipt, Ok(()), "a repeat is told the first receipt");
    assert_eq!(used(&stores[2]).await, expected);
    let late = stores[2].cancel(ids[0][2]).await;
    assert!(matches!(late, Err(SettleError::Standing(_))), "{late:?}");
}

/// It ends even if nobody waits for its answer any more.
#[tokio::test]
async fn an_end_whose_caller_has_left_is_delivered() {
    let server = durable(Engine::Redis);
    let store = open(&server, &policy([quota("q", 1_000, StoreDown::Closed)])).await;
    let id = admitted(&store, ask(100)).await.id;
    server.pause().expect("it is paused");
    {
        let ending = store.settle(id, Settlement::Exact(tokens(30)));
        let left = futures_util::FutureExt::now_or_never(ending);
        assert!(left.is_none(), "{left:?}");
    }
    assert_eq!(store.outage().kept, 1);
    server.resume().expect("it goes on");
    until_delivered(&store).await;
    assert_eq!(used(&store).await, 30);
    assert_eq!(settle(&store, id, 70).await, Ok(()));
    assert_eq!(used(&store).await, 30);
}

/// A server that hung did what it was asked, though nobody heard: what was kept of it changes nothing.
#[tokio::test]
async fn an_end_whose_answer_was_lost_counts_once() {
    let server = durable(Engine::Valkey);
    let store = open(&server, &policy([quota("q", 1_000, StoreDown::Closed)])).await;
    let ids = reservations(&store, 3, 100).await;
    server.pause().expect("it is paused");
    let together = ids.iter().map(|id| settle(&store, *id, 150));
    for told in futures_util::future::join_all(together).await {
        assert_eq!(told, Err(kept(Outcome::Settled)));
    }
    server.resume().expect("it goes on");
    until_delivered(&store).await;
    assert_eq!(used(&store).await, 450);
    let outage = store.outage();
    assert_eq!((outage.settled, outage.overtaken), (3, 0));
    assert_eq!(outage.charged, tokens(450));
}

/// The caller of a reservation was told that there was no answer: nothing stays held for it.
#[tokio::test]
async fn a_reservation_whose_answer_was_lost_is_given_back() {
    let server = durable(Engine::Redis);
    let store = open(&server, &policy([quota("q", 1_000, StoreDown::Closed)])).await;
    admitted(&store, ask(1)).await;
    server.pause().expect("it is paused");
    let asked = (0..20).map(|_| store.reserve(ask(10)));
    for answer in futures_util::future::join_all(asked).await {
        assert!(matches!(answer, Err(StoreError::Down { .. })), "{answer:?}");
    }
    server.resume().expect("it goes on");
    until_delivered(&store).await;
    until_up(&store, true).await;
    assert_eq!(used(&store).await, 1);
}

/// Past its deadline a reservation has ended; what was kept for it ends too.
#[tokio::test]
async fn an_end_that_comes_after_the_deadline_changes_nothing() {
    let server = durable(Engine::Redis);
    let store = open(&server, &policy([quota("q", 1_000, StoreDown::Closed)])).await;
    let short = Reserve {
        ttl: Duration::from_millis(700),
        ..ask(100)
    };
    let expiring = admitted(&store, short).await;
    let unknown = ReservationId::from_bits(7);
    server.kill();
    assert_eq!(
        settle(&store, expiring.id, 1).await,
        Err(kept(Outcome::Settled))
    );
    assert_eq!(
        settle(&store, unknown, 1).await,
        Err(kept(Outcome::Settled))
    );
    tokio::time::sleep(Duration::from_millis(800)).await; // tidy: sleeps because the deadline is the server's
    server.restart().expect("it comes back");
    until_delivered(&store).await;
    let outage = store.outage();
    assert_eq!((outage.settled, outage.overtaken), (0, 2));
    assert_eq!(used(&store).await, 100);
    assert_eq!(settle(&store, unknown, 1).await, Err(SettleError::Unknown));
}

/// Refused is as good as down: a full server takes the ends when it has room.
#[tokio::test]
async fn a_full_server_is_waited_for() {
    let server = durable(Engine::Redis);
    let rules = policy([quota("q", 1_000, StoreDown::Closed)]);
    let store = open(&server, &rules).await;
    let id = admitted(&store, ask(100)).await.id;
    let memory = |bytes: &str| server.command(&["CONFIG", "SET", "maxmemory", bytes]);
    memory("1").expect("it is set");
    assert_eq!(settle(&store, id, 40).await, Err(kept(Outcome::Settled)));
    assert!(store.reserve(ask(1)).await.is_err());
    until_up(&store, false).await;
    memory("0").expect("it is set");
    until_up(&store, true).await;
    until_delivered(&store).await;
    assert_eq!(used(&store).await, 40);
}

async fn open_in(server: &Server, folder: &Scratch) -> Result<Arc<RedisStore>, RedisOpenError> {
    let options = options(server).with_data(folder.path());
    RedisStore::open(options, &policy([quota("q", 100_000, StoreDown::Closed)])).await
}

/// With a folder, what was kept outlives the store that kept it.
#[tokio::test]
async fn a_folder_carries_ends_to_the_next_start() {
    let (server, folder) = (durable(Engine::Redis), Scratch::new());
    let store = open_in(&server, &folder).await.expect("it opens");
    let ids = reservations(&store, 3, 100).await;
    let taken = open_in(&server, &folder).await;
    match taken.err() {
        Some(error @ RedisOpenError::Data { .. }) => {
            let told = error.to_string();
            assert!(told.contains("another process uses it"), "{told}");
            assert!(
                told.contains(&folder.path().display().to_string()),
                "{told}"
            );
        }
        other => panic!("{other:?}"),
    }
    server.kill();
    for id in &ids {
        assert_eq!(settle(&store, *id, 30).await, Err(kept(Outcome::Settled)));
    }
    drop(store);
    server.restart().expect("it comes back");
    let store = open_in(&server, &folder).await.expect("it opens");
    until_delivered(&store).await;
    assert_eq!(store.outage().settled, 3);
    assert_eq!(used(&store).await, 90);
    drop(store);
    let store = open_in(&server, &folder).await.expect("it opens");
    assert_eq!(store.outage().kept, 0);
    assert_eq!(used(&store).await, 90);
}

/// Named by the test that kills it; does nothing by itself.
const CHILD: &str = "TALLYGATE_TEST_KEEPER";

/// A process that is killed with what it could not deliver.
#[tokio::test]
async fn what_a_killed_process_kept_is_delivered_by_the_next() {
    if let Some(orders) = std::env::var_os(CHILD) {
        return keep_and_die(&orders.to_string_lossy()).await;
    }
    let (server, folder) = (durable(Engine::Redis), Scratch::new());
    let marker = folder.path().with_extension("ready");
    let orders = [
        url(&server),
        folder.path().display().to_string(),
        marker.display().to_string(),
    ];
    let name = "outages::keeping::what_a_killed_process_kept_is_delivered_by_the_next";
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, orders.join("|"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    wait_for(&marker, "reserved").await;
    server.kill();
    std::fs::write(&marker, "killed").expect("it is written");
    wait_for(&marker, "kept").await;
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    std::fs::remove_file(&marker).expect("it is removed");
    server.restart().expect("it comes back");
    let store = open_in(&server, &folder).await.expect("the folder is free");
    until_delivered(&store).await;
    assert_eq!(store.outage().settled, 50);
    assert_eq!(used(&store).await, 50 * 30);
}

async fn keep_and_die(orders: &str) {
    let [url, folder, marker] = orders.split('|').collect::<Vec<_>>()[..] else {
        panic!("{orders}");
    };
    let options = tallygate_store::RedisOptions::parse(url).expect("the URL is one");
    let policy = policy([quota("q", 100_000, StoreDown::Closed)]);
    let store = RedisStore::open(options.with_data(folder), &policy).await;
    let store = store.expect("the server is there");
    let ids = reservations(&store, 50, 100).await;
    let marker = std::path::Path::new(marker);
    std::fs::write(marker, "reserved").expect("it is written");
    wait_for(marker, "killed").await;
    let together = ids.iter().map(|id| settle(&store, *id, 30));
    for told in futures_util::future::join_all(together).await {
        assert_eq!(told, Err(kept(Outcome::Settled)));
    }
    std::fs::write(marker, "kept").expect("it is written");
    std::future::pending().await
}

async fn wait_for(marker: &std::path::Path, word: &str) {
    let seen = async {
        while !std::fs::read_to_string(marker).is_ok_and(|text| text == word) {
            tokio::task::yield_now().await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
    seen.unwrap_or_else(|_| panic!("`{word}` in time"));
}

/// The reservation is admitted by whoever asks again under the same idempotency key, or given back.
#[tokio::test]
async fn a_lost_answer_is_found_again_by_its_idempotency_key() {
    let server = durable(Engine::Redis);
    let store = open(&server, &policy([quota("q", 100, StoreDown::Closed)])).await;
    let named = Reserve {
        idempotency_key: Some("job-17"),
        max_wait: Duration::from_secs(20),
        ..ask(100)
    };
    server.pause().expect("it is paused");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.reserve(named).await }
    });
    until_up(&store, false).await;
    server.resume().expect("it goes on");
    let answer = waiting.await.expect("it is answered");
    assert!(matches!(answer, Ok(Decision::Admit(_))), "{answer:?}");
    until_delivered(&store).await;
    assert_eq!(used(&store).await, 100);
}
