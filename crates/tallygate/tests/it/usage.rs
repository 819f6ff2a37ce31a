//! Usage from the command line: of a running server, and of a folder.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tallygate_sim::{ApiCall, Client, Mock, MockOptions};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::command::{Ran, run, tallygate};
use crate::folder::Folder;
use crate::running::Running;

/// A server that counts in a folder, and the addresses of its listeners.
fn serve(folder: &Folder) -> (Running, String, String) {
    serve_with(
        folder,
        "limits: [{ name: day, per: [tenant], tokens: 1000, every: day }]",
    )
}

/// The same with these settings besides.
fn serve_with(folder: &Folder, settings: &str) -> (Running, String, String) {
    let store = folder.path().join("data");
    let settings = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nstore: {}\n{settings}\n",
        store.display()
    );
    let file = folder.path().join("tallygate.yaml");
    std::fs::write(&file, settings).expect("writable");
    let file = file.display().to_string();
    let mut running = Running::start(&mut tallygate(&["serve", "--config", &file]));
    let data = running.said("gateway listening on ");
    let admin = running.said("admin listening on ");
    (running, data, admin)
}

async fn post(data: &str, operation: &str, body: Value) -> Value {
    let told = tried(&Client::new(data), operation, body).await;
    told.expect("an answer")
}

/// `None`: the server has gone.
async fn tried(client: &Client, operation: &str, body: Value) -> Option<Value> {
    let path = format!("/tallygate/v1/{operation}");
    let request = client.request(
        "POST".parse().expect("a method"),
        &path,
        body.to_string().into(),
    );
    let opened = client.send(request.expect("a request")).await.ok()?;
    let reply = opened.read().await.ok()?;
    (!reply.broken).then(|| reply.json())
}

/// Two settled calls and a denied one.
async fn calls(data: &str) {
    for (tenant, input) in [("acme", 300), ("globex", 20)] {
        let demand = json!({ "subject": { "tenant": tenant }, "model": "gpt-4o", "demand": { "tokens": 400 } });
        let held = post(data, "reserve", demand).await;
        let usage = json!({ "input_tokens": input, "output_tokens": 7 });
        post(
            data,
            "settle",
            json!({ "reservation": held["reservation"], "usage": usage }),
        )
        .await;
    }
    let demand =
        json!({ "subject": { "tenant": "acme" }, "model": "gpt-4o", "demand": { "tokens": 900 } });
    assert_eq!(post(data, "reserve", demand).await["decision"], "deny");
}

fn totals(ran: &Ran) -> (u64, u64, u64) {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let totals = &ran.json()["totals"];
    let sum = |name: &str| totals[name].as_u64().expect("a sum");
    (sum("calls"), sum("tokens"), sum("denied"))
}

#[tokio::test]
async fn usage_is_told_by_a_server_and_by_its_folder_before_and_after_a_kill() {
    let folder = Folder::new("usage");
    let (running, data, admin) = serve(&folder);
    calls(&data).await;
    let remote = run(&["usage", "--admin", &admin, "--json"]);
    assert_eq!(totals(&remote), (3, 334, 1));

    let table = run(&["usage", "--admin", &admin, "--by", "tenant", "tenant=acme"]).stdout;
    let row = table
        .lines()
        .find(|line| line.starts_with("acme"))
        .expect("a row");
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>()[..6],
        ["acme", "2", "1", "0", "300", "7"],
        "{table}"
    );
    assert!(
        table.contains("refused") && table.contains("900 tokens"),
        "{table}"
    );

    let csv = run(&[
        "usage",
        "--admin",
        &admin,
        "--by",
        "tenant,outcome",
        "--csv",
    ])
    .stdout;
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(csv.contains("\nglobex,settled,1,1,0,0,20,"), "{csv}");

    // What a server has told is in its folder, and read there while it runs.
    let store = folder.path().join("data").display().to_string();
    let local = ["usage", "--data", &store, "--json"];
    assert_eq!(totals(&run(&local)), (3, 334, 1));
    running.signal("KILL");
    assert_eq!(totals(&run(&local)), (3, 334, 1));

    let (running, _, admin) = serve(&folder);
    assert_eq!(
        totals(&run(&["usage", "--admin", &admin, "--json"])),
        (3, 334, 1)
    );
    running.stop();
}

/// Callers at once, and what they were answered.
#[derive(Default)]
struct Load {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    /// Woken with each.
    news: Notify,
}

impl Load {
    const CALLERS: usize = 8;

