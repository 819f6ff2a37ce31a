//! Keys: made once, hashed as the configuration wants them.

use crate::command::{run, run_with};
use crate::folder::Folder;

#[test]
fn a_new_key_hashes_to_the_hash_it_came_with() {
    let made = run(&["keys", "new", "--json"]).json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(key.len(), "tg-".len() + 43, "256 bits in base 62: {key}");

    let hashed = run_with(&["keys", "hash", "--json"], &format!("{key}\n")).json();
    assert_eq!(hashed["hash"], made["hash"]);
}

#[test]
fn two_new_keys_differ() {
    let keys = [(); 2].map(|()| run(&["keys", "new", "--json"]).json()["key"].clone());
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_known_key_has_its_known_hash() {
    // printf %s abc | sha256sum
    let known = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    assert_eq!(run_with(&["keys", "hash"], "abc").stdout, known);
}

#[test]
fn nothing_to_hash_is_an_input_failure_that_says_how() {
    let ran = run_with(&["keys", "hash"], "\n");
    assert_eq!(ran.code, 4);
    assert!(ran.stderr.contains("tallygate keys hash"), "{}", ran.stderr);
}

#[test]
fn the_line_for_the_configuration_is_accepted_as_it_is() {
    let made = run(&["keys", "new", "--id", "bob-2"]).stdout;
    let (_, line) = made.split_once("goes:\n").unwrap();
    let checked = run_with(&["check", "-"], &format!("keys:\n{line}"));
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert_eq!(run(&["keys", "new", "--id", "a: b"]).code, 2);
}

/// Its `data` folder has settlements and no keys: one that is made there would let nobody in.
#[test]
fn keys_of_a_server_that_counts_elsewhere_are_not_made_in_a_folder() {
    let folder = Folder::new("keys-elsewhere");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (file, data) = (at("tallygate.yaml"), at("data"));
    let settings = format!("store: redis://:never-shown@127.0.0.1:1\ndata: {data}\n");
    std::fs::write(&file, settings).expect("writable");
    let create = ["keys", "create", "root", "--role", "admin"];
    let ran = run(&[&create[..], &["--data", &data, "--config", &file]].concat());
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let says = "the keys of this configuration are kept on redis://:***@127.0.0.1:1";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
    assert!(!folder.path().join("data").exists(), "nothing is made");
}
