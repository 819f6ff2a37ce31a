//! `serve` and `mock` as an operator meets them: start, calls, reload, end.

use std::fs;
use std::net::TcpListener;

use tallygate_sim::{ApiCall, Client};

use crate::command::{run, run_with, tallygate};
use crate::documents::document;
use crate::folder::Folder;
use crate::running::Running;

/// A mock, a gateway in front of it, and the file the gateway watches.
struct Pair {
    mock: Running,
    gateway: Running,
    url: String,
    admin: String,
    folder: Folder,
    upstream: String,
}

impl Pair {
    fn start(name: &str, limits: &str) -> Self {
        let folder = Folder::new(name);
        let mut mock = Running::start(&mut tallygate(&["mock", "--listen", "127.0.0.1:0"]));
        let upstream = mock.said("mock listening on ");
        let file = folder.path().join("tallygate.yaml");
        fs::write(&file, configuration(&upstream, limits)).expect("a file");
        let mut gateway = Running::start(tallygate(&["serve", "--config"]).arg(&file));
        let url = gateway.said("gateway listening on ");
        let admin = gateway.said("admin listening on ");
        Self {
            mock,
            gateway,
            url,
            admin,
            folder,
            upstream,
        }
    }

    fn rewrite(&self, limits: &str) {
        // Put in place whole, as a careful tool does: a reload in between sees the old file or the new one.
        let (new, file) = (
            self.folder.path().join("new.yaml"),
            self.folder.path().join("tallygate.yaml"),
        );
        fs::write(&new, configuration(&self.upstream, limits)).expect("a file");
        fs::rename(new, file).expect("moved");
    }

    async fn chat(&self) -> u16 {
        let call = ApiCall::chat("gpt-4o", "Hello world").max_tokens(5);
        Client::new(&self.url)
            .call(&call)
            .await
            .expect("an answer")
            .status
    }
}

fn configuration(upstream: &str, limits: &str) -> String {
    format!(
        "listen: 127.0.0.1:0
admin: 127.0.0.1:0
upstreams:
  openai: {{ dialect: openai, base_url: \"{upstream}/v1\", api_key: upstream-key }}
limits: [{limits}]
"
    )
}

const TWO_AN_HOUR: &str = "{ name: hour, requests: 2, every: 1h }";

#[tokio::test]
async fn calls_pass_until_the_limit_and_a_stop_ends_both_with_0() {
    let pair = Pair::start("pass", TWO_AN_HOUR);
    assert_eq!(
        [pair.chat().await, pair.chat().await, pair.chat().await],
        [200, 200, 429]
    );
    let (gateway, _) = pair.gateway.stop();
    assert_eq!(gateway.code(), Some(0));
    let (mock, summary) = pair.mock.stop();
    assert_eq!(mock.code(), Some(0));
    assert!(summary.contains("calls admitted 2, served 2"), "{summary}");
}

#[tokio::test]
async fn a_changed_file_is_taken_over_and_a_wrong_one_is_not() {
    let mut pair = Pair::start("reload", TWO_AN_HOUR);
    assert_eq!(
        [pair.chat().await, pair.chat().await, pair.chat().await],
        [200, 200, 429]
    );

    pair.rewrite("{ name: hour, requests: 2, every: 1h }, { nam: oops }");
    pair.gateway.signal("HUP");
    pair.gateway.logged("the old configuration stays in force");
    assert_eq!(pair.chat().await, 429);

    pair.rewrite("{ name: hour, requests: 3, every: 1h }");
    pair.gateway.signal("HUP");
    pair.gateway.logged("a changed configuration is in force");
    assert_eq!(
        [pair.chat().await, pair.chat().await],
        [200, 429],
        "the counter was kept: one more fits"
    );
}

#[tokio::test]
async fn a_stop_waits_for_the_answer_under_way() {
    let pair = Pair::start("drain", "{ name: hour, requests: 100, every: 1h }");
    let call = ApiCall::chat("gpt-4o", "Hello world")
        .streamed_with_usage()
        .output(40);
    let call = call.header("x-mock-token-us", "20000");
    let mut opened = Client::new(&pair.url).open(&call).await.expect("an answer");
    assert!(opened.chunk().await.expect("a chunk").is_some());
    pair.gateway.signal("TERM");
    let reply = opened.read().await.expect("the rest");
    assert!(!reply.broken && reply.body.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(pair.gateway.ended().0.code(), Some(0));
}

#[tokio::test]
async fn a_second_stop_does_not_wait() {
    let mut pair = Pair::start("second", "{ name: hour, requests: 100, every: 1h }");
    let call = ApiCall::chat("gpt-4o", "Hello world")
        .streamed()
        .output(1000);
    let call = call.header("x-mock-token-us", "1000000");
    let mut opened = Client::new(&pair.url).open(&call).await.expect("an answer");
    assert!(opened.chunk().await.expect("a chunk").is_some());
    pair.gateway.signal("TERM");
    pair.gateway.logged("stopping");
    pair.gateway.signal("TERM");
    assert_eq!(pair.gateway.ended().0.code(), Some(1));
}

#[tokio::test]
async fn health_and_metrics_are_on_the_admin_listener_alone() {
    let pair = Pair::start("admin", TWO_AN_HOUR);
    assert_eq!(
        [pair.chat().await, pair.chat().await, pair.chat().await],
        [200, 200, 429]
    );
    let (admin, data) = (Client::new(&pair.admin), Client::new(&pair.url));
    for page in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            admin.get(page).await.expect("an answer").status,
            200,
            "{page}"
        );
        assert_ne!(
            data.get(page).await.expect("an answer").status,
            200,
            "{page}"
        );
    }
    let metrics = admin.get("/metrics").await.expect("an answer").body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let denied = metrics.lines().find(|line| {
        line.starts_with("tallygate_limit_decisions_total{") && line.contains("\"deny\"")
    });
    assert!(denied.is_some_and(|line| line.ends_with(" 1")), "{metrics}");
    let page = document("docs/metrics.md");
    for name in metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split_whitespace().next())
    {
        assert!(
            page.contains(&format!("`{name}")),
            "{name} is not in docs/metrics.md"
        );
    }
}

