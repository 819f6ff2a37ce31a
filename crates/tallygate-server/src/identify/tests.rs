use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use tallygate_store::registry::{Keeper, Stamp};

use super::{End, Identity, KeyHash, Keyring, Pass, Rejection, Role, Roles, Trust, strip_key};

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
            Pass::new(KeyHash::of(b"tg-alice"), alice, End::Never),
            Pass::new(KeyHash::of(b"tg-proxy"), proxy, End::Never),
        ],
        trust,
    )
}

fn who(
    ring: &Keyring,
    sent: &[(&'static str, &'static str)],
    query: Option<&str>,
) -> Result<Arc<Identity>, Rejection> {
    ring.identify(&headers(sent), query, Stamp::default)
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
        let answer = ring.identify(&sent, None, Stamp::default);
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
    assert!(open.is_open());
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
            Stamp::default,
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

#[test]
fn a_key_lets_in_until_its_end_and_not_at_it() {
    let pass = |key: &[u8], end| {
        let id = String::from_utf8_lossy(key).into_owned();
        let owner = Identity::of_key(&id, labels(&[]), Roles::of(&[Role::Admin]));
        Pass::new(KeyHash::of(key), owner, end)
    };
    let end = Stamp::from_millis(1_000);
    let ring = Keyring::new(
        [pass(b"ends", End::At(end)), pass(b"revoked", End::Revoked)],
        Trust::Keys,
    );
    let at = |key: &'static str, millis| {
        let sent = headers(&[("x-api-key", key)]);
        ring.identify(&sent, None, || Stamp::from_millis(millis))
    };
    let owner = at("ends", 999).expect("still good");
    assert_eq!(at("ends", 1_000), Err(Rejection::Expired));
    assert_eq!(at("revoked", 0), Err(Rejection::Revoked));
    assert_eq!(ring.keeper(Stamp::from_millis(999)), Keeper::Ending);
    assert_eq!(ring.keeper(end), Keeper::Nobody);
    let kept = ring.clone().with([pass(b"kept", End::Never)]);
    assert_eq!(kept.keeper(end), Keeper::Lasting);
    assert!(!ring.has_revoked(&owner), "its time is over, no more");
    let gone = Keyring::new([pass(b"revoked", End::Revoked)], Trust::Keys);
    assert!(gone.has_revoked(&owner), "taken away");
    assert!(Keyring::default().closed().has_revoked(&owner));
}

#[test]
fn a_keyring_without_a_live_key_lets_nobody_in() {
    let owner = Identity::of_key("a", labels(&[]), Roles::default());
    let ring = Keyring::new(
        [Pass::new(KeyHash::of(b"a"), owner, End::Revoked)],
        Trust::Keys,
    );
    assert!(!ring.is_open());
    assert_eq!(who(&ring, &[], None), Err(Rejection::Missing));
    let emptied = Keyring::new([], Trust::Keys).closed();
    assert_eq!(who(&emptied, &[], None), Err(Rejection::Missing));
    assert_eq!(
        who(&emptied, &[("x-api-key", "a")], None),
        Err(Rejection::Unknown)
    );
}
