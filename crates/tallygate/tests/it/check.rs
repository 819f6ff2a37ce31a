//! Configurations are accepted or refused with place and mend.

use std::fs;

use crate::command::{run_with, tallygate};
use crate::folder::Folder;

const GOOD: &str = "limits: [{ name: all, tokens: 2_000_000, every: 60s }]\n";
const BAD: &str = "listen: 127.0.0.1:8787\nlimitz: []\n";

#[test]
fn a_good_file_is_said_to_be_good() {
    let ran = run_with(&["check", "-"], GOOD);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout
            .starts_with("standard input can be used: limits 1"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_mistake_is_shown_with_line_column_and_mend() {
    let ran = run_with(&["check", "-"], BAD);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(
        ran.stderr.contains("limitz") && ran.stderr.contains("did you mean `limits`?"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains(":2:1"),
        "line and column: {}",
        ran.stderr
    );
}

#[test]
fn a_program_gets_the_same_as_json() {
    let ran = run_with(&["check", "--json", "-"], BAD);
    assert_eq!((ran.code, ran.stderr.as_str()), (3, ""));
    let report = ran.json();
    assert_eq!(
        (report["usable"].as_bool(), report["errors"].as_u64()),
        (Some(false), Some(1))
    );
    let problem = &report["problems"][0];
    assert_eq!(
        (problem["line"].as_u64(), problem["column"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(problem["mend"], "did you mean `limits`?");
}

#[test]
fn a_file_that_is_not_there_is_a_configuration_failure() {
    let ran = run_with(&["check", "no-such-file.yaml"], "");
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr.contains("no-such-file.yaml cannot be read"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_store_is_shown_without_its_password() {
    let config = "store: redis://tallygate:never-shown@10.0.0.9/3\n";
    let ran = run_with(&["check", "-"], config);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(
        ran.stdout
            .contains("counters on redis://tallygate:***@10.0.0.9:6379/3"),
        "{}",
        ran.stdout
    );
    let told = run_with(&["check", "--json", "-"], config).json();
    assert_eq!(told["store"], "redis://tallygate:***@10.0.0.9:6379/3");
    let wrong = run_with(
        &["check", "-"],
        "store: redis://:never-shown@h?tiemout=1s\n",
    );
    assert_eq!(wrong.code, 3);
    assert!(wrong.stderr.contains("did you mean `timeout`?"));
    assert!(!wrong.stderr.contains("never-shown"), "{}", wrong.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::new("check-unread");
    let file = folder.path().join("wrong.yaml");
    fs::write(&file, BAD).expect("a file");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = tallygate(&["check"])
        .arg(&file)
        .stderr(writer)
        .status()
        .expect("the binary");
    assert_eq!(ended.code(), Some(3));
}

#[test]
fn nothing_in_a_file_moves_the_cursor() {
    for sly in [
        "\"li\\x1b[2Jmits\": []\nlim\u{202e}its: []\n",
        "limits: [] # \u{9b}2J\u{1b}\n",
    ] {
        for arguments in [&["check", "-"][..], &["check", "--json", "-"]] {
            let ran = run_with(arguments, sly);
            assert_eq!(ran.code, 3);
            let said = ran.stdout + &ran.stderr;
            let moves = said.contains(['\u{1b}', '\u{9b}', '\u{202e}']);
            assert!(!moves, "{said:?}");
        }
    }
    let ran = run_with(&["check", "no\u{1b}[2Jfile"], "");
    assert!(ran.stderr.contains("file cannot be read"), "{}", ran.stderr);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
}

/// Who knows the address of a webhook can write to it.
#[test]
fn of_a_webhook_the_host_alone_is_shown() {
    for file in [
        // Without a secret there is a warning.
        "webhooks: [{ url: 'https://hooks.example/T0/hidden' }]\n",
        "webhooks:\n  - url: https://hooks.example/T0/hidden?hidden#hidden\n    secrt: hidden, all of it\n",
        "webhooks:\n  - { url: 'https://hooks.example/hidden', url: 'https://hooks.example/hidden', secret: hidden, secret: hidden }\n",
        "webhooks: https://hooks.example/hidden\n",
        "webhooks: { slack: { url: hidden } }\n",
        "webhooks: [{ url: hidden/hidden, events: [nothing] }]\n",
        "webhoks:\n  - { url: 'https://hooks.example/hidden', secret: hidden }\n",
        "webhooks:\n  - url: https://hooks.example/hidden\n   secrt: hidden\n",
        "upstreams: { openai: { dialect: openai, api_ky: hidden } }\n",
        "h: &h https://hooks.example/hidden\nwebhooks: [{ url: *h }]\n",
    ] {
        for arguments in [&["check", "-"][..], &["check", "--json", "-"]] {
            let ran = run_with(arguments, file);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(!said.contains("hidden"), "{file}{said}");
        }
    }
}
