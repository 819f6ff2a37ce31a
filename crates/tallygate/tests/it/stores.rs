//! `serve`, `check` and `explain` with counters on real servers, and on what is none.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tallygate_sim::servers::{Cluster, Engine, Sentinels, Server, free_port};
use tallygate_sim::{ApiCall, Client};

use crate::command::{Ran, run_with, tallygate};
use crate::documents::{blocks, document};
use crate::examples::{add_user, server_of_the_examples};
use crate::folder::Folder;
use crate::running::Running;

const SECRET: &str = "never-shown";

/// A configuration that counts on `store`, its listeners on free ports.
fn configuration(store: &str, rest: &str) -> String {
    // These tests share their machine with others, so that an answer may take its time.
    let patience = if store.contains('?') {
        "&timeout=10s"
    } else {
        "?timeout=10s"
    };
    let store = format!("{store}{patience}");
    format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nstore: \"{store}\"\n{rest}\n")
}

/// `serve` on a store that cannot be used: the one line that it says.
fn refused(store: &str) -> String {
    let ran = run_with(&["serve", "--config", "-"], &configuration(store, ""));
    told_once(&ran)
}

/// The only line of a failure of the store, nowhere a secret.
fn told_once(ran: &Ran) -> String {
    assert_eq!((ran.code, ran.stdout.as_str()), (8, ""), "{}", ran.stderr);
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{}", ran.stderr);
    ran.stderr.clone()
}

#[test]
fn nothing_that_listens_is_said_with_host_and_mend() {
    let host = format!("127.0.0.1:{}", free_port().expect("a port"));
    let line = refused(&format!("redis://:{SECRET}@{host}"));
    assert!(line.contains(&host), "{line}");
    assert!(line.contains("refused"), "{line}");
    assert!(line.contains("start it"), "{line}");
}

/// Something that answers each connection as a web server does.
fn web_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut some = [0; 512];
            drop(stream.read(&mut some));
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    addr
}

#[test]
fn a_port_that_speaks_another_protocol_is_said_to() {
    let host = web_server();
    let line = refused(&format!("redis://{host}"));
    assert!(line.contains(&host), "{line}");
    assert!(line.contains("is no Redis or Valkey"), "{line}");
}

#[test]
fn a_replica_is_said_to_be_one() {
    let primary = Server::start(Engine::Redis, &[]).expect("a server");
    let follow = format!("replicaof 127.0.0.1 {}", primary.port());
    let replica = Server::start(Engine::Redis, &[&follow]).expect("a server");
    let line = refused(&replica.url());
    assert!(line.contains(&replica.addr().to_string()), "{line}");
    assert!(line.contains("replica"), "{line}");
}

#[test]
fn a_wrong_password_is_said_to_be_wrong_and_not_shown() {
    let server = Server::start(Engine::Redis, &["requirepass right"]).expect("a server");
    let line = refused(&format!("redis://:{SECRET}@{}", server.addr()));
    assert!(line.contains(&server.addr().to_string()), "{line}");
    assert!(line.to_lowercase().contains("password"), "{line}");
}

#[test]
fn a_user_without_the_right_to_scripts_is_said_to_lack_it() {
    let server = Server::start(Engine::Redis, &[]).expect("a server");
    let rule = [
        "ACL",
        "SETUSER",
        "weak",
        "on",
        ">pw",
        "~tg:*",
        "&tg:*",
        "+@all",
        "-@scripting",
    ];
    server.command(&rule).expect("a user");
    let line = refused(&format!("redis://weak:pw@{}", server.addr()));
    assert!(line.contains("eval") || line.contains("script"), "{line}");
}

/// A gateway with its limits on `store`.
struct Gateway {
    running: Running,
    url: String,
    admin: String,
}

impl Gateway {
    fn start(folder: &Folder, store: &str, rest: &str) -> Self {
        let file = folder.path().join("tallygate.yaml");
        fs::write(&file, configuration(store, rest)).expect("a file");
        let mut running = Running::start(tallygate(&["serve", "--config"]).arg(&file));
        let url = running.said("gateway listening on ");
        let admin = running.said("admin listening on ");
        running.said("counting on redis");
        Self {
            running,
            url,
            admin,
        }
    }

    async fn chat(&self) -> u16 {
        let call = ApiCall::chat("gpt-4o", "Hello world").max_tokens(5);
        let reply = Client::new(&self.url).call(&call).await;
        reply.expect("an answer").status
    }

