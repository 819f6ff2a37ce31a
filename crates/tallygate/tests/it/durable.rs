//! `serve`, `check` and `explain` with counters in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value, json};
use tallygate_sim::Client;
use tokio::net::TcpListener;

use crate::command::{Ran, run, tallygate};
use crate::folder::Folder;
use crate::running::Running;

/// A folder with a configuration, and the data beside it.
struct Site {
    folder: Folder,
}

impl Site {
    fn new(name: &str, durability: &str) -> Self {
        let site = Self {
            folder: Folder::new(name),
        };
        let text = format!(
            "listen: 127.0.0.1:0\nadmin: none\nstore: {}\ndurability: {durability}\nlimits: [{{ name: month, per: [user], input_tokens: 1000, every: month }}]\n",
            site.data().display()
        );
        fs::write(site.config(), text).expect("a file");
        site
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("tallygate.yaml")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn serve(&self) -> (Running, Client) {
        let mut running = Running::start(tallygate(&["serve", "--config"]).arg(self.config()));
        let url = running.said("gateway listening on ");
        let counting = running.said("counting in ");
        assert_eq!(counting, self.data().display().to_string());
        (running, Client::new(&url))
    }

    /// `serve` on a folder that cannot be used: the one line that it says. `check --connect` says the same, and changes nothing.
    fn refused(&self) -> String {
        let before = self.all();
        let checked = self.checked();
        assert_eq!((checked.code, checked.stdout.as_str()), (8, ""));
        // Who has it in use may be writing.
        let is_in_use = checked.stderr.contains("is in use");
        assert!(is_in_use || self.all() == before, "{}", checked.stderr);
        let ran = run(&["serve", "--config", &self.config().display().to_string()]);
        assert_eq!((ran.code, ran.stdout.as_str()), (8, ""), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        // What the disk says to one who makes a folder it need not say to one who looks.
        let [checked, said] =
            [&checked, &ran].map(|ran| ran.stderr.split("cannot be used: ").next());
        assert_eq!(checked, said);
        ran.stderr
    }

    fn checked(&self) -> Ran {
        run(&["check", "--connect", &self.config().display().to_string()])
    }

    /// Every file that there is, when it was changed, and what is in it.
    fn all(&self) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut all = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let found = fs::metadata(&path).expect("it is there");
                let bytes = match found.is_dir() {
                    true => Vec::new(),
                    false => fs::read(&path).expect("a file"),
                };
                if found.is_dir() {
                    folders.push(path.clone());
                }
                let changed = found.modified().expect("a time");
                all.insert(path, (changed, bytes));
            }
        }
        all
    }
}

async fn decide(client: &Client, what: &str, body: Value) -> (u16, Value) {
    let path = format!("/tallygate/v1/{what}");
    let post = "POST".parse().expect("a method");
    let request = client.request(post, &path, body.to_string().into());
    let opened = client.send(request.expect("a request")).await;
    let reply = opened.expect("an answer").read().await.expect("an answer");
    (reply.status, reply.json())
}

async fn reserve(client: &Client, tokens: u64) -> (u16, Value) {
    let body = json!({ "subject": { "user": "alice" }, "demand": { "input_tokens": tokens } });
    decide(client, "reserve", body).await
}

/// Killed or stopped, the next one goes on where it was: counters, reservations and receipts.
#[tokio::test]
async fn the_next_process_goes_on_where_the_last_one_was() {
    for (durability, signal) in [("sync", "KILL"), ("relaxed", "TERM")] {
        let site = Site::new(&format!("goes-on-{durability}"), durability);
        let (running, client) = site.serve();
        let (status, ended) = reserve(&client, 300).await;
        assert_eq!(status, 200, "{ended}");
        let settle =
            json!({ "reservation": ended["reservation"], "usage": { "input_tokens": 200 } });
        let (status, receipt) = decide(&client, "settle", settle.clone()).await;
        assert_eq!(status, 200, "{receipt}");
        let (_, open) = reserve(&client, 700).await;
        running.signal(signal);
        running.ended();

        let (_running, client) = site.serve();
        let (status, denied) = reserve(&client, 101).await;
        assert_eq!(status, 429, "{denied}");
        assert_eq!(decide(&client, "settle", settle).await, (200, receipt));
        let cancel = json!({ "reservation": open["reservation"] });
        let (status, cancelled) = decide(&client, "cancel", cancel).await;
        assert_eq!(status, 200, "{cancelled}");
        assert_eq!(reserve(&client, 800).await.0, 200);
        assert_eq!(reserve(&client, 1).await.0, 429);
    }
}

