//! What the documents say of the binary is what it does.

use std::fs;

use crate::command::run;

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
    assert_eq!(told.len(), 8);
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