#[tokio::test]
async fn explain_asks_a_running_server() {
    let pair = Pair::start("explain-url", TWO_AN_HOUR);
    assert_eq!(pair.chat().await, 200);
    let file = pair
        .folder
        .path()
        .join("tallygate.yaml")
        .display()
        .to_string();
    let bare = run(&["explain", "--url", &pair.url, "--model", "gpt-4o", "--json"]).json();
    assert_eq!(bare["limits"][0]["remaining"], 1, "{bare:#}");
    let both = run(&[
        "explain", "--url", &pair.url, "--config", &file, "--model", "gpt-4o",
    ])
    .stdout;
    assert!(both.contains("hour: 2 requests every 1h, 1 left"), "{both}");
    assert!(
        both.contains("promises never more than 2 requests at once"),
        "{both}"
    );
}

#[test]
fn explain_tells_of_a_running_server_what_it_refuses_unread() {
    let pair = Pair::start("explain-unread", "{ name: hour, tokens: 9, every: 1h }");
    let file = pair.folder.path().join("tallygate.yaml");
    let file = file.display().to_string();
    for whom in [
        &["--admin", &pair.admin][..],
        &["--url", &pair.url, "--config", &file],
    ] {
        let text = run(&[&["explain"], whom].concat()).stdout;
        let said = "(403, unsized_call): batches, images, speech and the like\n  at openai: the limit `hour` counts tokens\n";
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn without_configuration_and_keys_it_says_what_to_do() {
    let ran = run(&["serve"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(
        ran.stderr.contains("OPENAI_API_KEY") && ran.stderr.contains("tallygate demo"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_providers_key_is_enough() {
    let mut command = tallygate(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut gateway = Running::start(command.env("OPENAI_API_KEY", "sk-test"));
    gateway.said("gateway listening on http://127.0.0.1:");
    gateway.said("dialect: openai");
    gateway.said("curl -i http://127.0.0.1:");
    let (status, rest) = gateway.stop();
    assert_eq!(status.code(), Some(0));
    assert!(!rest.contains("sk-test"));
}

#[test]
fn a_wrong_configuration_starts_nothing() {
    let ran = run_with(&["serve", "--config", "-"], "limitz: []\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(
        ran.stderr.contains("did you mean `limits`?"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_store_of_the_command_line_counts() {
    let file = "store: redis://127.0.0.1:1\nlisten: 127.0.0.1:0\nadmin: 127.0.0.1:0\n";
    let folder = Folder::new("store-flag");
    let path = folder.path().join("tallygate.yaml");
    fs::write(&path, file).expect("a file");
    let mut command = tallygate(&["serve", "--json", "--store", "memory", "--config"]);
    let mut gateway = Running::start(command.arg(&path));
    gateway.said(r#""store":"memory""#);

    let wrong = &["serve", "--config", "-", "--store", "redis://:never-shown@"];
    let ran = run_with(wrong, "listen: 127.0.0.1:0\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("has no host"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("never-shown"), "{}", ran.stderr);
}

#[test]
fn an_open_listener_needs_keys() {
    let ran = run_with(
        &["serve", "--config", "-", "--listen", "0.0.0.0:0"],
        "store: memory\n",
    );
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("keys"), "{}", ran.stderr);
}

#[test]
fn a_taken_address_is_said_to_be_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for command in [
        &["serve", "--config", "-", "--listen", &addr][..],
        &["mock", "--listen", &addr],
        &["demo", "--listen", &addr],
    ] {
        let ran = run_with(command, "store: memory\n");
        assert_eq!(ran.code, 5, "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&addr), "{}", ran.stderr);
    }
}

#[test]
fn a_program_learns_the_addresses_as_json() {
    let mut mock = Running::start(&mut tallygate(&[
        "mock",
        "--json",
        "--listen",
        "127.0.0.1:0",
    ]));
    mock.said(r#""event":"listening""#);
    let (status, rest) = mock.stop();
    assert!(status.success());
    let last: serde_json::Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(last["event"], "stopped");
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let folder = Folder::new("unread-log");
    let mut mock = Running::start(&mut tallygate(&["mock", "--listen", "127.0.0.1:0"]));
    let upstream = mock.said("mock listening on ");
    let file = folder.path().join("tallygate.yaml");
    let limits = "{ name: all, requests: 100, every: 8000h }";
    fs::write(&file, configuration(&upstream, limits)).expect("a file");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = tallygate(&["serve", "--config"]);
    command.arg(&file).env("TALLYGATE_LOG", "debug");
    let mut gateway = Running::start_with(&mut command, writer);
    let url = gateway.said("gateway listening on ");
    drop((reader, command));
    let call = ApiCall::chat("gpt-4o", "Hello world").max_tokens(5);
    let reply = Client::new(&url).call(&call).await.expect("an answer");
    assert_eq!(reply.status, 200);
    let (status, _) = gateway.stop();
    assert_eq!(status.code(), Some(0));
}
