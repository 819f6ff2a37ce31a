//! A cluster forms, moves slots, and loses a primary.

use std::time::Duration;

use redis::Value;
use tallygate_sim::servers::{Cluster, Engine, Server, ServerError};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_cluster_forms_and_moves_a_slot_with_its_keys() {
    let cluster = Cluster::start(Engine::Valkey, 3, 3, &["maxmemory 32mb"]).unwrap();
    let primaries = cluster.primaries().unwrap();
    assert_eq!((cluster.nodes().len(), primaries.len()), (6, 3));
    for primary in &primaries {
        assert_eq!(cluster.replicas_of(primary).unwrap().len(), 1);
    }
    assert_eq!(cluster.owner_of(0).unwrap().port(), primaries[0].port());
    assert_eq!(
        cluster.owner_of(16_383).unwrap().port(),
        primaries[2].port()
    );
    assert_eq!(cluster.url().matches(',').count(), 5);

    let slot = cluster.slot_of("{tag}x").unwrap();
    assert_eq!(cluster.slot_of("tag").unwrap(), slot);
    let from = cluster.owner_of(slot).unwrap();
    for number in 0..250 {
        let key = format!("{{tag}}{number}");
        from.command(&["SET", &key, "kept"]).unwrap();
    }
    let to = *primaries
        .iter()
        .find(|node| node.port() != from.port())
        .unwrap();

    let migration = cluster.begin_migration(slot, to).unwrap();
    assert_eq!(migration.from().port(), from.port());
    assert_eq!(get(from, "{tag}0").unwrap(), b"kept");
    assert_eq!(refusal(get(from, "{tag}new")), "ASK");
    assert_eq!(migration.move_keys().unwrap(), 250);
    assert_eq!(refusal(get(from, "{tag}0")), "ASK");
    migration.finish().unwrap();
    cluster.wait_until_well(PATIENCE).unwrap();

    assert_eq!(cluster.owner_of(slot).unwrap().port(), to.port());
    assert_eq!(refusal(get(from, "{tag}0")), "MOVED");
    for number in 0..250 {
        assert_eq!(get(to, &format!("{{tag}}{number}")).unwrap(), b"kept");
    }
}

#[test]
fn a_replica_takes_over_from_a_killed_primary_which_comes_back_as_its_replica() {
    let cluster = Cluster::start(Engine::Redis, 3, 3, &[]).unwrap();
    let replica = cluster
        .replicas_of(cluster.primaries().unwrap()[0])
        .unwrap()[0];
    let mut connection = cluster.primaries().unwrap()[0].connect().unwrap();
    let key = (0..).map(|number| format!("k{number}"));
    let key = key
        .into_iter()
        .find(|key| cluster.slot_of(key).unwrap() < 5000)
        .unwrap();
    redis::cmd("SET")
        .arg(&key)
        .arg("kept")
        .exec(&mut connection)
        .unwrap();
    let copies: i64 = redis::cmd("WAIT")
        .arg(1)
        .arg(5000)
        .query(&mut connection)
        .unwrap();
    assert_eq!(copies, 1);

    let killed = cluster.kill_primary(0).unwrap();
    assert!(!killed.is_running());
    assert!(cluster.owner_of(0).is_err());
    cluster.wait_until_well(PATIENCE).unwrap();
    assert_eq!(cluster.owner_of(0).unwrap().port(), replica.port());
    assert_eq!(get(replica, &key).unwrap(), b"kept");

    killed.restart().unwrap();
    cluster.wait_until_well(PATIENCE).unwrap();
    assert_eq!(cluster.owner_of(0).unwrap().port(), replica.port());
    assert_eq!(
        cluster.replicas_of(replica).unwrap()[0].port(),
        killed.port()
    );
}

fn get(node: &Server, key: &str) -> Result<Vec<u8>, ServerError> {
    match node.command(&["GET", key])? {
        Value::BulkString(text) => Ok(text),
        other => panic!("{key} is {other:?}"),
    }
}

/// The first word of the server's error.
fn refusal<T>(outcome: Result<T, ServerError>) -> String {
    match outcome.err().unwrap() {
        ServerError::Command { source, .. } => source.code().unwrap().to_owned(),
        other => panic!("{other}"),
    }
}
