//! Administering a running server from the command line.

use std::process::Command;

use serde_json::Value;

use crate::command::{Ran, run, tallygate};
use crate::folder::Folder;
use crate::running::Running;

const LIMITS: &str = "\
listen: 127.0.0.1:0
admin: 127.0.0.1:0
limits: [{ name: day, per: [user], tokens: 1000, every: day }]
";

/// A server of this configuration, and the addresses of its listeners.
struct Server {
    running: Running,
    data: String,
    admin: String,
}

impl Server {
    fn start(folder: &Folder, settings: &str) -> Self {
        let file = file(folder, "tallygate.yaml", &format!("{LIMITS}{settings}"));
        let mut running = Running::start(&mut tallygate(&["serve", "--config", &file]));
        let data = running.said("gateway listening on ");
        let admin = running.said("admin listening on ");
        Self {
            running,
            data,
            admin,
        }
    }

    /// Runs a command that asks this server, with a key.
    fn ask(&self, key: &str, arguments: &[&str]) -> Ran {
        let mut command = tallygate(arguments);
        command.args(["--admin", &self.admin]).env(KEY, key);
        Ran::of(&mut command)
    }
}

fn file(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("writable");
    path.display().to_string()
}

const KEY: &str = "TALLYGATE_ADMIN_KEY";

/// The key that a command made.
fn key(made: &Ran) -> String {
    assert_eq!(made.code, 0, "{}", made.stderr);
    made.json()["key"].as_str().expect("a key").to_owned()
}

#[test]
fn keys_are_made_listed_rotated_and_revoked_and_all_of_it_is_noted() {
    let folder = Folder::new("admin-keys");
    let server = Server::start(&folder, "");
    let root = key(&server.ask("", &["keys", "create", "root", "--role", "admin", "--json"]));
    let create = [
        "keys",
        "create",
        "alice",
        "--user",
        "alice",
        "--label",
        "team=search",
        "--role",
        "decide",
        "--expires",
        "90d",
        "--json",
    ];
    let alice = key(&server.ask(&root, &create));
    let limits = |key: &str| {
        let mut command = tallygate(&["explain", "--url", &server.data, "--json"]);
        Ran::of(command.env("TALLYGATE_KEY", key))
    };
    assert_eq!(limits(&alice).code, 0);

    let listed = server.ask(&root, &["keys", "list"]).stdout;
    assert!(
        listed.contains("alice  live   decide  team=search user=alice"),
        "{listed}"
    );
    let newer = key(&server.ask(
        &root,
        &["keys", "rotate", "alice", "--grace", "1h", "--json"],
    ));
    assert_eq!((limits(&alice).code, limits(&newer).code), (0, 0));
    let newest = key(&server.ask(&root, &["keys", "rotate", "alice", "--json"]));
    assert_eq!((limits(&newer).code, limits(&newest).code), (6, 0));
    assert_eq!(server.ask(&root, &["keys", "revoke", "alice"]).code, 0);
    assert_eq!(limits(&newest).code, 6);

    let audit = server.ask(&root, &["audit"]).stdout;
    let did: Vec<&str> = audit
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(4))
        .collect();
    assert_eq!(
        did,
        [
            "key.revoke",
            "key.rotate",
            "key.rotate",
            "key.create",
            "key.create"
        ]
    );
    for secret in [&root, &alice, &newer, &newest] {
        assert!(!audit.contains(secret.as_str()) && !listed.contains(secret.as_str()));
    }
    assert!(server.running.stop().0.success());
}

