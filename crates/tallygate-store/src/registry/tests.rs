//! The bounds of what may be kept.
use super::{
    Author, Change, Grant, Keeper, MAX_KEYS, MAX_OVERRIDES, Override, Records, Refusal, Right,
    Stamp,
};
use serde_json::json;

fn author(millis: u64) -> Author {
    Author {
        by: "root".to_owned(),
        from: "127.0.0.1".to_owned(),
        at: Stamp::from_millis(millis),
        right: Right::Elsewhere,
        elsewhere: Keeper::Lasting,
    }
}

fn create(id: &str) -> Change {
    let digits: String = id.bytes().map(|byte| format!("{byte:02x}")).collect();
    Change::CreateKey(Grant {
        id: id.to_owned(),
        hash: format!("sha256:{:0>64}", digits),
        roles: vec!["call".to_owned()],
        ..Grant::default()
    })
}

fn set(limit: String, until: u64) -> Change {
    Change::SetOverride(Override {
        limit,
        metric: "tokens".to_owned(),
        amount: 1,
        burst: None,
        since: Stamp::default(),
        until: Stamp::from_millis(until),
        by: String::new(),
        reason: String::new(),
    })
}

#[test]
fn the_key_that_ended_first_makes_room_and_live_ones_never_do() {
    let key = |number: usize| {
        let id = format!("k{number:05}");
        let key = json!({ "id": id, "hash": format!("sha256:{number:064x}"), "roles": ["call"], "created": 0, "by": "root" });
        (id, key)
    };
    let keys: serde_json::Map<_, _> = (0..MAX_KEYS).map(key).collect();
    let full = json!({ "version": 7, "keys": keys, "overrides": {} });
    let mut records: Records = serde_json::from_value(full).expect("records");
    let refused = records.apply(&create("one more"), &author(1));
    assert_eq!(refused, Err(Refusal::Full(MAX_KEYS, "keys")));
    assert_eq!(records.version(), 7, "nothing changed");
    for (id, at) in [("k00005", 3), ("k00004", 2)] {
        let id = id.to_owned();
        records
            .apply(&Change::RevokeKey { id }, &author(at))
            .expect("revoked");
    }
    records
        .apply(&create("one more"), &author(4))
        .expect("there is room");
    assert!(records.key("k00004").is_none() && records.key("k00005").is_some());
    assert_eq!(records.keys().count(), MAX_KEYS);
}

#[test]
fn overrides_have_a_bound_and_those_that_ended_make_room() {
    let mut records = Records::default();
    for number in 0..MAX_OVERRIDES {
        let until = if number == 0 { 100 } else { 200 };
        records
            .apply(&set(format!("l{number}"), until), &author(1))
            .expect("set");
    }
    let more = || set("more".to_owned(), 200);
    let full = Err(Refusal::Full(MAX_OVERRIDES, "overrides"));
    assert_eq!(records.apply(&more(), &author(99)), full);
    let again = set("l1".to_owned(), 300);
    records
        .apply(&again, &author(99))
        .expect("in its own place");
    records.apply(&more(), &author(100)).expect("l0 has ended");
}
