//! The demo ends well, by the provider's own books.

use serde_json::Value;

use crate::command::{run, tallygate};
use crate::running::Running;

#[test]
fn no_limit_is_exceeded_and_every_user_is_served() {
    let ran = run(&["demo", "--seconds", "3", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], last["over_limit"].as_u64()),
        (&Value::from("stopped"), Some(0))
    );
    for user in last["users"].as_array().unwrap() {
        assert!(user["admitted"].as_u64() > Some(0), "{last:#}");
        assert_eq!(user["failed"], 0, "{last:#}");
    }
    assert!(
        last["users"][0]["denied"].as_u64() > Some(0),
        "alice asks for more than she has: {last:#}"
    );
    assert!(
        last["users"][1]["waited"].as_u64() > Some(0),
        "bob stands in line: {last:#}"
    );
}

#[test]
fn a_person_is_told_what_to_try() {
    let ran = run(&["demo", "--seconds", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("curl -i http://127.0.0.1:"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("Over a limit: 0 tokens."),
        "{}",
        ran.stdout
    );
    assert!(
        !ran.stdout.contains('\u{1b}'),
        "nothing is redrawn where nobody watches"
    );
}

#[test]
fn ctrl_c_ends_it_with_the_summary() {
    let mut demo = Running::start(&mut tallygate(&["demo"]));
    demo.said("in line ");
    demo.signal("INT");
    let (status, rest) = demo.ended();
    assert_eq!(status.code(), Some(0), "{rest}");
    assert!(rest.contains("Over a limit: 0 tokens."), "{rest}");
}
