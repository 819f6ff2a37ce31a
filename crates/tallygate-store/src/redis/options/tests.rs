//! URLs that are read, and URLs that are refused without a word of their secrets.
use std::time::Duration;

use super::{Login, Node, RedisOptions, RedisUrlError, Tls, Topology};

fn node(host: &str, port: u16) -> Node {
    Node {
        host: host.to_owned(),
        port,
    }
}

fn login(user: Option<&str>, password: &str) -> Option<Login> {
    Some(Login {
        user: user.map(str::to_owned),
        password: password.to_owned(),
    })
}

fn options(url: &str) -> RedisOptions {
    RedisOptions::parse(url).unwrap_or_else(|refusal| panic!("{url}: {refusal}"))
}

fn refusal(url: &str) -> RedisUrlError {
    match RedisOptions::parse(url) {
        Ok(options) => panic!("{url} was read as {options:?}"),
        Err(refusal) => refusal,
    }
}

#[test]
fn a_host_is_enough() {
    let read = options("redis://limits");
    assert_eq!(read.topology, Topology::Standalone);
    assert_eq!(read.nodes, [node("limits", 6379)]);
    assert_eq!((read.db, read.login, read.tls), (0, None, None));
    assert_eq!(read.prefix, "tg");
    assert_eq!(read.timeout, Duration::from_millis(250));
    assert_eq!(read.connect_timeout, Duration::from_secs(1));
    assert_eq!(read.deadline, Duration::from_secs(1));
    assert_eq!(read.data, None);
    assert_eq!(read.connections, 2);
}

#[test]
fn every_part_is_read() {
    let read = options(
        "rediss://tally:s%40cr%2Fet%3A%23@[2001:db8::7]:6390/3?prefix=a:b.c-D_9&timeout=5ms\
         &connect_timeout=30s&deadline=2s&connections=16&ca=%2Fetc%2Fca%20one.pem",
    );
    assert_eq!(read.nodes, [node("2001:db8::7", 6390)]);
    assert_eq!(read.login, login(Some("tally"), "s@cr/et:#"));
    assert_eq!(read.db, 3);
    assert_eq!(read.tls, Some(Tls::with_ca("/etc/ca one.pem")));
    assert_eq!(read.prefix(), "a:b.c-D_9");
    assert_eq!(read.timeout, Duration::from_millis(5));
    assert_eq!(read.connect_timeout, Duration::from_secs(30));
    assert_eq!(read.deadline, Duration::from_secs(2));
    assert_eq!(read.connections, 16);
}

#[test]
fn sentinels_name_the_master() {
    let read = options(
        "redis+sentinel://:pw@s1,s2:7000,[::1]:7001/my%20limits/2?sentinel_user=watch&sentinel_password=p%26q",
    );
    let master = "my limits".to_owned();
    assert_eq!(read.topology, Topology::Sentinel { master });
    assert_eq!(
        read.nodes,
        [node("s1", 26379), node("s2", 7000), node("::1", 7001)]
    );
    assert_eq!(read.db, 2);
    assert_eq!(read.login, login(None, "pw"));
    assert_eq!(read.sentinel_login, login(Some("watch"), "p&q"));
}

#[test]
fn a_cluster_is_named_by_some_of_its_nodes() {
    let read = options("rediss+cluster://a:1,b:2/0");
    assert_eq!(read.topology, Topology::Cluster);
    assert_eq!(read.nodes, [node("a", 1), node("b", 2)]);
    assert_eq!(read.tls, Some(Tls::default()));
}

#[test]
fn an_empty_password_is_one() {
    assert_eq!(options("redis://u:@h").login, login(Some("u"), ""));
    assert_eq!(options("redis://u:a:b@h").login, login(Some("u"), "a:b"));
    assert_eq!(options("redis://u:a@b@h").login, login(Some("u"), "a@b"));
}

#[test]
fn neither_what_is_shown_nor_debug_tells_a_password() {
    let secret = "redis+sentinel://tally:hunter2@s1:1,s2:2/m/4?sentinel_password=hunter3&timeout=1s&prefix=x";
    let read = options(secret);
    let shown = read.shown();
    assert_eq!(
        shown,
        "redis+sentinel://tally:***@s1:1,s2:2/m/4?prefix=x&timeout=1s&sentinel_password=***"
    );
    for told in [shown, format!("{read:?}"), format!("{read:#?}")] {
        assert!(!told.contains("hunter"), "{told}");
    }
    assert_eq!(options("redis://h").shown(), "redis://h:6379");
    assert_eq!(
        options("rediss://:pw@[::1]/1").shown(),
        "rediss://:***@[::1]:6379/1"
    );
}

