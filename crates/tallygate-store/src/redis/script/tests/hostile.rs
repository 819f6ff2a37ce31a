//! Labels, values and idempotency keys of any bytes: no two of them share a counter, and all keys of one rule and value are
//! in one slot.
use super::case::METRICS;
use crate::redis::desk::Desk;
use crate::redis::names;
use crate::redis::script::Node;
use std::collections::{HashMap, HashSet};
use tallygate_core::{Metric, Metrics, Mode, Policy, Rule, Shape, Span, StoreDown};
use tallygate_sim::servers::{Engine, Server};

/// Texts that have broken the keys of others.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        "a",
        "a:b",
        "{a}",
        "}{",
        "{}",
        "{",
        "}",
        "\0",
        "\0\0",
        "a\0b",
        "\n",
        "\r\nFLUSHALL\r\n",
        "*1\r\n$8\r\nFLUSHALL\r\n",
        "tg:{00000000}a",
        "y\u{308}",
        "ÿ",
        "é",
        "e\u{301}",
        "*",
        "?",
        "[a]",
        "' or '1'='1",
        "end return redis.call('FLUSHALL')",
        "\u{1}\0\0\0\0\0\0\0a",
    ]
    .map(str::to_owned)
    .to_vec();
    let long = "x".repeat(64 * 1024);
    texts.push(format!("{long}y"));
    texts.push(format!("{long}\0"));
    texts.push(long);
    texts
}

fn desk(labels: &[&str]) -> Desk {
    let bucket = Shape::Bucket {
        every: Span::from_secs(60),
        burst: None,
        strict: false,
    };
    let limits = [
        (METRICS[1], 100, bucket),
        (Metric::CONCURRENCY, 2, Shape::Concurrency),
    ];
    let rule = |name: &str| Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: labels.iter().map(|label| (*label).to_owned()).collect(),
        limits: limits.to_vec(),
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    };
    let rules = vec![rule("one"), rule("{two}"), rule("one\0")];
    let policy = Policy::new(rules, Metrics::default()).unwrap();
    let node = Node {
        name: *b"node0001",
        prefix: "tg".into(),
        sees_subscribers: true,
        writes_many: true,
    };
    Desk::new(node, &policy)
}

#[test]
fn no_two_values_share_a_counter() {
    let desk = desk(&["a", "b{"]);
    let mut seen = HashMap::new();
    for one in texts() {
        for other in texts() {
            let accounts = desk.resolve(&[("a", &one), ("b{", &other)]);
            assert_eq!(accounts.len(), 3);
            for account in accounts {
                assert_eq!(account.key.len(), "tg:{00000000}a".len() + 16);
                let value = (account.rule.name, one.clone(), other.clone());
                let before = seen.insert(account.key.clone(), value);
                assert_eq!(before, None);
            }
        }
    }
}

#[test]
fn rules_and_labels_count_apart() {
    let subject = [("a", "x"), ("b", "x"), ("a\0", "x")];
    let mut keys = HashSet::new();
    for labels in [&["a"][..], &["b"], &["a\0"], &["a", "b"], &[]] {
        for account in desk(labels).resolve(&subject) {
            assert!(keys.insert(account.key.clone()));
        }
    }
    assert_eq!(keys.len(), 15);
}

#[test]
fn no_two_idempotency_keys_are_the_same() {
    let mut names = HashSet::new();
    let mut count = 0;
    let texts = texts();
    for text in &texts {
        for value in &texts {
            for subject in [
                vec![("a", value.as_str())],
                vec![("a", value.as_str()), ("b", "")],
                vec![("b", value.as_str())],
            ] {
                count += 1;
                names.insert(names::idempotency(text, &subject));
            }
        }
    }
    assert_eq!(names.len(), count);
}

/// Another label of 255 bytes, whose length is what stands before the text of a key.
#[test]
fn a_text_cannot_stand_for_a_label() {
    let label = "z".repeat(255);
    let text = |rest: &[u8]| {
        let mut text = vec![0; 7];
        text.extend_from_slice(rest);
        String::from_utf8(text).unwrap()
    };
    let mut rest = label.clone().into_bytes();
    rest.extend([1, 0, 0, 0, 0, 0, 0, 0, b'v']);
    let one = names::idempotency(&text(&rest), &[("a", "x")]);
    let other = names::idempotency("", &[("a", "x"), (&label, "v")]);
    assert_ne!(one, other);
}

#[test]
fn all_keys_of_a_value_are_in_one_slot() {
    let server = Server::start(Engine::Redis, &["cluster-enabled yes"]).unwrap();
    let slot = |key: &[u8]| -> u16 { server.ask(&[b"CLUSTER", b"KEYSLOT", key]).unwrap() };
    let desk = desk(&["a"]);
    for text in texts() {
        let accounts = desk.resolve(&[("a", &text)]);
        let tag = accounts[0].tag;
        let home = slot(format!("{tag:08x}").as_bytes());
        let id = names::new_id(tag);
        let name = names::idempotency(&text, &[("a", &text)]);
        let mut keys = vec![
            names::record("tg", tag, id),
            names::key("tg", tag, b'n', &name),
        ];
        for account in &accounts {
            assert_eq!(
                account.tag, tag,
                "rules that count apart alike share a slot"
            );
            keys.push(account.key.clone());
            keys.extend(account.slots("tg"));
        }
        for key in keys {
            assert_eq!(slot(&key), home, "{}", String::from_utf8_lossy(&key));
        }
    }
}
