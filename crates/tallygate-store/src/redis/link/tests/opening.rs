//! Servers that cannot be used, and what is said of them.
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};

use tallygate_sim::servers::{Cluster, Engine, Sentinels, Server};

use super::*;
use crate::redis::RedisOpenError;

async fn refusal(url: &str) -> RedisOpenError {
    match Link::open(&options(url), ADD).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => {
            let told = format!("{error} {error:?}");
            assert!(!told.contains("hunter2"), "{told}");
            error
        }
    }
}

fn user(server: &Server, rights: &[&str]) -> String {
    let words = [
        ["ACL", "SETUSER", "tally", "on", ">hunter2"].as_slice(),
        rights,
    ]
    .concat();
    server.command(&words).unwrap();
    format!("redis://tally:hunter2@{}", server.addr())
}

/// What a user must be allowed for the rehearsal.
const RIGHTS: [&str; 21] = [
    "~tg:*",
    "&tg:*",
    "+ping",
    "+info",
    "+eval",
    "+evalsha",
    "+time",
    "+subscribe",
    "+publish",
    "+pubsub|numsub",
    "+get",
    "+mget",
    "+set",
    "+setrange",
    "+del",
    "+pexpire",
    "+pexpireat",
    "+zadd",
    "+zrem",
    "+zrange",
    "+zrangebyscore",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let error = refusal(&format!("redis://{free}")).await;
    assert_eq!(
        error.to_string(),
        format!(
            "the store at {free} cannot be reached: Connection refused (os error 111); start it, or correct host and \
             port of the store URL"
        )
    );
    let host = "redis://no-such-host.invalid";
    assert!(matches!(
        refusal(host).await,
        RedisOpenError::Unreachable { .. }
    ));
    for scheme in ["redis+sentinel", "redis+cluster"] {
        let tail = if scheme.ends_with("l") { "/name" } else { "" };
        let error = refusal(&format!("{scheme}://{free},{free}{tail}")).await;
        assert!(
            matches!(error, RedisOpenError::Unreachable { .. }),
            "{error}"
        );
    }
}

