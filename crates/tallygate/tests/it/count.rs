//! Counting from the command line.

use std::fs;

use crate::command::{run, run_with};
use crate::folder::Folder;

#[test]
fn a_text_is_counted_with_the_models_own_tokenizer() {
    let ran = run(&["count", "--text", "Hello world"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "2 tokens (exact: gpt-4o, o200k_base)\n")
    );
}

#[test]
fn an_unknown_model_is_said_to_be_an_estimate() {
    let answer = run(&[
        "count",
        "--json",
        "--model",
        "house-blend",
        "--text",
        "Hello world",
    ])
    .json();
    assert_eq!(answer["inputs"][0]["method"], "estimated");
}

#[test]
fn standard_input_is_counted() {
    let answer = run_with(&["count", "--json"], "Hello world").json();
    assert_eq!(answer["total"], 2);
    let named = run_with(&["count", "--json", "-"], "Hello world").json();
    assert_eq!(named, answer);
}

#[test]
fn files_and_folders_are_summed_up() {
    let folder = Folder::new("count");
    fs::create_dir(folder.path().join("inner")).unwrap();
    fs::write(folder.path().join("a.txt"), "Hello world").unwrap();
    fs::write(folder.path().join("inner/b.txt"), "Hello world").unwrap();
    fs::write(folder.path().join(".hidden"), "Hello world").unwrap();
    let path = folder.path().display().to_string();
    let answer = run(&["count", "--json", &path]).json();
    assert_eq!(
        (
            answer["total"].as_u64(),
            answer["inputs"].as_array().unwrap().len()
        ),
        (Some(4), 2)
    );
    let table = run(&["count", &path]).stdout;
    assert!(
        table.ends_with("           4             total\n"),
        "{table}"
    );
}

#[test]
fn a_request_body_is_counted_with_its_framing() {
    let body = r#"{"model":"gpt-4o","max_tokens":50,"messages":[{"role":"user","content":"Hello world"}]}"#;
    let answer = run_with(&["count", "--json", "--body"], body).json();
    let row = &answer["inputs"][0];
    assert_eq!(
        (row["input_tokens"].as_u64(), row["method"].as_str()),
        (Some(9), Some("framed"))
    );
    assert_eq!(row["output_tokens"], 50);
    assert_eq!(
        run_with(&["count", "--json", "--body=chat"], body).json(),
        answer
    );
}

#[test]
fn each_dialects_body_is_told_by_its_fields() {
    let text = "Hello world";
    for (body, endpoint) in [
        (
            format!(
                r#"{{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{{"role":"user","content":"{text}"}}]}}"#
            ),
            "messages",
        ),
        (
            format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#),
            "chat_completions",
        ),
        (
            format!(r#"{{"contents":[{{"parts":[{{"text":"{text}"}}]}}]}}"#),
            "generate_content",
        ),
        (
            format!(r#"{{"model":"text-embedding-3-small","input":"{text}"}}"#),
            "embeddings",
        ),
        (
            format!(r#"{{"model":"gpt-4o","input":"{text}"}}"#),
            "responses",
        ),
        (
            format!(r#"{{"model":"gpt-3.5-turbo-instruct","prompt":"{text}"}}"#),
            "completions",
        ),
    ] {
        let answer = run_with(
            &["count", "--json", "--model", "gemini-2.5-flash", "--body"],
            &body,
        )
        .json();
        assert_eq!(
            answer["inputs"][0]["endpoint"], endpoint,
            "{body}: {answer}"
        );
    }
}

#[test]
fn what_cannot_be_counted_is_named_and_the_rest_is_counted() {
    let folder = Folder::new("refused");
    fs::write(folder.path().join("good.txt"), "Hello world").unwrap();
    fs::write(folder.path().join("picture.png"), [0xff, 0xd8]).unwrap();
    let ran = run(&["count", "--json", &folder.path().display().to_string()]);
    assert_eq!(ran.code, 4);
    assert!(
        ran.stderr.contains("picture.png: not UTF-8"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.json()["total"], 2);
}

#[test]
fn malformed_json_is_refused_with_its_place() {
    let ran = run_with(&["count", "--body=chat"], "{\n  \"model\": }");
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("line 2"), "{}", ran.stderr);
}