    /// Reserves and settles until the server has gone.
    async fn call(&self, data: &str) {
        let client = Client::new(data);
        let ask = json!({ "subject": { "tenant": "acme" }, "demand": { "tokens": 5 } });
        while let Some(held) = tried(&client, "reserve", ask.clone()).await {
            let settle = json!({ "reservation": held["reservation"], "usage": { "tokens": 3 } });
            self.sent.fetch_add(1, Ordering::SeqCst);
            let told = tried(&client, "settle", settle).await;
            if told.is_some_and(|told| told["outcome"] == "settled") {
                self.acknowledged.fetch_add(1, Ordering::SeqCst);
                self.news.notify_one();
            }
        }
    }

    /// Returns when so many were acknowledged.
    async fn reaches(&self, many: u64) {
        while self.acknowledged.load(Ordering::SeqCst) < many {
            self.news.notified().await;
        }
    }
}

#[tokio::test]
async fn no_acknowledged_settle_is_missing_after_kills() {
    let folder = Folder::new("usage-killed");
    let load = Arc::new(Load::default());
    let store = folder.path().join("data").display().to_string();
    for round in 1..=3 {
        let settings = "durability: sync\nlimits: [{ name: day, per: [tenant], tokens: 1_000_000, every: day }]";
        let (running, data, _) = serve_with(&folder, settings);
        let mut callers = JoinSet::new();
        for _ in 0..Load::CALLERS {
            let (load, data) = (Arc::clone(&load), data.clone());
            callers.spawn(async move { load.call(&data).await });
        }
        load.reaches(round * 40).await;
        running.signal("KILL");
        running.ended();
        callers.join_all().await;

        let told = run(&["usage", "--data", &store, "--json", "outcome=settled"]);
        let (calls, tokens, _) = totals(&told);
        let (acknowledged, sent) = (&load.acknowledged, &load.sent);
        let all = acknowledged.load(Ordering::SeqCst)..=sent.load(Ordering::SeqCst);
        assert!(all.contains(&calls), "{calls} of {all:?}");
        assert_eq!(tokens, 3 * calls);
    }
}

/// Whose a reservation is outlives the process that made it.
#[tokio::test]
async fn what_ends_after_a_kill_is_recorded_for_whoever_reserved() {
    let folder = Folder::new("usage-resumed");
    let settings = "durability: sync
upstreams: { openai: { dialect: openai, base_url: 'http://127.0.0.1:9/v1', api_key: none } }
models: { gpt-4o: { upstream: openai }, gpt-4o-mini: { upstream: openai } }
tiers:
  pro: { limits: [{ name: pro-day, when: { model: gpt-4o }, tokens: 50, every: day }], downgrade: [gpt-4o-mini] }
limits: [{ name: day, per: [tenant], tokens: 100_000, every: day }]";
    let (running, data, _) = serve_with(&folder, settings);
    let mut held = Vec::new();
    for (tenant, ttl) in [("acme", 600_000), ("globex", 600_000), ("late", 1)] {
        let demand = json!({
            "subject": { "tenant": tenant, "tier": "pro" }, "model": "gpt-4o", "ttl_ms": ttl,
            "demand": { "input_tokens": 90, "output_tokens": 10 },
        });
        let told = post(&data, "reserve", demand).await;
        assert_eq!(told["decision"], "downgrade", "{told}");
        held.push(told["reservation"].clone());
    }
    running.signal("KILL");
    running.ended();

    let (running, data, admin) = serve_with(&folder, settings);
    let usage = json!({ "input_tokens": 30, "output_tokens": 7 });
    for _ in 0..2 {
        let settle = json!({ "reservation": held[0], "usage": usage });
        post(&data, "settle", settle).await;
        post(&data, "cancel", json!({ "reservation": held[1] })).await;
    }
    let by = [
        "usage",
        "--admin",
        &admin,
        "--by",
        "tenant,outcome,asked,model",
        "--csv",
    ];
    let csv = loop {
        let csv = run(&by).stdout;
        if csv.lines().count() > 3 {
            break csv;
        }
    };
    for row in [
        "acme,settled,gpt-4o,gpt-4o-mini,1,1,0,1,30,",
        "globex,cancelled,gpt-4o,gpt-4o-mini,1,1,0,1,0,",
        "late,expired,gpt-4o,gpt-4o-mini,1,1,0,1,90,",
    ] {
        assert!(csv.contains(&format!("\n{row}")), "{row} in {csv}");
    }
    assert_eq!(csv.lines().count(), 4, "{csv}");
    running.stop();
}

/// What the command says until it has this many rows.
fn rows(by: &[&str], many: usize) -> String {
    loop {
        let csv = run(by).stdout;
        if csv.lines().count() > many {
            return csv;
        }
    }
}