/// A server that takes connections, and answers each line that begins a command with `answer`.
fn stranger(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut stream = stream;
            while let Some(Ok(line)) = lines.next() {
                if line.starts_with('*') && stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_else_there() {
    let web = stranger("HTTP/1.1 400 Bad Request\r\n\r\n");
    let error = refusal(&format!("redis://{web}")).await;
    let host = web.to_string();
    assert_eq!(error, RedisOpenError::NotRedis { host });
    let polite = stranger("+OK\r\n");
    let error = refusal(&format!("redis://{polite}")).await;
    assert!(matches!(error, RedisOpenError::NotRedis { .. }), "{error}");
    let mute = stranger("");
    let error = refusal(&format!("redis://{mute}?connect_timeout=50ms")).await;
    assert!(
        error.to_string().contains("no answer within 50ms"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_old() {
    let old = stranger("$45\r\n# Server\r\nredis_version:6.0.16\r\nrole:master\r\n\r\n");
    let error = refusal(&format!("redis://{old}")).await;
    let version = "6.0.16".to_owned();
    let host = old.to_string();
    assert_eq!(error, RedisOpenError::TooOld { host, version });
    assert!(error.to_string().ends_with("at least 6.2 is needed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_logins() {
    let server = started(Engine::Redis, &["requirepass hunter3"]);
    for login in ["", ":hunter2@", "nobody:hunter2@"] {
        let error = refusal(&format!("redis://{login}{}", server.addr())).await;
        assert!(matches!(error, RedisOpenError::Login { .. }), "{error}");
    }
    let link = opened(&format!("redis://:hunter3@{}/5", server.addr()), ADD).await;
    assert_eq!(sum(&link, &add(1, 1)).await, Ok(1));
    let error = refusal(&format!("redis://:hunter3@{}/99", server.addr())).await;
    assert!(matches!(error, RedisOpenError::Database { .. }), "{error}");
    let open = started(Engine::Valkey, &[]);
    let error = refusal(&format!("redis://:hunter2@{}", open.addr())).await;
    assert!(matches!(error, RedisOpenError::Login { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_lack() {
    for engine in Engine::ALL {
        let server = started(engine, &[]);
        let all = [&RIGHTS[..], &["+incrby", "+zremrangebyscore"]].concat();
        let url = user(&server, &all);
        let link = opened(&url, ADD).await;
        assert_eq!(sum(&link, &add(1, 1)).await, Ok(1));
        for (taken, what) in [("-info", "INFO"), ("-eval", "EVAL"), ("-set", "SET")] {
            let url = user(&server, &[&all[..], &[taken]].concat());
            let error = refusal(&url).await;
            assert!(
                matches!(&error, RedisOpenError::Permission { what: told, .. } if told.starts_with(what)),
                "{engine} {taken}: {error}"
            );
        }
        let url = user(&server, &[&all[..], &["-time"]].concat());
        let error = refusal(&url).await;
        assert!(
            matches!(error, RedisOpenError::ScriptTime { .. }),
            "{engine}: {error}"
        );
        let url = user(
            &server,
            &[
                &all[..],
                &[
                    "+time",
                    "resetkeys",
                    "~other:*",
                    "resetchannels",
                    "&other:*",
                ],
            ]
            .concat(),
        );
        let error = refusal(&url).await;
        assert!(
            matches!(error, RedisOpenError::Permission { .. }),
            "{engine}: {error}"
        );
        let other = opened(&format!("{url}?prefix=other"), "return 1").await;
        assert_eq!(other.ping().await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_are_written_at_one_go_by_who_can_and_may() {
    for engine in Engine::ALL {
        let server = started(engine, &[]);
        let can = engine == Engine::Valkey;
        let link = opened(&server.url(), "return 1").await;
        assert_eq!(link.findings().write_many(), can, "{engine}");
        let rights = [&RIGHTS[..], &["+zremrangebyscore"]].concat();
        let link = opened(&user(&server, &rights), "return 1").await;
        assert!(!link.findings().write_many(), "{engine}");
        if can {
            let url = user(&server, &[&rights[..], &["+msetex"]].concat());
            assert!(opened(&url, "return 1").await.findings().write_many());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_taken_away() {
    let server = started(Engine::Redis, &["rename-command EVAL \"\""]);
    let error = refusal(&server.url()).await;
    assert!(matches!(error, RedisOpenError::Scripts { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica() {
    let watched = Sentinels::start(Engine::Valkey, &[]).unwrap();
    let primary = watched.primary().unwrap().addr().to_string();
    let replica = watched.replica().unwrap();
    let error = refusal(&replica.url()).await;
    let host = replica.addr().to_string();
    let primary = Some(primary);
    assert_eq!(error, RedisOpenError::Replica { host, primary });
    let sentinel = watched.sentinels()[0].addr();
    let error = refusal(&format!("redis://{sentinel}")).await;
    assert!(matches!(error, RedisOpenError::Sentinel { .. }), "{error}");
    let error = refusal(&format!("redis+sentinel://{sentinel}/other")).await;
    assert!(
        matches!(error, RedisOpenError::UnknownMaster { .. }),
        "{error}"
    );
    let error = refusal(&format!("redis+sentinel://{}/m", replica.addr())).await;
    assert!(
        matches!(error, RedisOpenError::NoSentinel { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_memory() {
    for engine in Engine::ALL {
        let server = started(engine, &["maxmemory 1"]);
        let error = refusal(&server.url()).await;
        assert!(matches!(error, RedisOpenError::Full { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_forget_are_warned_of() {
    for (settings, word) in [
        (
            ["maxmemory-policy allkeys-lru", "appendonly yes"],
            Some("maxmemory-policy allkeys-lru"),
        ),
        (
            ["maxmemory-policy noeviction", "appendonly no"],
            Some("appendonly no"),
        ),
        (["maxmemory-policy noeviction", "appendonly yes"], None),
    ] {
        let server = started(Engine::Valkey, &settings);
        let link = opened(&server.url(), ADD).await;
        let warnings = &link.findings().warnings;
        assert_eq!(warnings.len(), usize::from(word.is_some()), "{warnings:?}");
        assert!(
            warnings
                .iter()
                .zip(word)
                .all(|(told, word)| told.contains(word)),
            "{warnings:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_told_by_engine_and_version() {
    for (engine, version) in [
        (Engine::Redis, "redis_version"),
        (Engine::Valkey, "valkey_version"),
    ] {
        let server = started(engine, &[]);
        let link = opened(&server.url(), ADD).await;
        let found = link.findings();
        let [seen] = &found.servers[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (found.topology, &seen.host),
            ("standalone", &server.addr().to_string())
        );
        let info = server.info("server").unwrap();
        assert_eq!(
            (seen.engine, &seen.version),
            (engine.to_string().as_str(), &info[version])
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_for_a_server_and_a_server_for_a_cluster() {
    let cluster = Cluster::start(Engine::Redis, 3, 0, &[]).unwrap();
    let node = cluster.nodes()[1].addr();
    let error = refusal(&format!("redis://{node}")).await;
    let host = node.to_string();
    assert_eq!(error, RedisOpenError::Cluster { host });
    assert!(
        error
            .to_string()
            .ends_with(&format!("write redis+cluster://{node}"))
    );
    let server = started(Engine::Redis, &[]);
    let error = refusal(&format!("redis+cluster://{}", server.addr())).await;
    let host = server.addr().to_string();
    assert_eq!(error, RedisOpenError::NoCluster { host });
    cluster.nodes()[0]
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .unwrap();
    let error = refusal(&cluster.url()).await;
    assert!(matches!(error, RedisOpenError::Full { .. }), "{error}");
}
