//! Usage from the command line: of a running server, and of a folder.

use serde_json::{Value, json};
use tallygate_sim::Client;

use crate::command::{Ran, run, tallygate};
use crate::folder::Folder;
use crate::running::Running;

/// A server that counts in a folder, and the addresses of its listeners.
fn serve(folder: &Folder) -> (Running, String, String) {
    let store = folder.path().join("data");
    let settings = format!(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nstore: {}\nlimits: [{{ name: day, per: [tenant], tokens: 1000, every: day }}]\n",
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
    let client = Client::new(data);
    let path = format!("/tallygate/v1/{operation}");
    let request = client.request(
        "POST".parse().expect("a method"),
        &path,
        body.to_string().into(),
    );
    let opened = client
        .send(request.expect("a request"))
        .await
        .expect("an answer");
    opened.read().await.expect("a body").json()
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
