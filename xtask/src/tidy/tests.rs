//! Each check finds what it is for, and nothing in what is well.

use super::source::Source;
use super::{arrows, claims, sizes, words};

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn manifest(name: &str, section: &str, dependency: &str) -> Vec<String> {
    let text =
        format!("[package]\nname = \"{name}\"\n\n[{section}]\n{dependency}.workspace = true\n");
    let found = arrows::check(&[source(&format!("crates/{name}/Cargo.toml"), &text)]);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn arrows_against_the_drawing_are_found() {
    assert_eq!(
        manifest("tallygate-server", "dependencies", "tallygate-sim"),
        [
            "crates/tallygate-server/Cargo.toml:5: tallygate-server depends on tallygate-sim: move the code to the side the arrows allow"
        ]
    );
    assert_eq!(
        manifest("tallygate-store", "dependencies", "tallygate-tokens").len(),
        1
    );
    assert_eq!(
        manifest("tallygate-core", "build-dependencies", "tallygate-store").len(),
        1
    );
}

#[test]
fn arrows_of_the_drawing_are_well() {
    assert!(manifest("tallygate-server", "dependencies", "tallygate-store").is_empty());
    assert!(manifest("tallygate-server", "dev-dependencies", "tallygate-sim").is_empty());
}

#[test]
fn a_crate_without_a_place_is_found() {
    assert_eq!(
        manifest("tallygate-utils", "dependencies", "serde").len(),
        1
    );
}

#[test]
fn a_pure_crate_takes_no_runtime() {
    assert_eq!(manifest("tallygate-core", "dependencies", "tokio").len(), 1);
    assert!(manifest("tallygate-core", "dev-dependencies", "tokio").is_empty());
    assert!(manifest("tallygate-store", "dependencies", "tokio").is_empty());
}

#[test]
fn a_pure_crate_reads_no_clock_outside_its_tests() {
    let code = "fn now() { std::time::Instant::now(); }\n";
    assert!(!arrows::check(&[source("crates/tallygate-core/src/time.rs", code)]).is_empty());
    assert!(arrows::check(&[source("crates/tallygate-core/tests/it/main.rs", code)]).is_empty());
    let tested = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
    assert!(arrows::check(&[source("crates/tallygate-core/src/time.rs", &tested)]).is_empty());
}

#[test]
fn a_file_over_the_ceiling_is_found_and_its_tests_do_not_count() {
    let code = "let x = 1;\n".repeat(601);
    assert_eq!(
        sizes::check(&[source("crates/a/src/a.rs", &code)]).len(),
        2,
        "the ceiling and the usual size"
    );
    assert!(sizes::check(&[source("crates/a/tests/it/a.rs", &code)]).is_empty());
    let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{code}}}\n");
    assert!(sizes::check(&[source("crates/a/src/a.rs", &tested)]).is_empty());
    let commented = "// why\n\n".repeat(601);
    assert!(sizes::check(&[source("crates/a/src/a.rs", &commented)]).is_empty());
}

#[test]
fn more_than_a_tenth_of_long_files_is_found() {
    let long = "let x = 1;\n".repeat(351);
    let tree = |longs: usize| -> Vec<Source> {
        (0..20)
            .map(|n| source(&format!("a{n}.rs"), if n < longs { &long } else { "" }))
            .collect()
    };
    assert!(sizes::check(&tree(2)).is_empty());
    assert_eq!(sizes::check(&tree(3)).len(), 3);
}

#[test]
fn unfinished_code_and_machine_paths_are_found() {
    let unfinished = concat!("fn f() { todo", "!() }");
    assert_eq!(words::check(&[source("a.rs", unfinished)]).len(), 1);
    assert!(words::check(&[source("a.md", unfinished)]).is_empty());
    let path = concat!("see /ro", "ot/x");
    assert_eq!(words::check(&[source("a.md", path)]).len(), 1);
}

#[test]
fn a_sleeping_test_is_found_unless_time_is_virtual() {
    let nap = concat!("tokio::time::", "sleep(x).await;\n");
    assert_eq!(
        words::check(&[source("crates/a/tests/it/a.rs", nap)]).len(),
        1
    );
    assert!(words::check(&[source("crates/a/src/a.rs", nap)]).is_empty());
    let excused = format!(
        "// {} {}\n{nap}",
        concat!("tidy: ", "sleeps because"),
        "time is what is tested"
    );
    assert!(words::check(&[source("crates/a/tests/it/a.rs", &excused)]).is_empty());
    let paused = format!("#[tokio::test(start_paused = true)]\n{nap}");
    assert!(words::check(&[source("crates/a/tests/it/a.rs", &paused)]).is_empty());
}

#[test]
fn dead_links_and_tests_that_are_not_there_are_found() {
    let files = [
        "docs/a.md".to_owned(),
        "docs/b.md".to_owned(),
        "crates/a/tests/it/a.rs".to_owned(),
    ];
    let test = source("crates/a/tests/it/a.rs", "fn denies() {}");
    let check = |text: &str| {
        claims::check(
            &[
                source("docs/a.md", text),
                source("crates/a/tests/it/a.rs", &test.text),
            ],
            &files,
        )
        .len()
    };
    assert_eq!(
        check(
            "[b](b.md#x) [up](../docs/b.md) [out](https://example.com) [here](#x) [folder](../crates/)"
        ),
        0
    );
    assert_eq!(check("[c](c.md)"), 1);
    assert_eq!(check("`crates/a/tests/it/a.rs::denies`"), 0);
    assert_eq!(check("`crates/a/tests/it/a.rs::admits`"), 1);
}