#[test]
fn a_key_that_is_there_is_given_another_end() {
    let folder = Folder::new("admin-ends");
    let server = Server::start(&folder, "");
    let root = key(&server.ask("", &["keys", "create", "root", "--role", "admin", "--json"]));
    key(&server.ask(&root, &["keys", "create", "alice", "--json"]));
    let expire = |arguments: &[&str]| server.ask(&root, &[&["keys", "expire"], arguments].concat());
    let dated = expire(&["alice", "--at", "2999-01-01"]);
    assert_eq!(
        (dated.code, dated.stdout.as_str()),
        (0, "alice ends 2999-01-01T00:00:00.000Z\n")
    );
    let listed = server.ask(&root, &["keys", "list"]).stdout;
    assert!(listed.contains("2999-01-01T00:00:00.000Z"), "{listed}");
    assert_eq!(expire(&["alice", "--never"]).stdout, "alice has no end\n");
    let short = expire(&["alice", "--in", "30d", "--json"]).json();
    assert!(short["expires"].is_string(), "{short}");
    for (wrong, code, says) in [
        (&["alice"][..], 2, "--never"),
        (
            &["alice", "--never", "--in", "1h"],
            2,
            "cannot be used with",
        ),
        (
            &["alice", "--at", "9999-12-31"],
            2,
            "later than the last instant",
        ),
        (&["alice", "--at", "2020-01-01"], 6, "in the past"),
        (&["bob", "--in", "1h"], 6, "there is no key `bob`"),
        (&["root", "--in", "1h"], 6, "is the last key with the role"),
    ] {
        let refused = expire(wrong);
        assert_eq!(refused.code, code, "{wrong:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    let audit = server.ask(&root, &["audit"]).stdout;
    assert_eq!(audit.matches("key.expire").count(), 3, "{audit}");
}

#[test]
fn a_key_that_is_said_to_be_of_two_is_not_made() {
    for labels in [
        &["--user", "bob", "--label", "user=eve"][..],
        &["--label", "team=a", "--label", "team=b"],
    ] {
        let refused = run(&[&["keys", "create", "bob"], labels].concat());
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("is given twice"),
            "{}",
            refused.stderr
        );
    }
}

/// Whether its file could be taken over, without doing it.
#[test]
fn a_running_server_is_asked_what_it_would_make_of_its_file() {
    let folder = Folder::new("admin-check");
    let server = Server::start(&folder, "");
    let good = server.ask("", &["check"]);
    assert_eq!(
        (good.code, good.stdout.as_str()),
        (0, "the server would take its file over\n"),
        "{}",
        good.stderr
    );
    file(&folder, "tallygate.yaml", &format!("{LIMITS}limitz: []\n"));
    let wrong = server.ask("", &["check"]);
    assert_eq!(wrong.code, 6);
    let why = "would not be taken over: line 4, column 1: ";
    assert!(wrong.stderr.contains(why), "{}", wrong.stderr);
    assert!(
        wrong.stderr.contains("did you mean `limits`?"),
        "{}",
        wrong.stderr
    );
    file(
        &folder,
        "tallygate.yaml",
        &LIMITS.replace("admin: 127.0.0.1:0", "admin: none"),
    );
    let fixed = server.ask("", &["check"]);
    assert_eq!(fixed.code, 6, "{}{}", fixed.stdout, fixed.stderr);
    assert!(fixed.stderr.contains("restart"), "{}", fixed.stderr);
    assert_eq!(run(&["check"]).code, 2, "a file or a server");
}

/// What a running server does with its keys is done in the folder of a stopped one too.
#[test]
fn the_keys_of_a_stopped_server_are_listed_rotated_revoked_and_given_an_end() {
    let folder = Folder::new("admin-stopped");
    let data = folder.path().join("data").display().to_string();
    let keys =
        |arguments: &[&str]| run(&[&["keys"], arguments, &["--data", &data, "--json"]].concat());
    let missing = keys(&["rotate", "root"]);
    assert_eq!(missing.code, 8, "{}", missing.stderr);
    assert!(!folder.path().join("data").exists(), "it is not made");
    let root = key(&keys(&["create", "root", "--role", "admin"]));
    for id in ["alice", "bob", "carol"] {
        key(&keys(&["create", id, "--role", "decide"]));
    }
    let rotated = keys(&["rotate", "alice", "--grace", "1h"]);
    let alice = key(&rotated);
    assert!(rotated.json()["old_key_until"].is_string());
    assert_eq!(keys(&["revoke", "bob"]).json()["state"], "revoked");
    let dated = keys(&["expire", "carol", "--at", "2999-01-01"]).json();
    assert_eq!(dated["expires"], "2999-01-01T00:00:00.000Z");
    let hash = format!("sha256:{}", "0".repeat(64));
    let settings = format!("keys: [{{ id: filed, hash: '{hash}' }}]\n");
    let filed = file(&folder, "filed.yaml", &settings);
    for (wrong, says) in [
        (&["revoke", "bob"][..], "is revoked"),
        (&["revoke", "nobody"], "there is no key"),
        (&["expire", "carol", "--at", "2020-01-01"], "in the past"),
        (&["expire", "root", "--in", "1h"], "make another one"),
        (&["revoke", "root"], "make another one"),
        (
            &["rotate", "filed", "--config", &filed],
            "in the configuration",
        ),
    ] {
        let refused = keys(wrong);
        assert_eq!(refused.code, 4, "{wrong:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }

    let listed = keys(&["list"]).json();
    let server = Server::start(&folder, &format!("store: {data}\n"));
    assert_eq!(
        server.ask(&root, &["keys", "list", "--json"]).json(),
        listed
    );
    assert_eq!(keys(&["list"]).json(), listed, "in use too");
    assert_eq!(keys(&["revoke", "carol"]).code, 8, "it is in use");
    let mut asked = tallygate(&["explain", "--url", &server.data]);
    assert_eq!(Ran::of(asked.env("TALLYGATE_KEY", &alice)).code, 0);
}

#[test]
fn limits_are_overridden_explained_and_as_they_were_again() {
    let folder = Folder::new("admin-overrides");
    let server = Server::start(&folder, "");
    let set = [
        "overrides",
        "set",
        "day",
        "5_000",
        "--until",
        "12h",
        "--reason",
        "a launch",
    ];
    let told = server.ask("", &set);
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(
        told.stdout.contains("day    tokens  5000    1000"),
        "{}",
        told.stdout
    );
    let explained = server.ask("", &["explain", "user=alice", "--json"]).json();
    assert_eq!(explained["limits"][0]["limit"], 5_000);
    assert_eq!(
        server.ask("", &["overrides", "list", "--json"]).json()["overrides"][0]["by"],
        "anonymous"
    );
    let cleared = server.ask("", &["overrides", "clear", "day"]);
    assert_eq!(cleared.stdout, "the limit is as configured again\n");
    let refused = server.ask("", &["overrides", "set", "dai", "5", "--until", "12h"]);
    assert_eq!(refused.code, 6);
    assert!(
        refused.stderr.contains("there is no limit `dai`"),
        "{}",
        refused.stderr
    );
}

#[test]
fn the_first_key_is_made_in_the_folder_of_a_stopped_server() {
    let folder = Folder::new("admin-first");
    let data = folder.path().join("data").display().to_string();
    let root = key(&run(&[
        "keys", "create", "root", "--role", "admin", "--data", &data, "--json",
    ]));
    let settings = format!("store: {data}\n");
    let server = Server::start(&folder, &settings);
    let made = server.ask(
        &root,
        &["keys", "create", "alice", "--role", "decide", "--json"],
    );
    let alice = key(&made);
    assert_eq!(made.json()["warnings"], Value::Null, "it lasts");
    let held = run(&["keys", "create", "bob", "--data", &data]);
    assert_eq!(held.code, 8);
    assert!(held.stderr.contains("another process"), "{}", held.stderr);
    assert!(server.running.stop().0.success());
    // All that was made is there after a restart, and nobody gets in without.
    let server = Server::start(&folder, &settings);
    let unkeyed = Ran::of(&mut tallygate(&["explain", "--url", &server.data]));
    assert_eq!(unkeyed.code, 6);
    let mut keyed = tallygate(&["explain", "--url", &server.data]);
    assert_eq!(Ran::of(keyed.env("TALLYGATE_KEY", &alice)).code, 0);
    let audit = server.ask(&root, &["audit", "--json"]).json();
    assert_eq!(audit["audit"][1]["from"], "local");
}

#[test]
fn a_key_of_a_stopped_server_is_what_a_running_one_would_make() {
    let folder = Folder::new("admin-grant");
    let data = folder.path().join("data").display().to_string();
    let create = |arguments: &[&str]| {
        let whole = [&["keys", "create"], arguments, &["--data", &data, "--json"]];
        run(&whole.concat())
    };
    for (wrong, says) in [
        (
            &["a", "--label", "model=gpt-4o"][..],
            "is set by the server",
        ),
        (&["a", "--label", "key=b"], "is set by the server"),
        (&["a", "--label", "team=a\u{202e}b"], "control characters"),
        (&["anonymous"], "stands for somebody without a key"),
        (
            &["local", "--role", "admin"],
            "stands for somebody without a key",
        ),
        (&["a", "--expires", "2020-01-01"], "in the past"),
    ] {
        let refused = create(wrong);
        assert_eq!(refused.code, 4, "{wrong:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    let warned = |ran: &Ran| {
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.json()["warnings"][0]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    // The first one lets others be made, as at a running server.
    for (wrong, says) in [
        (&["b"][..], "must have the role `admin`"),
        (
            &["guest", "--role", "admin", "--expires", "1h"],
            "must not end by itself",
        ),
    ] {
        let refused = create(wrong);
        assert_eq!(refused.code, 4, "{wrong:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("--config FILE"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(warned(&create(&["root", "--role", "admin"])), "");
    assert_eq!(warned(&create(&["b"])), "");
}

/// A key of the configuration is as good as one in the folder, while it lasts.
#[test]
fn a_key_of_a_stopped_server_goes_with_its_configuration() {
    let folder = Folder::new("admin-config");
    let create = |(data, end): (&str, &str), arguments: &[&str]| {
        let data = folder.path().join(data).display().to_string();
        let hash = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let settings = format!(
            "store: {data}\ntiers: {{ free: {{}} }}\nkeys: [{{ id: root, hash: \"{hash}\", role: admin{end} }}]\n"
        );
        let file = file(&folder, "keys.yaml", &settings);
        let named = ["--data", &data, "--config", &file, "--json"];
        run(&[&["keys", "create"], arguments, &named].concat())
    };
    let lasting = create(("lasting", ""), &["b", "--tier", "free"]);
    assert_eq!(lasting.code, 0, "{}", lasting.stderr);
    assert_eq!(lasting.json()["warnings"], Value::Null);
    let ending = create(("ending", ", expires: 2999-01-01"), &["b"]);
    assert_eq!(ending.code, 0, "{}", ending.stderr);
    let ending = ending.json();
    let warning = ending["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("ends by itself"), "{warning}");
    let untiered = "the key `b` has no tier, so no tier's limits count it";
    assert_eq!(ending["warnings"][1], untiered);
    for (wrong, says) in [
        (&["root"][..], "is taken by the configuration"),
        (&["c", "--tier", "gold"], "is not under `tiers`"),
        (&["c", "--label", "tier=gold"], "is not under `tiers`"),
    ] {
        let refused = create(("lasting", ""), wrong);
        assert_eq!(refused.code, 4, "{wrong:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
}

#[test]
fn with_a_key_in_its_folder_a_server_may_listen_to_others_and_without_it_may_not() {
    let folder = Folder::new("admin-open");
    let data = folder.path().join("data").display().to_string();
    let file = file(
        &folder,
        "open.yaml",
        &format!("listen: 0.0.0.0:0\nadmin: none\nstore: {data}\n"),
    );
    let refused = run(&["serve", "--config", &file]);
    assert_eq!(refused.code, 3);
    assert!(
        refused.stderr.contains("tallygate keys create"),
        "{}",
        refused.stderr
    );
    key(&run(&[
        "keys", "create", "root", "--role", "admin", "--data", &data, "--json",
    ]));
    let mut running = Running::start(&mut tallygate(&["serve", "--config", &file]));
    running.said("gateway listening on ");
    assert!(running.stop().0.success());
}

#[test]
fn who_is_not_let_in_or_not_answered_is_told_what_to_do() {
    let folder = Folder::new("admin-told");
    let server = Server::start(&folder, "");
    let root = key(&server.ask("", &["keys", "create", "root", "--role", "admin", "--json"]));
    let caller = key(&server.ask(&root, &["keys", "create", "caller", "--json"]));
    for (key, says) in [
        ("", "export TALLYGATE_ADMIN_KEY"),
        ("tg-nobody", "must hold a key with the role `admin`"),
        (&caller, "must hold a key with the role `admin`"),
    ] {
        let refused = server.ask(key, &["keys", "list"]);
        assert_eq!(refused.code, 6);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    let asked = |url: &str| Ran::of(tallygate(&["keys", "list", "--admin", url]).env(KEY, &root));
    let wrong = asked(&server.data);
    assert!(
        wrong.code == 6 && wrong.stderr.contains("not as an admin listener"),
        "{}",
        wrong.stderr
    );
    let nobody = asked("http://127.0.0.1:1");
    assert!(
        nobody.code == 6 && nobody.stderr.contains("--admin URL"),
        "{}",
        nobody.stderr
    );
    assert_eq!(asked("127.0.0.1:8788").code, 2);
}

#[test]
fn the_admin_listener_of_a_configuration_is_asked_or_said_to_be_missing() {
    let folder = Folder::new("admin-config");
    let none = file(&folder, "none.yaml", "admin: none\n");
    let refused = run(&["keys", "list", "--config", &none]);
    assert!(
        refused.code == 3 && refused.stderr.contains("has no admin listener"),
        "{}",
        refused.stderr
    );
    // Nobody listens at port 1, whose address is the configuration's.
    let some = file(&folder, "some.yaml", "admin: 127.0.0.1:1\n");
    let unanswered = run(&["keys", "list", "--config", &some]);
    assert!(
        unanswered.code == 6 && unanswered.stderr.contains("127.0.0.1:1"),
        "{}",
        unanswered.stderr
    );
}

impl Ran {
    /// What a command said and how it ended.
    fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the binary starts");
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}
