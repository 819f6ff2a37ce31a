//! The examples are what they say.

use std::fs;
use std::path::{Path, PathBuf};

use tallygate_sim::servers::{Engine, Server};

use crate::command::{run, tallygate};
use crate::documents::{blocks, document};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name)
}

fn example(name: &str) -> String {
    fs::read_to_string(folder(name)).expect("an example")
}

/// The configurations of both folders.
fn configurations() -> Vec<PathBuf> {
    let of = |name: &str| fs::read_dir(folder(name)).expect("a folder");
    let files = of("")
        .chain(of("redis"))
        .map(|entry| entry.expect("a file").path());
    files
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .filter(|path| !path.ends_with("compose.yaml"))
        .collect()
}

#[test]
fn every_example_is_accepted_without_a_warning_about_names() {
    let configurations = configurations();
    for path in &configurations {
        let output = tallygate(&["check", "--json"])
            .arg(path)
            .env("OPENAI_API_KEY", "key")
            .env("WEBHOOK_SECRET", "a secret of some length")
            .env("ANTHROPIC_API_KEY", "key")
            .env("REDIS_PASSWORD", "password")
            .env("SENTINEL_PASSWORD", "password")
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success(), "{}: {report:#}", path.display());
        let warnings = report["problems"].as_array().unwrap();
        assert!(warnings.is_empty(), "{}: {report:#}", path.display());
    }
    let seen = configurations.len();
    assert!(seen >= 9, "{seen} examples");
}

#[test]
fn commands_of_compose_file_and_unit_are_those_of_the_binary() {
    let command = example("redis/compose.yaml")
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix("command: [\"serve\"")
                .map(str::to_owned)
        })
        .expect("a command");
    let unit = example("redis/tallygate.service");
    let start = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/tallygate "))
        .expect("a command");
    let help = run(&["serve", "--help"]).stdout;
    let options = command
        .split(['"', ' ', ','].as_slice())
        .chain(start.split(' '));
    let mut seen = 0;
    for option in options.filter(|word| word.starts_with("--")) {
        seen += 1;
        assert!(help.contains(option), "{option} is not an option of serve");
    }
    assert_eq!(seen, 3);
    // The codes after which nothing is started again are those of the help.
    let table = run(&["--help"]).stdout;
    for meaning in [
        "2  the command line is wrong",
        "3  the configuration is wrong",
        "8  the store cannot be used",
    ] {
        assert!(table.contains(meaning), "{meaning}");
    }
    assert!(unit.contains("RestartPreventExitStatus=2 3\n"));
}

/// Lines of a server's configuration that say something, but for where it listens and keeps its files.
fn settings(text: &str) -> Vec<&str> {
    let elsewhere = ["bind ", "port ", "aclfile ", "dir "];
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter(|line| !elsewhere.iter().any(|word| line.starts_with(word)))
        .collect()
}

/// A server as the examples set it up.
pub(crate) fn server_of_the_examples(engine: Engine) -> Server {
    let configuration = example("redis/valkey.conf");
    let server = Server::start(engine, &settings(&configuration)).expect("a server");
    for line in example("redis/users.acl").lines() {
        set_user(&server, line);
    }
    server
}

/// Gives a server the user of the examples, and leaves the others.
pub(crate) fn add_user(server: &Server) {
    set_user(server, &tallygate_user());
}

/// The rule for the user of the examples.
fn tallygate_user() -> String {
    let users = example("redis/users.acl");
    let rule = users
        .lines()
        .find(|line| line.starts_with("user tallygate "));
    rule.expect("the user").to_owned()
}

fn set_user(server: &Server, line: &str) {
    let rule = line.strip_prefix("user ").expect("a user");
    let words: Vec<&str> = ["ACL", "SETUSER"]
        .into_iter()
        .chain(rule.split(' '))
        .collect();
    server.command(&words).expect("a rule that is understood");
}

#[test]
fn servers_take_the_configuration_and_the_users() {
    for engine in Engine::ALL {
        let server = server_of_the_examples(engine);
        let memory = server.info("memory").expect("an answer");
        assert_eq!(memory["maxmemory_policy"], "noeviction");
        assert_eq!(
            server.info("persistence").expect("an answer")["aof_enabled"],
            "1"
        );
        let users: Vec<String> = server.ask(&["ACL", "USERS"]).expect("an answer");
        assert!(users.iter().any(|name| name == "tallygate"), "{users:?}");
    }
}

/// The rights that a rule gives.
fn rights(rule: &str) -> Vec<&str> {
    let mut rights: Vec<&str> = rule
        .split_whitespace()
        .filter(|word| word.starts_with(['+', '-', '~', '&']))
        .collect();
    rights.sort_unstable();
    rights
}

#[test]
fn the_rights_of_the_document_are_those_of_the_example() {
    let page = document("docs/redis.md");
    let shown = blocks(&page, "acl").remove(0);
    assert_eq!(rights(&shown), rights(&tallygate_user()));
}