/// What was held for a call that was being served when its gateway was killed counts as used, and is in the ledger once.
#[tokio::test]
async fn a_call_of_a_killed_gateway_is_recorded_once() {
    let options = MockOptions {
        max_stall: Duration::from_secs(3_600),
        ..MockOptions::default()
    };
    let mock = Mock::start(([127, 0, 0, 1], 0).into(), options).await;
    let mock = mock.expect("a mock");
    let settings = format!(
        "durability: sync
upstreams: {{ openai: {{ dialect: openai, base_url: 'http://{}/v1', api_key: none }} }}
models: {{ gpt-4o: {{ upstream: openai, output_estimate: max_tokens }} }}
limits: [{{ name: day, per: [tenant], tokens: 100_000, every: day }}]
identify: {{ trust_headers: true }}",
        mock.addr()
    );
    let folder = Folder::new("usage-orphans");
    let memos = folder.path().join("data/usage/open.memos");
    let has_memo_of = |tenant: &str| {
        let bytes = std::fs::read(&memos).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(tenant)
    };
    for tenant in ["acme", "globex"] {
        let (running, data, admin) = serve_with(&folder, &settings);
        if tenant == "globex" {
            let by = [
                "usage",
                "--admin",
                &admin,
                "--by",
                "tenant,outcome",
                "--csv",
            ];
            assert!(rows(&by, 1).contains("\nacme,expired,1,"));
        }
        let call = ApiCall::chat("gpt-4o", "Hello world").max_tokens(100);
        let call = call.streamed().output(50).header("x-mock-stall-after", "5");
        let call = call.header("x-tallygate-tenant", tenant);
        let client = Client::new(&data);
        let mut stalled = client.open(&call).await.expect("an answer");
        assert!(stalled.chunk().await.is_ok_and(|piece| piece.is_some()));
        while !has_memo_of(tenant) {
            tokio::task::yield_now().await;
        }
        running.signal("KILL");
        running.ended();
    }
    let (running, _, admin) = serve_with(&folder, &settings);
    let by = [
        "usage",
        "--admin",
        &admin,
        "--by",
        "tenant,model,outcome,method",
        "--csv",
    ];
    let csv = rows(&by, 2);
    for tenant in ["acme", "globex"] {
        // 9 tokens, and the 100 that it may have written.
        let row = format!("\n{tenant},gpt-4o,expired,kept,1,1,0,0,9,0,0,100,0,109,");
        assert!(csv.contains(&row), "{row} in {csv}");
    }
    assert_eq!(csv.lines().count(), 3, "{csv}");
    running.stop();
}

#[test]
fn what_cannot_be_asked_is_told_with_its_mend() {
    let nowhere = run(&["usage", "--data", "nowhere"]);
    assert_eq!(nowhere.code, 8, "{}", nowhere.stderr);
    let folder = Folder::new("usage-wrong");
    std::fs::write(folder.path().join("FORMAT"), "tallygate 1\n").expect("writable");
    let path = folder.path().display().to_string();
    let moment = run(&["usage", "--data", &path, "--from", "yesterday"]);
    assert_eq!(moment.code, 2);
    assert!(
        moment.stderr.contains("`from` must be a date"),
        "{}",
        moment.stderr
    );
    assert_eq!(
        totals(&run(&["usage", "--data", &path, "--json"])),
        (0, 0, 0)
    );
    assert_eq!(run(&["usage", "tenant"]).code, 2);
}

/// A server that answers one question with this.
fn answering(body: &Value) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let body = body.to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a question");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a whole head");
            asked.push(byte[0]);
        }
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stream
            .write_all((head + &body).as_bytes())
            .expect("it is read");
    });
    format!("http://{addr}")
}

/// A report with more groups than rows is told to be one; comma-separated values, which have no totals, are none then.
#[test]
fn more_groups_than_rows_are_told_with_their_mend() {
    let report = json!({
        "by": ["user"], "from": null, "to": null, "timezone": "UTC", "rows": [], "damaged": 0,
        "totals": { "savings": {} }, "formulas": {}, "calls_without_row": 900_000,
    });
    let told = run(&[
        "usage",
        "--admin",
        &answering(&report),
        "--by",
        "user",
        "--json",
    ]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(
        told.stderr.contains("calls without one are 900000"),
        "{}",
        told.stderr
    );
    assert!(
        told.stderr.contains("ask for less in --by"),
        "{}",
        told.stderr
    );
    let refused = run(&[
        "usage",
        "--admin",
        &answering(&report),
        "--by",
        "user",
        "--csv",
    ]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(
        refused.stderr.contains("ask for less in --by"),
        "{}",
        refused.stderr
    );
}
