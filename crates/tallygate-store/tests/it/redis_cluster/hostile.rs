//! Whatever callers write into labels and values.
use super::Two;
use crate::live::{admitted, hour};
use crate::support::{ask, rule, tokens};
use tallygate_core::{Metric, Metrics, Policy};
use tallygate_sim::servers::Cluster;
use tallygate_store::Store;

/// Texts that have undone stores whose keys are made of them.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        "{",
        "}",
        "{}",
        "{a}",
        "}{",
        "{tg}",
        "a",
        "a\0",
        "\0a",
        "\0",
        "a\nb",
        "a\r\nb",
        "\r\n",
        "*3\r\n$3\r\nDEL\r\n",
        "a:b",
        "a b",
        "a/b",
        "a,b",
        "a=b",
        "é",
        "e\u{301}",
        "日本語",
        "\u{202e}a",
        "🦀",
        "%00",
        "'",
        "\"",
        "\\",
        "A",
        " a",
        "a ",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(65_536));
    texts.push(format!("{}y", "x".repeat(65_535)));
    texts.push("{".repeat(65_536));
    texts
}

fn policy() -> Policy {
    let limits = [(Metric::TOKENS, 1_000_000, hour())];
    let rules = vec![
        rule("one", &["user"], &limits),
        rule("two", &["user", "tenant"], &limits),
        rule("all", &[], &limits),
    ];
    Policy::new(rules, Metrics::default()).expect("a policy")
}

pub(super) async fn no_text_collides_or_leaves_its_slot(cluster: &Cluster) {
    let two = Two::open(cluster, "hostile", &policy()).await;
    let texts = texts();
    // Values change places too: where one ends and the next begins must be told.
    let subjects: Vec<[(&str, &str); 2]> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let next = &texts[(at + 1) % texts.len()];
            [("user", text.as_str()), ("tenant", next.as_str())]
        })
        .chain([
            [("user", "ab"), ("tenant", "c")],
            [("user", "abc"), ("tenant", "")],
        ])
        .collect();
    let mut sum = 0;
    for (at, subject) in subjects.iter().enumerate() {
        let amount = 1 + at as u64;
        sum += amount;
        admitted(two.one.reserve(ask(subject, tokens(amount))).await);
    }
    for (at, subject) in subjects.iter().enumerate() {
        let standings = two.two.peek(subject).await.expect("an answer");
        let used: Vec<u64> = standings.iter().map(|one| one.used).collect();
        let amount = 1 + at as u64;
        assert_eq!(used, [amount, amount, sum], "{:.20?}", subject[0].1);
    }
    assert_eq!(two.keys(b'a').len(), 2 * subjects.len() + 1);
    for kind in [b'a', b'r'] {
        for (key, node) in two.keys(kind) {
            stands_in_the_slot_of_its_tag(&two, &key);
            assert!(key.len() < 64, "a key is short: {}", key.len());
            let slot = cluster.slot_of(&key).expect("a slot");
            let owner = cluster.owner_of(slot).expect("an owner");
            assert_eq!(owner.port(), node.port());
        }
    }
}

fn stands_in_the_slot_of_its_tag(two: &Two<'_>, key: &[u8]) {
    let from = two.prefix.len() + ":{".len();
    let tag = &key[from..from + 8];
    assert!(tag.iter().all(u8::is_ascii_hexdigit), "{key:?}");
    let slots = [key, tag].map(|text| two.cluster.slot_of(text).expect("a slot"));
    assert_eq!(slots[0], slots[1], "{key:?}");
}
