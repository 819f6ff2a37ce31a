//! What the documents say of the binary is what it does.

use std::fs;
use std::process::Command;

use tallygate_sim::{ApiCall, Client};

use crate::command::{run, tallygate};
use crate::folder::Folder;
use crate::running::Running;

/// The text of a document, by its path from the root.
pub(crate) fn document(path: &str) -> String {
    fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).expect("a document")
}

#[test]
fn the_exit_codes_of_the_help_are_those_of_the_document() {
    let help = run(&["--help"]).stdout;
    let (_, table) = help.split_once("Exit codes:\n").unwrap();
    let told: Vec<(String, String)> = table
        .lines()
        .filter_map(|line| line.trim().split_once("  "))
        .map(|(code, meaning)| (code.to_owned(), meaning.to_owned()))
        .collect();
    let written: Vec<(String, String)> = document("docs/exit-codes.md")
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| ")?
                .strip_suffix(" |")?
                .split_once(" | ")
        })
        .filter(|(code, _)| code.parse::<u8>().is_ok())
        .map(|(code, meaning)| (code.to_owned(), meaning.to_owned()))
        .collect();
    assert_eq!(told, written);
    assert_eq!(told.len(), 9);
}

#[test]
fn every_command_is_documented() {
    let help = run(&["--help"]).stdout;
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let cli = document("docs/cli.md");
    for line in commands.lines().take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        assert!(
            name == "help" || cli.contains(&format!("## `tallygate {name}")),
            "{name} is not in docs/cli.md"
        );
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_failure() {
    assert_eq!(run(&["nonsense"]).code, 2);
    assert_eq!(run(&[]).code, 2);
    assert_eq!(run(&["--help"]).code, 0);
}

/// The fenced blocks of a language.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence)
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_configuration_shown_in_the_documents_is_accepted() {
    let folder = Folder::new("shown");
    let mut seen = 0;
    for page in [
        "README.md",
        "docs/configuration.md",
        "docs/limits.md",
        "docs/gateway.md",
        "docs/durability.md",
        "docs/operating.md",
        "docs/redis.md",
        "docs/usage.md",
    ] {
        for block in blocks(&document(page), "yaml") {
            seen += 1;
            let file = folder.path().join(format!("{seen}.yaml"));
            let hash = format!("sha256:{seen:064}");
            fs::write(&file, block.replace("sha256:…", &hash)).unwrap();
            let checked = tallygate(&["check"])
                .arg(&file)
                .env("OPENAI_API_KEY", "key")
                .env("REDIS_PASSWORD", "password")
                .output()
                .unwrap();
            assert!(
                checked.status.success(),
                "{page}: {}\n{block}",
                String::from_utf8_lossy(&checked.stderr)
            );
        }
    }
    assert!(seen >= 4, "{seen} blocks");
}

#[tokio::test]
async fn the_readmes_quick_start_works_in_an_empty_folder() {
    let folder = Folder::new("quick-start");
    let made = run(&["keys", "new", "--id", "alice", "--json"]).json();
    let (key, hash) = (
        made["key"].as_str().unwrap(),
        made["hash"].as_str().unwrap(),
    );
    let mut mock = Running::start(&mut tallygate(&["mock", "--listen", "127.0.0.1:0"]));
    let upstream = mock.said("mock listening on ");

    let readme = document("README.md");
    let shown = blocks(&readme, "yaml").remove(0);
    let config = shown
        .replace("sha256:…", hash)
        .replace("https://api.openai.com", &upstream)
        .replace("127.0.0.1:8787", "127.0.0.1:0")
        .replace("127.0.0.1:8788", "127.0.0.1:0");
    fs::write(folder.path().join("tallygate.yaml"), config).unwrap();
    let here = |arguments: &[&str]| {
        let mut command = tallygate(arguments);
        command
            .current_dir(folder.path())
            .env("OPENAI_API_KEY", "sk-of-the-mock");
        command
    };
    // The commands are those of the page.
    assert!(readme.contains("$ tallygate check tallygate.yaml\n"));
    assert!(readme.contains("$ tallygate serve --config tallygate.yaml\n"));
    assert!(
        here(&["check", "tallygate.yaml"])
            .status()
            .unwrap()
            .success()
    );
    let root = administrator(&readme, &here);
    let mut gateway = Running::start(&mut here(&["serve", "--config", "tallygate.yaml"]));
    let url = gateway.said("gateway listening on ");
    let admin = gateway.said("admin listening on ");

    let call = ApiCall::chat("gpt-4o", "Hello world");
    let served = Client::new(&url).with_key(key).call(&call).await.unwrap();
    assert_eq!(served.status, 200);
    assert_eq!(served.header("x-ratelimit-limit-requests"), Some("60"));
    let stranger = Client::new(&url)
        .with_key("tg-unknown")
        .call(&call)
        .await
        .unwrap();
    assert_eq!(stranger.status, 401);
    administers(&readme, (&admin, &root));
}

/// The key that the page has made before the start.
fn administrator(readme: &str, here: &dyn Fn(&[&str]) -> Command) -> String {
    let words = shown_after(readme, "$ tallygate keys create root ");
    let words: Vec<&str> = words.split_whitespace().collect();
    let made = here(&["keys", "create", "root", "--json"])
        .args(words)
        .output()
        .expect("the binary");
    assert!(made.status.success(), "{made:?}");
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).expect("JSON");
    made["key"].as_str().expect("a key").to_owned()
}

/// The commands that the page has for a running server, with that key.
fn administers(readme: &str, (admin, key): (&str, &str)) {
    for command in ["usage ", "keys create bob ", "overrides set "] {
        let rest = shown_after(readme, &format!("$ tallygate {command}"));
        let words = command.split_whitespace().chain(rest.split_whitespace());
        let ran = tallygate(&words.collect::<Vec<_>>())
            .args(["--admin", admin])
            .env("TALLYGATE_ADMIN_KEY", key)
            .output()
            .expect("the binary");
        assert!(ran.status.success(), "{command}: {ran:?}");
    }
}

/// The rest of the line of the page that begins so, without its comment.
fn shown_after<'p>(page: &'p str, beginning: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("\n{beginning}")).expect(beginning);
    let line = rest.lines().next().unwrap_or_default();
    line.split('#').next().unwrap_or_default()
}