#[tokio::test]
async fn a_folder_in_use_is_one_processs() {
    let site = Site::new("in-use", "relaxed");
    let (_running, client) = site.serve();
    let line = site.refused();
    assert!(
        line.contains("is in use by another process: stop it, or name another folder"),
        "{line}"
    );
    assert_eq!(reserve(&client, 400).await.0, 200, "the first one goes on");
    // It can be looked at, once the change is written.
    let config = site.config().display().to_string();
    let explain = [
        "explain",
        "--config",
        &config,
        "--connect",
        "user=alice",
        "--json",
    ];
    let told = loop {
        let ran = run(&explain);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let told = ran.json();
        if told["limits"][0]["remaining"] != 1000 {
            break told;
        }
    };
    assert_eq!(told["limits"][0]["remaining"], 600, "{told}");
    let checked = run(&["check", &config]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(
        checked
            .stdout
            .contains(&format!("counters in {}", site.data().display()))
    );
}

#[tokio::test]
async fn folders_that_cannot_be_used_are_said_to_be_with_their_mend() {
    let site = Site::new("refused", "sync");
    let (running, client) = site.serve();
    for _ in 0..3 {
        assert_eq!(reserve(&client, 10).await.0, 200);
    }
    running.signal("KILL");
    running.ended();
    let journal = site.data().join("counters/000000000001.journal");
    let good = fs::read(&journal).expect("a journal");
    let mut bad = good.clone();
    bad[40] ^= 1;
    fs::write(&journal, &bad).expect("it is written");
    let line = site.refused();
    assert!(
        line.contains("000000000001.journal is damaged at byte 28"),
        "{line}"
    );
    assert!(
        line.contains("bring the folder back from a backup"),
        "{line}"
    );
    fs::write(&journal, &good).expect("it is written");
    fs::write(site.data().join("FORMAT"), "tallygate 7\n").expect("it is written");
    let line = site.refused();
    assert!(
        line.contains("has format 7, and this version reads 1"),
        "{line}"
    );
    fs::remove_file(site.data().join("FORMAT")).expect("it is removed");
    let line = site.refused();
    assert!(line.contains("is not one of Tallygate's"), "{line}");
    assert!(
        line.contains("name another one, or one that is empty"),
        "{line}"
    );
    fs::write(site.data().join("FORMAT"), "tallygate 1\n").expect("it is written");
    let registry = site.data().join("registry.json");
    fs::write(&registry, r#"{"format":2,"crc32":"0","kept":{}}"#).expect("it is written");
    let line = site.refused();
    assert!(line.contains("registry.json is damaged"), "{line}");
    fs::remove_file(&registry).expect("it is removed");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |mode| fs::set_permissions(site.data(), fs::Permissions::from_mode(mode));
        mode(0o777).expect("it is ours");
        let line = site.refused();
        assert!(line.contains("every user of this machine"), "{line}");
        mode(0o700).expect("it is ours");
    }
    let checked = site.checked();
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    fs::remove_dir_all(site.data()).expect("it is removed");
    fs::write(site.data(), "a file").expect("it is written");
    assert!(site.refused().contains("cannot be used"));
}

/// Before it is made, and when it was.
#[tokio::test]
async fn a_folder_that_can_be_used_is_looked_at_and_left_as_it_is() {
    let site = Site::new("looked-at", "sync");
    let before = site.all();
    let new = site.checked();
    assert_eq!((new.code, new.stderr.as_str()), (0, ""));
    assert!(new.stdout.contains("the folder is new"), "{}", new.stdout);
    assert_eq!(site.all(), before, "it is not made");
    let (running, client) = site.serve();
    assert_eq!(reserve(&client, 10).await.0, 200);
    running.signal("TERM");
    running.ended();
    let before = site.all();
    let config = site.config().display().to_string();
    let told = run(&["check", "--connect", "--json", &config]).json();
    assert_eq!(
        told["connected"],
        json!({ "new": false, "keys": 0, "warnings": [] })
    );
    assert_eq!(site.all(), before);
}

/// A call that a killed gateway was serving holds no slot after it, and the next process says so.
#[tokio::test]
async fn a_call_that_a_killed_gateway_was_serving_is_over() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = upstream.local_addr().expect("it is bound").port();
    let site = Site::new("killed-serving", "sync");
    let data = site.data().display().to_string();
    let text = format!(
        "listen: 127.0.0.1:0\nadmin: none\nstore: {data}\ndurability: sync\nupstreams: {{ openai: {{ dialect: openai, base_url: \"http://127.0.0.1:{port}/v1\", api_key: sk-test }} }}\nlimits: [{{ name: flights, concurrency: 1 }}]\n"
    );
    fs::write(site.config(), text).expect("a file");
    let call = |client: Client| async move {
        let body =
            r#"{"model":"gpt-4o","max_tokens":5,"messages":[{"role":"user","content":"hello"}]}"#;
        let post = "POST".parse().expect("a method");
        let request = client.request(post, "/v1/chat/completions", body.into());
        client.send(request.expect("a request")).await.is_ok()
    };
    let (running, client) = site.serve();
    let first = tokio::spawn(call(client));
    // It never answers.
    let (_stalled, _) = upstream.accept().await.expect("the call arrives");
    running.signal("KILL");
    running.ended();
    assert!(!first.await.expect("it ends"), "nobody answered");

    let (mut running, client) = site.serve();
    running.logged("calls were being served when the last process was killed");
    let second = tokio::spawn(call(client));
    upstream.accept().await.expect("its place is free");
    second.abort();
}

/// Without the file of the keys everybody would be let in.
#[tokio::test]
async fn keys_that_are_missing_are_missed() {
    let site = Site::new("keys-missing", "sync");
    fs::create_dir_all(site.data()).expect("a folder");
    fs::write(site.data().join("FORMAT"), "tallygate 1\n").expect("it is written");
    fs::write(site.data().join("audit.jsonl"), "{}\n").expect("it is written");
    let line = site.refused();
    assert!(line.contains("registry.json is missing"), "{line}");
    assert!(line.contains("move both files away"), "{line}");
}
