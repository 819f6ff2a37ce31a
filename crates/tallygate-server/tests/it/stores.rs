//! `store:` and what belongs to it.

use std::path::Path;

use tallygate_core::StoreDown;
use tallygate_server::Config;
use tallygate_server::config::{ConfigErrors, Kind, StoreChoice, Unreloadable};
use tallygate_store::Durability;

fn env(name: &str) -> Option<String> {
    match name {
        "REDIS_PASSWORD" => Some("never-shown".to_owned()),
        "STORE" => Some("redis+sentinel://:never-shown@s1,s2,s3/main?prefix=prod".to_owned()),
        "DATA" => Some("/var/lib/tallygate".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "tallygate.yaml", &env)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{}", errors.render()))
}

#[test]
fn every_kind_of_store_is_read_and_shown_without_its_password() {
    for (written, shown) in [
        ("memory", "memory"),
        ("./tallygate-data", "./tallygate-data"),
        ("/var/lib/tally:gate", "/var/lib/tally:gate"),
        ("data/counters", "data/counters"),
        ("redis://10.0.0.1", "redis://10.0.0.1:6379"),
        (
            "rediss://u:${REDIS_PASSWORD}@h/2",
            "rediss://u:***@h:6379/2",
        ),
        (
            "${STORE}",
            "redis+sentinel://:***@s1:26379,s2:26379,s3:26379/main?prefix=prod",
        ),
        ("rediss+sentinel://h/m", "rediss+sentinel://h:26379/m"),
        (
            "redis+cluster://a:7000,b:7001",
            "redis+cluster://a:7000,b:7001",
        ),
        ("rediss+cluster://a", "rediss+cluster://a:6379"),
    ] {
        let config = good(&format!("store: {written}"));
        assert_eq!(config.store().to_string(), shown);
        assert_eq!(config.store().is_elsewhere(), shown.contains("://"));
        assert!(!format!("{config:?}").contains("never-shown"));
        assert!(config.warnings().problems().is_empty());
        let alone = StoreChoice::parse(written, "--store", &env);
        assert_eq!(alone.ok().as_ref(), Some(config.store()));
    }
    assert_eq!(*good("").store(), StoreChoice::Memory);
}

#[test]
fn what_is_no_store_is_told_with_its_mend_and_without_its_password() {
    for case in [
        (
            "memroy",
            Kind::Value,
            "that is no store",
            "write `memory` for counters in this process, ./tallygate-data (with a slash) for a folder, or redis://HOST",
        ),
        (
            "~/tallygate-data",
            Kind::Value,
            "that is no store",
            "write `memory`",
        ),
        (
            "redis//10.0.0.9/3",
            Kind::Value,
            "a store URL begins with redis://",
            "write it as redis://HOST",
        ),
        (
            "reddis://:never-shown@h",
            Kind::Value,
            "the store URL begins with none of",
            "write it as redis://HOST, redis+sentinel://HOST,HOST/MASTER or redis+cluster://HOST,HOST",
        ),
        (
            "redis://:${UNSET}@h",
            Kind::Environment,
            "the environment variable `UNSET` is not set",
            "set it before the start: export UNSET=…",
        ),
        (
            "redis://never-shown@h",
            Kind::Value,
            "the store URL names a user without a password",
            "write user:password@host, or :password@host for the default user",
        ),
        (
            "redis://:never/shown@h",
            Kind::Value,
            "the store URL has an `@` after its servers",
            "in user, password and values write `@` as %40",
        ),
        (
            "redis://h?tiemout=1s",
            Kind::Value,
            "the store URL has an unknown option `tiemout`",
            "did you mean `timeout`?",
        ),
        (
            "redis+sentinel://h",
            Kind::Value,
            "the store URL has no master name",
            "write redis+sentinel://host:26379/NAME",
        ),
    ] {
        is_told(case);
    }
}

/// A typo before the `@`, or a host that was forgotten, shows no login.
#[test]
fn what_was_meant_as_a_url_shows_no_login() {
    for case in [
        (
            "redis//u:never-shown@h",
            Kind::Value,
            "a store URL begins with redis://, rediss://, redis+sentinel:// or redis+cluster://",
            "write it as redis://HOST",
        ),
        (
            "redis:/u:never-shown@h",
            Kind::Value,
            "a store URL begins with redis://",
            "write it as redis://HOST",
        ),
        (
            "u:never-shown@h:6379",
            Kind::Value,
            "a store URL begins with redis://",
            "write it as redis://HOST",
        ),
        (
            "redis://u:never-shown",
            Kind::Value,
            "the port of server 1 of the store URL is no number from 1 to 65535",
            "write host:port, and a login before an `@`",
        ),
        (
            "redis://h?prefix=a%20b",
            Kind::Value,
            "the store URL gives `prefix=a b`",
            "it must be 1 to 64 of A-Z a-z 0-9 _ - . :",
        ),
    ] {
        is_told(case);
    }
}

/// What stands behind `store:`, and what is said of it.
type Case<'c> = (&'c str, Kind, &'c str, &'c str);

fn is_told((written, kind, message, mend): Case<'_>) {
    let errors = parse(&format!("store: {written}")).expect_err("it is no store");
    let problem = &errors.problems()[0];
    assert_eq!(errors.problems().len(), 1, "{}", errors.render());
    assert_eq!(
        (problem.kind(), problem.line(), problem.column()),
        (kind, 1, 8)
    );
    assert!(problem.message().starts_with(message), "{problem:?}");
    assert!(
        problem.mending().is_some_and(|how| how.starts_with(mend)),
        "{problem:?}"
    );
    let alone = StoreChoice::parse(written, "--store", &env).expect_err("it is no store");
    let all = format!("{errors:?}{}{alone:?}{}", errors.render(), alone.render());
    assert!(
        !all.contains("never-shown") && !all.contains("never/shown"),
        "{all}"
    );
}