#[test]
fn what_is_wrong_is_said() {
    use RedisUrlError as E;
    for (url, expected) in [
        ("", E::Scheme),
        ("localhost:6379", E::Scheme),
        ("http://h", E::Scheme),
        ("redis+://h", E::Scheme),
        ("redis+sentinels://h/m", E::Scheme),
        ("redis://", E::NoHost { place: 1 }),
        ("redis://:6379", E::NoHost { place: 1 }),
        ("redis+cluster://a,,b", E::NoHost { place: 2 }),
        ("redis://a b", E::Host { place: 1 }),
        ("redis://[::1", E::Host { place: 1 }),
        ("redis://[localhost]", E::Host { place: 1 }),
        ("redis://[::1]6379", E::Host { place: 1 }),
        ("redis://h:0", E::Port { place: 1 }),
        ("redis://h:65536", E::Port { place: 1 }),
        ("redis://h:+1", E::Port { place: 1 }),
        ("redis://h:", E::Port { place: 1 }),
        ("redis://::1", E::NoHost { place: 1 }),
        ("redis://a,b", E::ManyServers { count: 2 }),
        ("redis://user@h", E::NoPassword),
        ("redis://h#0", E::Fragment),
        ("redis+sentinel://h", E::NoMaster),
        ("redis+sentinel://h/", E::NoMaster),
        ("redis+cluster://h/1", E::ClusterDatabase { db: 1 }),
        (
            "redis://h?timeout=1s&timeout=2s",
            E::Twice { name: "timeout" },
        ),
        ("redis://u%zz:p@h", E::Escape { place: "the user" }),
        (
            "redis://u:p%2@h",
            E::Escape {
                place: "the password",
            },
        ),
        (
            "redis://u:p%ff@h",
            E::Escape {
                place: "the password",
            },
        ),
        ("redis://h?prefix=%4", E::Escape { place: "prefix" }),
    ] {
        assert_eq!(refusal(url), expected, "{url}");
    }
}

#[test]
fn the_messages_name_the_place_and_the_mend() {
    for (url, expected) in [
        (
            "redis://h/zero",
            "the store URL ends in `/zero`, which is no database number",
        ),
        (
            "redis://h?conections=2",
            "the store URL has an unknown option `conections`: did you mean `connections`?",
        ),
        (
            "redis://h?insecure=true",
            "the store URL has an unknown option `insecure`: there are prefix, timeout, connect_timeout, deadline, \
             connections, ca, sentinel_user, sentinel_password",
        ),
        (
            "redis://h?connections=17",
            "the store URL gives `connections=17`: it must be a number from 1 to 16",
        ),
        (
            "redis://h?ca=x",
            "the store URL gives `ca`, which goes with rediss:// only",
        ),
        (
            "redis+cluster://h?sentinel_password=x",
            "the store URL gives `sentinel_password`, which goes with redis+sentinel:// only",
        ),
    ] {
        assert_eq!(refusal(url).to_string(), expected);
    }
}

#[test]
fn bounds_hold_at_their_edges() {
    let long = format!("redis://h?prefix={}", "p".repeat(64));
    assert_eq!(options(&long).prefix().len(), 64);
    for good in ["timeout=10s", "connect_timeout=10ms", "connections=1"] {
        options(&format!("redis://h?{good}"));
    }
    let long = format!("prefix={}", "p".repeat(65));
    for bad in [
        long.as_str(),
        "prefix=",
        "prefix=a{b",
        "prefix=a%20b",
        "timeout=4ms",
        "timeout=10001ms",
        "timeout=250",
        "timeout=1m",
        "timeout=-1s",
        "deadline=4ms",
        "deadline=31s",
        "connect_timeout=9ms",
        "connect_timeout=31s",
        "connections=0",
        "connections=",
        "connections=256",
    ] {
        let refusal = refusal(&format!("redis://h?{bad}"));
        assert!(matches!(refusal, RedisUrlError::Value { .. }), "{bad}");
    }
    let many = vec!["h"; 65].join(",");
    let expected = RedisUrlError::TooManyServers {
        count: 65,
        most: 64,
    };
    assert_eq!(refusal(&format!("redis+cluster://{many}")), expected);
    assert_eq!(
        options(&format!("redis+cluster://{}", &many[2..]))
            .nodes
            .len(),
        64
    );
}

/// A password that was not escaped splits the URL elsewhere; the pieces are in no message.
#[test]
fn no_refusal_tells_a_password() {
    for url in [
        "redis://u:hunter/2hunter@h",
        "redis://u:hunter?2hunter=hunter@h",
        "redis://u:hunter#2hunter@h",
        "redis://u:hunter%2hunter@h",
        "redis://u:%hunter@h",
        "redis://u:hunter@h:hunter",
        "redis://u:hunter",
        "redis://u:hunter?2hunter=hunter",
        "redis://:hunter",
        "redis+cluster://u:hunter,hunter@",
        "redis+sentinel://u:hunter@h/m?sentinel_password=%hunter",
        "redis+sentinel://u:hunter@h/m?sentinel_password=a&sentinel_password=hunter",
        "redis://u:hunter@h?sentinel_password=hunter",
        "redis://u:hunter@h?timout=1s",
    ] {
        let refusal = refusal(url);
        assert!(
            !format!("{refusal} {refusal:?}").contains("hunter"),
            "{url}: {refusal}"
        );
    }
}

#[test]
fn a_prefix_may_be_said_beside_the_url() {
    let named = |url: &str, prefix| options(url).with_prefix(prefix);
    let read = named("redis://h?timeout=5ms", "app:1").unwrap();
    assert_eq!(
        (read.prefix(), read.timeout),
        ("app:1", Duration::from_millis(5))
    );
    let long = "p".repeat(65);
    for wrong in ["", "a&timeout=9s", "a%41", &long] {
        assert!(
            named("redis://h", wrong)
                .unwrap_err()
                .to_string()
                .contains("prefix")
        );
    }
    let twice = named("redis://h?prefix=one", "two").unwrap_err();
    assert_eq!(twice, RedisUrlError::Twice { name: "prefix" });
}