    async fn readiness(&self) -> (u16, String) {
        let reply = Client::new(&self.admin).get("/readyz").await;
        let reply = reply.expect("an answer");
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        (reply.status, text)
    }

    /// Asks the decision API.
    async fn decide(&self, what: &str, body: &str) -> (u16, Value) {
        let client = Client::new(&self.url);
        let path = format!("/tallygate/v1/{what}");
        let post = "POST".parse().expect("a method");
        let request = client.request(post, &path, body.to_owned().into());
        let opened = client
            .send(request.expect("a request"))
            .await
            .expect("an answer");
        let reply = opened.read().await.expect("an answer");
        (reply.status, reply.json())
    }

    /// What is left of the first limit.
    async fn left(&self) -> u64 {
        let reply = Client::new(&self.url).get("/tallygate/v1/limits").await;
        let told = reply.expect("an answer").json();
        told["limits"][0]["remaining"].as_u64().unwrap_or(0)
    }
}

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Limits behind a mock provider.
fn behind(mock: &mut Running, limits: &str) -> String {
    let upstream = mock.said("mock listening on ");
    format!(
        "upstreams: {{ openai: {{ dialect: openai, base_url: \"{upstream}/v1\", api_key: k }} }}\nlimits: [{limits}]"
    )
}

fn mock() -> Running {
    Running::start(&mut tallygate(&["mock", "--listen", "127.0.0.1:0"]))
}

const THREE: &str = "{ name: three, requests: 3, every: 8000h }";

#[tokio::test]
async fn two_instances_count_together() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("a server");
        let folder = Folder::new(&format!("together-{engine}"));
        let mut mock = mock();
        let rest = behind(&mut mock, THREE);
        let one = Gateway::start(&folder, &server.url(), &rest);
        let mut two = Gateway::start(&folder, &server.url(), &rest);
        two.running.logged("set `appendonly yes`");
        assert_eq!(
            [
                one.chat().await,
                two.chat().await,
                one.chat().await,
                two.chat().await,
                one.chat().await
            ],
            [200, 200, 200, 429, 429]
        );
        for gateway in [one, two] {
            assert_eq!(gateway.running.stop().0.code(), Some(0));
        }
    }
}

/// A reservation that one instance held by a model's price is settled by it at another, and one budget counts both.
#[tokio::test]
async fn a_reservation_is_charged_by_its_models_price_wherever_it_is_settled() {
    let server = Server::start(Engine::Redis, &[]).expect("a server");
    let folder = Folder::new("money");
    let rest = "prices: { models: { gpt-4o: { input: 2.50, output: 10.00 } } }\n\
                limits: [{ name: budget, cost: 0.02, every: month }]";
    let one = Gateway::start(&folder, &server.url(), rest);
    let two = Gateway::start(&folder, &server.url(), rest);
    let wish =
        json!({ "model": "gpt-4o", "demand": { "input_tokens": 1_000, "output_tokens": 1_000 } });
    let (status, held) = one.decide("reserve", &wish.to_string()).await;
    assert_eq!(
        (status, &held["reserved"]["cost"]),
        (200, &json!(12_500)),
        "{held}"
    );
    assert_eq!(
        two.decide("reserve", &wish.to_string()).await.0,
        429,
        "7,500 are left"
    );
    let used = json!({ "reservation": held["reservation"], "usage": { "input_tokens": 1_001, "output_tokens": 100 } });
    let (status, settled) = two.decide("settle", &used.to_string()).await;
    assert_eq!(
        (status, &settled["charged"]["cost"]),
        (200, &json!(3_503)),
        "{settled}"
    );
    assert_eq!((one.left().await, two.left().await), (16_497, 16_497));
    for gateway in [one, two] {
        assert_eq!(gateway.running.stop().0.code(), Some(0));
    }
}

/// What the user of the examples was refused at a server, but for the command that is tried to see whether it may.
fn refusals(server: &Server) -> Vec<Vec<String>> {
    let all: Vec<Vec<String>> = server.ask(&["ACL", "LOG"]).expect("an answer");
    let ours = |entry: &Vec<String>| entry.iter().any(|word| word == "tallygate");
    let is_tried = |entry: &Vec<String>| entry.iter().any(|word| word == "msetex");
    let refused = all.into_iter().filter(ours);
    refused.filter(|entry| !is_tried(entry)).collect()
}