#[test]
fn a_data_folder_goes_with_a_store_elsewhere() {
    let config = good("store: redis://h\ndata: ${DATA}");
    assert_eq!(config.data(), Some(Path::new("/var/lib/tallygate")));
    assert_eq!(good("store: redis://h").data(), None);
    let errors = parse("data: /var/lib/tallygate").unwrap_err();
    assert_eq!(errors.problems()[0].kind(), Kind::Conflict);
    assert_eq!(
        errors.problems()[0].mending(),
        Some("remove `data`, or write `store: redis://HOST`")
    );
    // A store that is wrong is reported once, and not as memory too.
    let errors = parse("store: redis://\ndata: x\nstore_down: open").unwrap_err();
    assert_eq!(errors.problems().len(), 1, "{}", errors.render());
}

#[test]
fn durability_goes_with_a_folder() {
    let config = good("store: ./data\ndurability: sync\nstore_down: open");
    assert_eq!(config.durability(), Durability::Sync);
    assert!(
        config.warnings().problems().is_empty(),
        "a disk can be full"
    );
    assert_eq!(good("store: ./data").durability(), Durability::Relaxed);
    for (text, said) in [
        ("durability: sync", "the store is memory"),
        (
            "store: redis://h\ndurability: relaxed",
            "its own configuration says",
        ),
    ] {
        let errors = parse(text).unwrap_err();
        let [problem] = errors.problems() else {
            panic!("{}", errors.render());
        };
        assert_eq!(problem.kind(), Kind::Conflict);
        assert!(problem.message().contains(said), "{problem:?}");
    }
    let errors = parse("store: ./data\ndurability: sycn").unwrap_err();
    assert_eq!(errors.problems()[0].mending(), Some("did you mean `sync`?"));
}

#[test]
fn limits_inherit_what_they_do_without_their_store() {
    let limits = "limits: [{ name: a, tokens: 1, every: 1s }, { name: b, tokens: 1, every: 1s, store_down: open }]";
    let config = good(&format!("store: redis://h\nstore_down: share\n{limits}"));
    let said: Vec<StoreDown> = config
        .policy()
        .limits()
        .map(|limit| limit.store_down)
        .collect();
    assert_eq!(said, [StoreDown::Share, StoreDown::Open]);
    assert!(config.warnings().problems().is_empty());
}

#[test]
fn calls_in_flight_have_no_share() {
    let limits = "limits: [{ name: a, concurrency: 5 }, { name: b, concurrency: 5, store_down: closed }, { name: c, tokens: 5, every: 1s }]";
    let config = good(&format!("store: redis://h\nstore_down: share\n{limits}"));
    let [warning] = config.warnings().problems() else {
        panic!("{}", config.warnings().render());
    };
    assert_eq!((warning.kind(), warning.line()), (Kind::Conflict, 3));
    assert!(warning.message().contains("the limit `a`"), "{warning:?}");
}

#[test]
fn a_reload_keeps_its_store() {
    let running = good("store: redis://:${REDIS_PASSWORD}@h\ndata: a");
    for (next, refused) in [
        ("store: redis://:other@h\ndata: a", Unreloadable::Store),
        ("store: memory", Unreloadable::Store),
        (
            "store: redis://:${REDIS_PASSWORD}@h\ndata: b",
            Unreloadable::Data,
        ),
    ] {
        assert_eq!(running.reloadable(&good(next)), Err(refused));
    }
    let folder = good("store: ./data");
    assert_eq!(
        folder.reloadable(&good("store: ./other")),
        Err(Unreloadable::Store)
    );
    let sync = good("store: ./data\ndurability: sync");
    assert_eq!(folder.reloadable(&sync), Err(Unreloadable::Durability));
    let same = good("store: redis://:never-shown@h:6379/0?prefix=tg\ndata: a\nstore_down: open");
    assert_eq!(running.reloadable(&same), Ok(()));
}

/// A store that answers is not away: who calls is told what it says, and not where it is.
#[tokio::test]
async fn a_store_that_refuses_is_said_to_refuse_with_its_code() {
    use tallygate_sim::servers::{Engine, Server as Redis};
    let redis = Redis::start(Engine::Redis, &[]).expect("a server");
    let settings = format!(
        "store: {}\nlimits: [{{ name: day, tokens: 1000, every: day }}]",
        redis.url()
    );
    let world = crate::world::World::new(&settings).await;
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    redis.command(&full).expect("it is full");
    let asked = r#"{"demand": {"tokens": 1}}"#;
    let refused = world.post("/tallygate/v1/reserve", asked).await;
    let decided = refused.json()["error"]["message"].clone();
    let call = tallygate_sim::ApiCall::chat("gpt-4o", "Hi");
    let refused_call = world.call(&call).await;
    let called = refused_call.json()["error"]["message"].clone();
    assert_eq!((refused.status, refused_call.status), (503, 503));
    for message in [decided, called] {
        let message = message.as_str().expect("a text").to_lowercase();
        assert!(message.contains("the store refuses (oom)"), "{message}");
        assert!(!message.contains("127.0.0.1"), "{message}");
    }
}
