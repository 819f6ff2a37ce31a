//! A server that comes back and has forgotten everything: the hard bound on what is admitted once more.
use super::fleet::{ask, policy, quota, three, until_up};
use std::time::Duration;
use tallygate_core::{Decision, StoreDown};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::Store;

/// One limit more for each time it forgets, however many processes and calls there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_admitted_once_more_and_no_more() {
    const LIMIT: u64 = 1_000;
    let server = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    let stores = three(&server, &policy([quota("q", LIMIT, StoreDown::Closed)])).await;
    let mut callers = Vec::new();
    for at in 0..9 {
        let store = stores[at % 3].clone();
        callers.push(tokio::spawn(async move {
            let (mut admitted, mut denials) = (0, 0);
            while denials < 200 {
                match store.reserve(ask(2)).await {
                    Ok(Decision::Admit(_)) => admitted += 2,
                    Ok(_) => denials += 1,
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(5)).await; // tidy: sleeps because callers come at a pace
            }
            admitted
        }));
    }
    while stores[0].stats().reservations < 100 {
        tokio::task::yield_now().await;
    }
    server.kill();
    until_up(&stores[0], false).await;
    server.restart().expect("it comes back");
    let mut admitted = 0;
    for caller in callers {
        admitted += caller.await.expect("it ends");
    }
    eprintln!("{admitted} of {LIMIT} admitted, with one loss of all");
    assert!(admitted > LIMIT, "nothing was lost: the test shows nothing");
    assert!(admitted <= 2 * LIMIT, "{admitted}");
}