/// Four calls at once pass one after the other, and a fifth does not, by a gateway that is the user of the examples.
async fn serves_as_the_user(name: &str, url: &str) {
    let folder = Folder::new(name);
    let mut mock = mock();
    let limits = "{ name: four, requests: 4, every: 8000h }, { name: slots, concurrency: 1, per: [user] }, \
         { name: hard, tokens: 10_000, every: day, shape: sliding, per: [model], store_down: share }";
    let rest = behind(&mut mock, limits);
    let gateway = Gateway::start(
        &folder,
        url,
        &format!("{rest}\nwaiting: {{ max_wait: 60s }}"),
    );
    let chat = || gateway.chat();
    let answers = tokio::join!(chat(), chat(), chat(), chat());
    assert_eq!(answers, (200, 200, 200, 200));
    assert_eq!(gateway.chat().await, 429);
    assert_eq!(gateway.running.stop().0.code(), Some(0));
}

#[tokio::test]
async fn the_user_of_the_examples_has_every_right_that_is_needed() {
    for engine in Engine::ALL {
        let server = server_of_the_examples(engine);
        let url = format!("redis://tallygate:password@{}", server.addr());
        serves_as_the_user(&format!("rights-{engine}"), &url).await;
        assert_eq!(refusals(&server), Vec::<Vec<String>>::new());
    }
}

#[tokio::test]
async fn the_user_has_every_right_on_a_cluster() {
    let cluster = Cluster::start(Engine::Valkey, 3, 0, &[]).expect("a cluster");
    cluster.nodes().iter().for_each(add_user);
    let nodes = cluster.url();
    let nodes = nodes.split_once("://").expect("a URL").1;
    let url = format!("redis+cluster://tallygate:password@{nodes}");
    serves_as_the_user("rights-cluster", &url).await;
    for node in cluster.nodes() {
        assert_eq!(refusals(node), Vec::<Vec<String>>::new());
    }
    let told = run_with(&["check", "--connect", "-"], &configuration(&url, ""));
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(
        told.stdout.matches("(cluster)").count(),
        3,
        "{}",
        told.stdout
    );
}

#[tokio::test]
async fn the_user_has_every_right_behind_sentinels() {
    let set = Sentinels::start(Engine::Redis, &[]).expect("a set");
    // Replicas and sentinels go on as the default user.
    set.servers().iter().for_each(add_user);
    let page = document("docs/redis.md");
    let shown = blocks(&page, "acl").remove(1);
    for sentinel in set.sentinels() {
        let words: Vec<&str> = shown.split_whitespace().collect();
        sentinel.command(&words).expect("a user");
    }
    let (nodes, master) = set
        .url()
        .split_once("://")
        .expect("a URL")
        .1
        .rsplit_once('/')
        .map(|(nodes, name)| (nodes.to_owned(), name.to_owned()))
        .expect("a name");
    let url = format!(
        "redis+sentinel://tallygate:password@{nodes}/{master}?sentinel_user=tallygate&sentinel_password=PASSWORD"
    );
    serves_as_the_user("rights-sentinel", &url).await;
    let watched = set.servers().iter().chain(set.sentinels());
    for server in watched {
        assert_eq!(refusals(server), Vec::<Vec<String>>::new());
    }
    let told = run_with(&["check", "--connect", "-"], &configuration(&url, ""));
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(
        told.stdout.matches("(sentinel)").count(),
        1,
        "{}",
        told.stdout
    );
}

/// A server that keeps every write.
fn lasting() -> Server {
    Server::start(Engine::Redis, &["appendonly yes", "appendfsync always"]).expect("a server")
}

#[tokio::test]
async fn a_store_that_goes_is_told_and_so_is_its_return() {
    let server = lasting();
    let folder = Folder::new("goes");
    let mut mock = mock();
    let closed = behind(&mut mock, "{ name: many, requests: 1000, every: 8000h }");
    let mut gateway = Gateway::start(&folder, &server.url(), &closed);
    assert_eq!(gateway.chat().await, 200);
    server.kill();
    assert_eq!(gateway.chat().await, 503);
    gateway.running.logged("the store cannot be reached");
    let (status, text) = gateway.readiness().await;
    assert_eq!(status, 503);
    assert!(text.contains("the store cannot be reached"), "{text}");
    server.restart().expect("back");
    gateway.running.logged("the store is back");
    assert_eq!(gateway.chat().await, 200);
    assert_eq!(gateway.readiness().await, (200, "ready\n".to_owned()));
}

