use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::{Identity, KeyHash, Keyring, Rejection, Role, Roles, Trust, strip_key};

fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
        .collect()
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse().expect("name"), HeaderValue::from_static(value)))
        .collect()
}

fn ring(trust: Trust) -> Keyring {
    let alice = Identity::of_key(
        "alice",
        labels(&[("tenant", "acme"), ("user", "alice")]),
        Roles::default(),
    );
    let proxy = Identity::of_key("proxy", labels(&[]), Roles::of(&[Role::Decide]));
    Keyring::new(
        [
            (KeyHash::of(b"tg-alice"), alice),
            (KeyHash::of(b"tg-proxy"), proxy),
        ],
        trust,
    )
}

fn who(
    ring: &Keyring,
    sent: &[(&'static str, &'static str)],
    query: Option<&str>,
) -> Result<Arc<Identity>, Rejection> {
    ring.identify(&headers(sent), query)
}

#[test]
fn a_key_is_found_wherever_clients_put_it() {
    let ring = ring(Trust::Keys);
    type Way = (
        &'static [(&'static str, &'static str)],
        Option<&'static str>,
    );
    let ways: [Way; 6] = [
        (&[("authorization", "Bearer tg-alice")], None),
        (&[("authorization", "bearer  tg-alice ")], None),
        (&[("x-api-key", "tg-alice")], None),
        (&[("x-goog-api-key", "tg-alice")], None),
        (&[], Some("alt=sse&key=tg-alice")),
        (&[], Some("key=tg%2Dalice")),
    ];
    for (sent, query) in ways {
        let found = who(&ring, sent, query).expect("a known key");
        assert_eq!(found.key_id(), Some("alice"), "{sent:?} {query:?}");
        assert_eq!(found.label("key"), Some("alice"));
        assert_eq!(found.label("tenant"), Some("acme"));
        assert!(found.may(Role::Call) && found.may(Role::Decide) && !found.may(Role::Admin));
    }
}

#[test]
fn an_unknown_or_missing_key_is_told_apart_and_never_let_in() {
    let ring = ring(Trust::Keys);
    assert_eq!(who(&ring, &[], None), Err(Rejection::Missing));
    assert_eq!(
        who(&ring, &[("x-api-key", "")], Some("key=")),
        Err(Rejection::Missing)
    );
    for wrong in [
        "Bearer tg-alicf",
        "Bearer tg-alic",
        "Bearer tg-alice2",
        "Basic tg-alice",
        "tg-alice-x",
        "Bearer ",
    ] {
        let sent = headers(&[("authorization", wrong)]);
        let answer = ring.identify(&sent, None);
        assert!(
            matches!(answer, Err(Rejection::Unknown | Rejection::Missing)),
            "{wrong}: {answer:?}"
        );
    }
    // The first credential decides; a second one does not help.
    let both = &[
        ("authorization", "Bearer nobody"),
        ("x-api-key", "tg-alice"),
    ];
    assert_eq!(who(&ring, both, None), Err(Rejection::Unknown));
}

#[test]
fn headers_name_the_subject_only_when_trusted_and_never_override_a_key() {
    let sent = &[
        ("x-api-key", "tg-alice"),
        ("x-tallygate-tenant", "other"),
        ("x-tallygate-tier", "pro"),
    ];
    let plain = who(&ring(Trust::Keys), sent, None).expect("let in");
    assert_eq!(
        (plain.label("tenant"), plain.label("tier")),
        (Some("acme"), None)
    );
    let trusting = who(&ring(Trust::Headers), sent, None).expect("let in");
    assert_eq!(
        (trusting.label("tenant"), trusting.label("tier")),
        (Some("acme"), Some("pro"))
    );
    let proxied = &[("x-api-key", "tg-proxy"), ("x-tallygate-user", "bob")];
    assert_eq!(
        who(&ring(Trust::Headers), proxied, None)
            .expect("let in")
            .label("user"),
        Some("bob")
    );
}

#[test]
fn without_keys_everybody_is_let_in_and_named_by_trusted_headers_alone() {
    let open = Keyring::new([], Trust::Headers);
    assert!(open.is_empty());
    let bob = who(&open, &[("x-tallygate-user", "bob")], None).expect("let in");
    assert_eq!((bob.label("user"), bob.key_id()), (Some("bob"), None));
    assert_eq!(who(&open, &[], None).expect("let in").labels(), &[]);
}

#[test]
fn an_overlong_trusted_header_is_refused_at_its_bound() {
    let open = Keyring::new([], Trust::Headers);
    let sized = |n: usize| {
        let value = HeaderValue::from_str(&"u".repeat(n)).expect("a header");
        open.identify(
            &HeaderMap::from_iter([("x-tallygate-user".parse().expect("name"), value)]),
            None,
        )
    };
    assert!(sized(super::MAX_LABEL_VALUE).is_ok());
    assert_eq!(
        sized(super::MAX_LABEL_VALUE + 1),
        Err(Rejection::BadHeader("x-tallygate-user"))
    );
}

#[test]
fn a_key_in_the_query_is_not_forwarded() {
    assert_eq!(
        strip_key("/v1beta/models/x:g?alt=sse&key=k&b=%20"),
        "/v1beta/models/x:g?alt=sse&b=%20"
    );
    assert_eq!(strip_key("/v1beta/models/x:g?key=k"), "/v1beta/models/x:g");
    assert_eq!(strip_key("/a?monkey=1&keys=2"), "/a?monkey=1&keys=2");
    assert_eq!(strip_key("/a"), "/a");
}
