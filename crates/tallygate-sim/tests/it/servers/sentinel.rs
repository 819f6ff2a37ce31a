//! Sentinels make the replica the primary when the primary dies.

use std::time::Duration;

use tallygate_sim::servers::{Engine, Sentinels};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_replica_takes_over_from_a_killed_primary_which_comes_back_as_its_replica() {
    let watched = Sentinels::start(Engine::Redis, &["maxmemory 32mb"]).unwrap();
    let (primary, replica) = (watched.primary().unwrap(), watched.replica().unwrap());
    assert_eq!(primary.port(), watched.servers()[0].port());
    assert_eq!(
        replica.info("memory").unwrap()["maxmemory"],
        (32 << 20).to_string()
    );
    let head = format!("redis+sentinel://{},", watched.sentinels()[0].addr());
    assert!(watched.url().starts_with(&head));
    assert!(watched.url().ends_with("/tallygate"));
    assert_eq!(watched.master_name(), "tallygate");
    let mut connection = primary.connect().unwrap();
    redis::cmd("SET")
        .arg(&["x", "kept"])
        .exec(&mut connection)
        .unwrap();
    let wait = redis::cmd("WAIT")
        .arg(&[1, 5000])
        .query::<i64>(&mut connection);
    assert_eq!(wait.unwrap(), 1);

    let killed = watched.kill_primary().unwrap();
    assert_eq!(killed.port(), primary.port());
    watched.wait_for_another_than(killed, PATIENCE).unwrap();
    assert_eq!(watched.primary().unwrap().port(), replica.port());
    assert_eq!(watched.replica().unwrap().port(), killed.port());
    assert_eq!(replica.ask::<String>(&["GET", "x"]).unwrap(), "kept");

    killed.restart().unwrap();
    watched.wait_until_well(PATIENCE).unwrap();
    assert_eq!(killed.info("replication").unwrap()["role"], "slave");
    assert_eq!(killed.ask::<String>(&["GET", "x"]).unwrap(), "kept");
}

#[test]
fn the_servers_of_valkey_are_watched_as_well() {
    let watched = Sentinels::start(Engine::Valkey, &[]).unwrap();
    for sentinel in watched.sentinels() {
        let info = sentinel.info("server").unwrap();
        assert!(info.contains_key("valkey_version"));
    }
    assert_eq!(
        watched.replica().unwrap().port(),
        watched.servers()[1].port()
    );
}