#[tokio::test]
async fn what_the_store_could_not_be_told_outlives_the_process_in_the_data_folder() {
    let server = lasting();
    let folder = Folder::new("data");
    let data = folder.path().join("kept");
    let rest = format!(
        "data: {}\nlimits: [{{ name: all, tokens: 1000, every: 8000h }}]",
        data.display()
    );
    let gateway = Gateway::start(&folder, &server.url(), &rest);
    let held = gateway
        .decide("reserve", r#"{"demand": {"input_tokens": 700}}"#)
        .await;
    let id = &held.1["reservation"];
    server.kill();
    let used = format!(r#"{{"reservation": {id}, "usage": {{"input_tokens": 300}}}}"#);
    let (status, said) = gateway.decide("settle", &used).await;
    assert_eq!((status, &said["outcome"]), (202, &json!("kept")), "{said}");
    assert_eq!(gateway.running.stop().0.code(), Some(0));

    server.restart().expect("back");
    let gateway = Gateway::start(&folder, &server.url(), &rest);
    let settled = async {
        while gateway.left().await != 700 {
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(PATIENCE, settled).await;
    assert!(settled.is_ok(), "{} left", gateway.left().await);
}

#[test]
fn check_opens_the_store_when_asked_to() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("a server");
        let config = configuration(
            &server.url(),
            "limits: [{ name: all, requests: 5, every: 60s }]",
        );
        let offline = run_with(&["check", "-"], &config);
        assert_eq!(offline.code, 0);
        assert!(!offline.stdout.contains("version"), "{}", offline.stdout);
        let ran = run_with(&["check", "--connect", "-"], &config);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let version = server.info("server").expect("an answer")[version_of(engine)].clone();
        for said in [engine.to_string(), version.clone(), "standalone".to_owned()] {
            assert!(
                ran.stdout.contains(&said),
                "{said} is not in {}",
                ran.stdout
            );
        }
        assert!(ran.stderr.contains("appendonly"), "{}", ran.stderr);
        let told = run_with(&["check", "--connect", "--json", "-"], &config).json();
        assert_eq!(told["connected"]["servers"][0]["version"], version);
    }
}

fn version_of(engine: Engine) -> &'static str {
    match engine {
        Engine::Redis => "redis_version",
        Engine::Valkey => "valkey_version",
    }
}

#[test]
fn a_server_that_evicts_is_warned_of() {
    let server = Server::start(
        Engine::Redis,
        &[
            "maxmemory 100mb",
            "maxmemory-policy allkeys-lru",
            "appendonly yes",
        ],
    );
    let server = server.expect("a server");
    let ran = run_with(
        &["check", "--connect", "-"],
        &configuration(&server.url(), ""),
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("allkeys-lru"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("appendonly"), "{}", ran.stderr);
}

#[test]
fn check_says_why_a_store_cannot_be_used() {
    let config = configuration(&format!("redis://:{SECRET}@127.0.0.1:1"), "");
    assert_eq!(run_with(&["check", "-"], &config).code, 0);
    let ran = run_with(&["check", "--connect", "-"], &config);
    assert_eq!(ran.code, 8, "{}", ran.stdout);
    assert!(ran.stderr.contains("127.0.0.1:1"), "{}", ran.stderr);
    assert!(!ran.stderr.contains(SECRET), "{}", ran.stderr);
}

#[tokio::test]
async fn explain_reads_a_live_store() {
    let server = Server::start(Engine::Valkey, &[]).expect("a server");
    let folder = Folder::new("explain-live");
    let mut mock = mock();
    let rest = behind(&mut mock, THREE);
    let gateway = Gateway::start(&folder, &server.url(), &rest);
    assert_eq!(gateway.chat().await, 200);
    let file = folder.path().join("tallygate.yaml").display().to_string();
    let explain = |arguments: &[&str]| {
        run_with(
            &[&["explain", "--config", &file, "--json"], arguments].concat(),
            "",
        )
    };
    assert_eq!(explain(&[]).json()["limits"][0]["remaining"], 3);
    assert_eq!(explain(&["--connect"]).json()["limits"][0]["remaining"], 2);
    server.kill();
    assert_eq!(explain(&["--connect"]).code, 8);
}
