//! A server alone.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use redis::Value;
use tallygate_sim::servers::{Engine, Server, ServerError};

#[test]
fn each_engine_answers_on_a_port_and_folder_of_its_own() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &["maxmemory 32mb"]).unwrap();
        assert_eq!(
            server.command(&["PING"]).unwrap(),
            Value::SimpleString("PONG".to_owned())
        );
        let info = server.info("server").unwrap();
        assert_eq!(
            info.contains_key("valkey_version"),
            engine == Engine::Valkey
        );
        assert_eq!(info["tcp_port"], server.port().to_string());
        assert_eq!(
            server.info("memory").unwrap()["maxmemory"],
            (32 << 20).to_string()
        );
        assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
        assert!(
            server
                .log()
                .unwrap()
                .contains("Ready to accept connections")
        );
        let folder = server.folder().to_owned();
        assert!(folder.join("server.conf").is_file());
        let addr = server.addr();
        drop(server);
        assert!(!folder.exists());
        assert!(TcpStream::connect(addr).is_err());
    }
}

#[test]
fn two_servers_share_nothing() {
    let one = Server::start(Engine::Valkey, &[]).unwrap();
    let other = Server::start(Engine::Valkey, &[]).unwrap();
    one.command(&["SET", "x", "1"]).unwrap();
    assert_eq!(other.command(&["GET", "x"]).unwrap(), Value::Nil);
}

#[test]
fn a_killed_server_forgets_and_a_persistent_one_remembers() {
    let forgetful = Server::start(Engine::Valkey, &[]).unwrap();
    let persistent =
        Server::start(Engine::Redis, &["appendonly yes", "appendfsync always"]).unwrap();
    for server in [&forgetful, &persistent] {
        server.command(&["SET", "x", "1"]).unwrap();
        server.kill();
        assert!(!server.is_running());
        assert!(matches!(
            server.command(&["PING"]),
            Err(ServerError::Command { .. })
        ));
        assert!(matches!(server.pause(), Err(ServerError::Stopped { .. })));
        let port = server.port();
        server.restart().unwrap();
        assert_eq!(server.port(), port);
    }
    assert_eq!(forgetful.command(&["GET", "x"]).unwrap(), Value::Nil);
    assert_eq!(
        persistent.command(&["GET", "x"]).unwrap(),
        Value::BulkString(b"1".to_vec())
    );
}

#[test]
fn a_stopped_server_says_goodbye_even_when_it_is_paused() {
    let server = Server::start(Engine::Redis, &[]).unwrap();
    server.pause().unwrap();
    server.stop().unwrap();
    assert!(!server.is_running());
    assert!(server.log().unwrap().contains("bye bye"));
    server.stop().unwrap();
}

#[test]
fn a_paused_server_takes_connections_and_answers_when_it_is_resumed() {
    let server = Server::start(Engine::Valkey, &[]).unwrap();
    let mut connection = server.connect().unwrap();
    server.pause().unwrap();
    assert!(TcpStream::connect(server.addr()).is_ok());
    connection
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert!(
        redis::cmd("PING")
            .query::<String>(&mut connection)
            .unwrap_err()
            .is_timeout()
    );
    assert!(server.is_running());
    server.resume().unwrap();
    assert_eq!(
        server.command(&["ECHO", "back"]).unwrap(),
        Value::BulkString(b"back".to_vec())
    );
}

#[test]
fn a_password_of_the_test_does_not_keep_the_frame_out() {
    let server = Server::start(Engine::Redis, &["requirepass secret"]).unwrap();
    server.command(&["SET", "x", "1"]).unwrap();
    let mut stranger = redis::Client::open(server.url())
        .unwrap()
        .get_connection()
        .unwrap();
    let refusal = redis::cmd("GET")
        .arg("x")
        .query::<String>(&mut stranger)
        .unwrap_err();
    assert_eq!(refusal.code(), Some("NOAUTH"));
}

#[test]
fn a_refused_command_is_said_with_its_reason_and_the_connection_stays() {
    let server = Server::start(Engine::Redis, &[]).unwrap();
    server.command(&["SET", "x", "word"]).unwrap();
    let before = server.info("stats").unwrap()["total_connections_received"].clone();
    let refusal = server.command(&["INCR", "x"]).unwrap_err().to_string();
    assert!(
        refusal.starts_with(&format!("`INCR x` on port {} failed: ", server.port())),
        "{refusal}"
    );
    assert!(refusal.contains("not an integer"), "{refusal}");
    assert_eq!(
        server.info("stats").unwrap()["total_connections_received"],
        before
    );
}

#[test]
fn a_wrong_line_of_configuration_is_said_in_the_words_of_the_server() {
    let refusal = Server::start(Engine::Valkey, &["no-such-thing yes"])
        .err()
        .unwrap();
    assert!(refusal.to_string().contains("no-such-thing"), "{refusal}");
}

#[test]
fn cpu_is_that_of_the_work_done() {
    let server = Server::start(Engine::Redis, &[]).unwrap();
    let before = server.used_cpu().unwrap();
    let began = Instant::now();
    server
        .command(&[
            "EVAL",
            "local n = 0 for i = 1, 3000000 do n = n + i end return n",
            "0",
        ])
        .unwrap();
    let took = began.elapsed();
    let used = server.used_cpu().unwrap() - before;
    assert!(
        used > Duration::from_millis(5) && used <= took + Duration::from_millis(20),
        "{used:?} of {took:?}"
    );
}
