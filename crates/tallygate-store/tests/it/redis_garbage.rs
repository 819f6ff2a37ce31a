//! Keys that something else than Tallygate has written to.
use crate::support::{open_redis, policy};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tallygate_core::{Amounts, Calendar, Decision, Metric, Shape};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{
    RedisStore, Reserve, SettledBy, Settlement, Store, StoreError, StoreHealth, WaitsFor,
};

async fn open(server: &Server) -> Arc<RedisStore> {
    let month = Shape::Fixed {
        window: Calendar::Month,
        timezone: jiff::tz::TimeZone::UTC,
    };
    open_redis(server, &policy(&[(Metric::TOKENS, 1_000, month)])).await
}

async fn ask(store: &RedisStore, user: &str) -> Result<Decision, StoreError> {
    let reserve = Reserve {
        subject: &[("user", user)],
        demand: Amounts::ZERO.with(Metric::TOKENS, 1),
        ttl: Duration::from_secs(600),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    store.reserve(reserve).await
}

fn admitted(answer: &Result<Decision, StoreError>) -> bool {
    matches!(answer, Ok(Decision::Admit(_)))
}

fn refused(answer: &Result<Decision, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Down { reason, .. }) if reason.contains("holds no counter"))
}

#[tokio::test]
async fn a_counter_that_cannot_be_read_stops_nobody_elses() {
    let server = Server::start(Engine::Redis, &[]).expect("redis-server starts");
    let store = open(&server).await;
    let Ok(Decision::Admit(admission)) = ask(&store, "victim").await else {
        panic!("there is room");
    };
    let mut connection = server.connect().expect("it answers");
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut connection)
        .expect("it answers");
    // `prefix:{tag}a` and a name of sixteen bytes.
    let is_account = |key: &&Vec<u8>| key.get(key.len().wrapping_sub(17)) == Some(&b'a');
    let account = keys.iter().find(is_account).expect("it is counted");
    let right: Vec<u8> = redis::cmd("GET")
        .arg(account)
        .query(&mut connection)
        .expect("it is there");
    // As a later version may keep it: with something more behind it.
    let later = [&right[..], b"v\0"].concat();
    let wrongs = [
        &b"garbage"[..],
        b"",
        &[255; 400],
        &right[..right.len() - 1],
        &later[..],
    ];
    for wrong in wrongs {
        let set = redis::cmd("SET").arg(account).arg(wrong).to_owned();
        set.exec(&mut connection).expect("it is set");
        let users: Vec<String> = (0..40).map(|user| format!("user-{user}")).collect();
        let others = users.iter().map(|user| ask(&store, user));
        let (others, victim) = tokio::join!(join_all(others), ask(&store, "victim"));
        assert!(refused(&victim), "{victim:?}");
        assert!(others.iter().all(admitted), "{others:?}");
    }
    let told = store.outage();
    assert_eq!(told.kept, 0, "nothing was done, so nothing is withdrawn");
    assert_eq!(told.unreadable, wrongs.len() as u64);
    assert_eq!(store.health(), StoreHealth::Up);
    let restore = redis::cmd("SET").arg(account).arg(right).to_owned();
    restore.exec(&mut connection).expect("it is set");
    let used = Settlement::Exact(Amounts::ZERO.with(Metric::TOKENS, 1));
    store.settle(admission.id, used).await.expect("it is open");
    assert!(admitted(&ask(&store, "victim").await));
}
