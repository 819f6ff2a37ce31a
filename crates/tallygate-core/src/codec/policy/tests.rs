use super::*;
use crate::policy::LimitInfo;

fn rule(name: &str, limits: Vec<(Metric, u64, Shape)>) -> Rule {
    Rule {
        name: name.to_owned(),
        when: Vec::new(),
        per: Vec::new(),
        limits,
        mode: Mode::Enforce,
        store_down: StoreDown::Closed,
    }
}

/// Every shape, zone, choice and kind of name.
fn policy() -> Policy {
    let metrics = Metrics::with_custom(["images", "audio seconds"]).expect("they are free");
    let audio = metrics.find("audio seconds").expect("it was made");
    let bucket = |burst, strict| Shape::Bucket {
        every: Span::from_secs(60),
        burst,
        strict,
    };
    let zones =
        ["Europe/Berlin", "Asia/Kathmandu", "UTC"].map(|name| TimeZone::get(name).expect("a zone"));
    let fixed = Offset::from_seconds(-12_600)
        .map(TimeZone::fixed)
        .expect("an offset");
    let zones = zones.into_iter().chain([TimeZone::UTC, fixed]).enumerate();
    let windows = zones.map(|(at, timezone)| {
        let window = Calendar::ALL[at];
        rule(
            &format!("fixed-{at}"),
            vec![(Metric::COST, 7, Shape::Fixed { window, timezone })],
        )
    });
    let every = Span::from_nanos(7);
    let mixed = vec![
        (Metric::REQUESTS, 600, bucket(None, false)),
        (Metric::TOKENS, 600, bucket(Some(9), false)),
        (Metric::INPUT_TOKENS, 600, bucket(None, true)),
        (audio, 1 << 53, Shape::Sliding { every }),
        (Metric::CONCURRENCY, 1, Shape::Concurrency),
    ];
    let mixed = Rule {
        when: vec![
            ("tier".to_owned(), vec!["pro*".to_owned(), "*".to_owned()]),
            ("model".to_owned(), vec!["gpt-*-mini".to_owned()]),
        ],
        per: vec!["user".to_owned(), "tenant".to_owned()],
        mode: Mode::Shadow,
        store_down: StoreDown::Share,
        ..rule("größer", mixed)
    };
    let rules = windows.chain([mixed]).collect();
    Policy::new(rules, metrics).expect("it can be")
}

#[test]
fn a_policy_comes_back_whole() {
    let policy = policy();
    let mut bytes = Vec::new();
    policy.write(&mut bytes);
    let mut from = Reader::new(&bytes);
    let again = Policy::read(&mut from).expect("it was written");
    assert!(from.is_empty());
    let infos = |policy: &Policy| {
        policy
            .limits()
            .map(|info| LimitInfo::clone(info))
            .collect::<Vec<_>>()
    };
    assert_eq!(infos(&again), infos(&policy));
    for (rule, known) in again.rules().iter().zip(policy.rules()) {
        assert_eq!(
            (&rule.tag, &rule.when, &rule.per),
            (&known.tag, &known.when, &known.per)
        );
    }
    assert!(again.metrics().iter().eq(policy.metrics().iter()));
    let mut twice = Vec::new();
    again.write(&mut twice);
    assert_eq!(twice, bytes);
}

#[test]
fn a_zone_that_is_not_known_is_named() {
    let mut bytes = Vec::new();
    policy().write(&mut bytes);
    let at = bytes
        .windows(6)
        .position(|text| text == b"Berlin")
        .expect("it is there");
    bytes[at] = b'X';
    let unknown = Policy::read(&mut Reader::new(&bytes)).err();
    assert_eq!(
        unknown,
        Some(JournalError::Zone("Europe/Xerlin".to_owned()))
    );
}
