//! Configurations: what good ones say, and what is told about bad ones.

use std::fs;
use std::path::Path;

use tallygate_server::config::{CheckReport, Config, ConfigErrors, Kind, Priced, Unreloadable};
use tallygate_tokens::{Dialect, Endpoint, OutputEstimate};

use crate::golden;

fn env(name: &str) -> Option<String> {
    match name {
        "BASE" => Some("https://base.test".to_owned()),
        "EMPTY" => Some(String::new()),
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
fn every_mistake_is_told_with_its_place_and_mend() {
    let mut differences = Vec::new();
    for path in golden::inputs("config", "yaml") {
        let text = fs::read_to_string(&path).expect("readable");
        let name = path.file_name().expect("a file").to_string_lossy();
        let shown = match Config::parse(&text, &name, &env) {
            Ok(config) => config.warnings().render(),
            Err(errors) => errors.render(),
        };
        differences.extend(golden::difference(&path.with_extension("txt"), &shown));
    }
    golden::all_equal(differences);
}

#[test]
fn a_report_for_machines_has_the_same_places() {
    let errors = parse("limits:\n  - { name: a, toknes: 5, every: 60s }\n").unwrap_err();
    let report = serde_json::to_value(CheckReport::new("f.yaml", errors.problems())).expect("JSON");
    assert_eq!(report["usable"], false);
    assert_eq!(report["problems"][0]["line"], 2);
    assert_eq!(report["problems"][0]["column"], 16);
    assert_eq!(report["problems"][0]["kind"], "unknown");
    assert_eq!(report["problems"][0]["mend"], "did you mean `tokens`?");
}

#[test]
fn no_key_is_ever_shown() {
    for name in [
        "secrets.yaml",
        "secret-syntax.yaml",
        "store-url.yaml",
        "store-syntax.yaml",
    ] {
        let text = fs::read_to_string(golden::folder("config").join(name)).expect("readable");
        let errors = parse(&text).unwrap_err();
        let all = format!(
            "{errors:?}{errors}{}{}",
            errors.render(),
            errors.render_coloured()
        );
        let report =
            serde_json::to_string(&CheckReport::new(name, errors.problems())).expect("JSON");
        assert!(
            !all.contains("never-shown") && !report.contains("never-shown"),
            "{name}: {all}{report}"
        );
    }
    let config = good(
        "upstreams: { a: { dialect: openai, base_url: 'https://a.test', api_key: sk-never-shown } }",
    );
    assert!(!format!("{config:?}").contains("never-shown"));
    assert_eq!(
        config.upstreams()[0].api_key().map(|key| key.reveal()),
        Some("sk-never-shown")
    );
}

const FULL: &str = r#"
listen: localhost:0
admin: none
upstreams:
  openai: { dialect: openai, base_url: "https://api.openai.com/v1", api_key: k1 }
  claude: { dialect: anthropic, base_url: "https://api.anthropic.com", api_key: k2 }
  other: { dialect: openai, base_url: "https://other.test" }
models:
  gpt-4o: { upstream: openai, match: ["gpt-4o", "gpt-4o-2*"], output_estimate: 1.25 }
  all-gpt: { upstream: other, match: ["gpt-*"], output_estimate: max_tokens }
  mini: { upstream: other, match: "gpt-4o-mini*", output_estimate: learned, output_quantile: 0.9 }
  o3: { upstream: other }
limits:
  - { name: calls, when: { model: [gpt-4o, mini] }, per: [upstream, model], requests: 10_000, tokens: 2_000_000, every: 60s }
  - { name: streams, per: user, concurrency: 3, requests: 5, every: 1s, burst: 50, mode: shadow, store_down: open }
  - { name: spend, per: [tenant], cost: 2_000.50, every: month, timezone: Europe/Berlin }
  - { name: hard, tokens: 100, every: day, shape: sliding }
metrics: [images]
tiers:
  free: { models: [mini, "o*"], limits: [{ name: free-day, per: [user], images: 10, every: day }] }
  pro: {}
keys:
  - { id: alice, hash: "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", subject: { tier: free } }
prices: { models: { all-gpt: { input: 1, output: 2 }, mini: gpt-4o-mini } }
waiting: { queue: 0, max_wait: 1500ms }
bounds: { max_body: 1MiB, total_time: 10m }
"#;

#[test]
fn calls_go_to_the_most_specific_model_of_their_dialect() {
    let config = good(FULL);
    let route = |endpoint, model| {
        config
            .route(endpoint, model)
            .map(|route| (route.model.to_owned(), route.upstream.name().to_owned()))
    };
    let to = |model: &str, upstream: &str| Ok((model.to_owned(), upstream.to_owned()));
    assert_eq!(
        route(Endpoint::ChatCompletions, "gpt-4o"),
        to("gpt-4o", "openai")
    );
    assert_eq!(
        route(Endpoint::Responses, "gpt-4o-2024-08-06"),
        to("gpt-4o", "openai")
    );
    assert_eq!(
        route(Endpoint::ChatCompletions, "gpt-4o-mini-2024"),
        to("mini", "other")
    );
    assert_eq!(
        route(Endpoint::ChatCompletions, "gpt-4.1"),
        to("all-gpt", "other")
    );
    assert_eq!(
        route(Endpoint::ChatCompletions, "llama"),
        to("llama", "openai"),
        "the first upstream of the dialect"
    );
    assert_eq!(
        route(Endpoint::Messages, "claude-x"),
        to("claude-x", "claude")
    );
    let misplaced = route(Endpoint::Messages, "gpt-4o").unwrap_err().to_string();
    assert_eq!(
        misplaced,
        "the model `gpt-4o` is served in the openai dialect"
    );
    let nowhere = route(Endpoint::GenerateContent, "gemini")
        .unwrap_err()
        .to_string();
    assert_eq!(nowhere, "no upstream speaks the gemini dialect");
    assert_eq!(
        config
            .upstream_for(Dialect::OpenAi)
            .map(|upstream| upstream.name()),
        Some("openai")
    );
}

#[test]
fn output_estimates_are_the_models_own_unless_chosen() {
    let config = good(FULL);
    let estimate = |model| {
        config
            .route(Endpoint::ChatCompletions, model)
            .expect("a route")
            .output
            .estimate
    };
    assert_eq!(
        estimate("gpt-4o"),
        OutputEstimate::Multiplier { per_mille: 1_250 }
    );
    assert_eq!(estimate("gpt-4.1"), OutputEstimate::MaxTokens);
    assert_eq!(
        estimate("o3"),
        OutputEstimate::Multiplier { per_mille: 1_200 }
    );
    let learned = OutputEstimate::Learned {
        quantile_per_mille: 900,
        fallback_per_mille: 1_200,
    };
    assert_eq!(estimate("gpt-4o-mini"), learned);
}

#[test]
fn limits_become_rules() {
    let config = good(FULL);
    let told: Vec<String> = config
        .policy()
        .limits()
        .map(|limit| {
            format!(
                "{} {} {}: {}",
                limit.name,
                limit.metric_name,
                limit.window(),
                limit.promise()
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "calls requests 60s: never more than 10000 requests at once plus a refill of 10000 every 60s: at most 20000 in any span of 60s",
            "calls tokens 60s: never more than 2000000 tokens at once plus a refill of 2000000 every 60s: at most 4000000 in any span of 60s",
            "streams concurrency at once: never more than 3 concurrency at once",
            "streams requests 1s: never more than 50 requests at once plus a refill of 5 every 1s: at most 55 in any span of 1s",
            "spend cost month: never more than $2000.50 in a calendar month (Europe/Berlin); up to $4001.00 across an edge",
            "hard tokens 1d: never more than 100 tokens in any span of 1d",
            "free-day images day: never more than 10 images in a calendar day (UTC); up to 20 across an edge",
        ]
    );
    let of = |subject: &[(&str, &str)]| {
        config
            .policy()
            .limits_of(subject)
            .map(|limit| limit.name.to_string())
            .collect::<Vec<_>>()
    };
    assert!(of(&[("tier", "free")]).contains(&"free-day".to_owned()));
    assert!(
        !of(&[("tier", "pro")]).contains(&"free-day".to_owned()),
        "a tier's limits are the tier's"
    );
    assert!(of(&[("model", "mini")]).contains(&"calls".to_owned()));
}

#[test]
fn tiers_have_their_models_and_no_others() {
    let config = good(FULL);
    let permits = |tier, model| {
        config
            .permits_tier(tier, model)
            .map_err(|forbidden| forbidden.to_string())
    };
    assert_eq!(permits(Some("free"), "mini"), Ok(()));
    assert_eq!(permits(Some("free"), "o3"), Ok(()), "by pattern");
    assert_eq!(
        permits(Some("free"), "gpt-4o"),
        Err("the model `gpt-4o` is not in the tier `free`".to_owned())
    );
    assert_eq!(
        permits(Some("pro"), "gpt-4o"),
        Ok(()),
        "a tier that names no models has all"
    );
    assert_eq!(
        permits(Some("gold"), "mini"),
        Err("the tier `gold` is not known".to_owned())
    );
    assert_eq!(permits(None, "gpt-4o"), Ok(()));
}

#[test]
fn prices_are_the_files_own_before_the_built_in_ones() {
    let config = good(
        r#"
upstreams: { groq: { dialect: openai, base_url: "https://groq.test" } }
models:
  mine: { upstream: groq, match: ["mine-*", "gpt-4o", "gpt-4o-mini"] }
prices:
  unknown: { input: 9, output: 9.000001 }
  models:
    mine: { input: 2.50, cached_input: 0, cache_write: 3.125, output: 10, reasoning: 12, above: [{ input_tokens: 200_000, input: 5, output: 15 }] }
    gpt-4o: { input: 1, output: 1 }
    Same: claude-haiku-4-5
"#,
    );
    let price = |name, label, upstream| {
        let rates = config.prices().of(&Priced {
            name,
            label,
            upstream,
        });
        rates.map(ToString::to_string).expect("there is a default")
    };
    let own = "i2.5 c0 w3.125 o10 r12 >200000 i5 o15";
    assert_eq!(
        price("mine-2", "mine", Some("groq")),
        own,
        "by what it counts as"
    );
    assert_eq!(
        price("gpt-4o-2024-08-06", "mine", Some("groq")),
        "i1 o1",
        "its own name goes first"
    );
    assert_eq!(
        price("gpt-4o-mini", "mine", Some("groq")),
        own,
        "before the built-in one of its name"
    );
    assert_eq!(price("same", "same", None), "i1 c0.1 w1.25 o5");
    assert_eq!(
        price("llama-3.1-8b-instant", "llama-3.1-8b-instant", Some("groq")),
        "i0.05 o0.08"
    );
    assert_eq!(
        price("llama-3.1-8b-instant", "x", Some("elsewhere")),
        "i9 o9.000001"
    );
    assert_eq!(price("o3", "o3", None), "i2 c0.5 o8");
}

#[test]
fn a_file_of_prices_stands_between() {
    let prices = format!("tallygate-prices-{}.json", std::process::id());
    let path = std::env::temp_dir().join(&prices);
    let put = |text: &str| fs::write(&path, text).expect("written");
    let name = path.with_extension("yaml").display().to_string();
    let text = format!(
        "prices: {{ file: {prices}, models: {{ gpt-4o: {{ input: 1, output: 1 }}, mine: theirs }} }}"
    );
    let read = || Config::parse(&text, &name, &env);
    put(
        r#"{"models": {"gpt-4o": {"input": 7, "output": 7}, "o3": {"input": 7, "output": 8}, "theirs": {"input": 3, "output": 4}}}"#,
    );
    let config = read().expect("good");
    let price = |name| {
        let rates = config.prices().of(&Priced {
            name,
            label: name,
            upstream: None,
        });
        rates.map(ToString::to_string)
    };
    assert_eq!(price("gpt-4o").as_deref(), Some("i1 o1"));
    assert_eq!(price("o3").as_deref(), Some("i7 o8"));
    assert_eq!(price("mine").as_deref(), Some("i3 o4"));
    assert_eq!(price("gpt-5").as_deref(), Some("i1.25 c0.125 o10"));
    assert_eq!(price("nobody"), None);
    put(r#"{"models": {"m": {"input": -7, "output": 7}}}"#);
    let said = read().unwrap_err().problems()[0].message().to_owned();
    assert!(said.contains("`input` of `m` is `-7`"), "{said}");
    fs::remove_file(&path).expect("removed");
}

#[test]
fn the_rest_is_read_and_defaults_hold() {
    let config = good(FULL);
    assert_eq!(
        (config.listen().to_string().as_str(), config.admin()),
        ("127.0.0.1:0", None)
    );
    assert_eq!(
        (
            config.waiting().queue,
            config.waiting().max_wait.as_millis()
        ),
        (0, 1_500)
    );
    assert_eq!(
        (
            config.bounds().max_body,
            config.bounds().total_time.as_secs()
        ),
        (1 << 20, 600)
    );
    let empty = good("# nothing\n");
    assert_eq!(empty.listen().to_string(), "127.0.0.1:8787");
    assert_eq!(
        empty.admin().map(|admin| admin.to_string()).as_deref(),
        Some("127.0.0.1:8788")
    );
    assert_eq!(*empty.bounds(), tallygate_server::config::Bounds::default());
    assert_eq!(empty.policy().limits().count(), 0);
}

#[test]
fn only_this_machine_gets_in_without_keys() {
    let empty = good("");
    assert!(
        empty
            .may_listen_on("127.0.0.1:1".parse().expect("address"))
            .is_ok()
    );
    assert!(
        empty
            .may_listen_on("[::1]:1".parse().expect("address"))
            .is_ok()
    );
    assert!(
        empty
            .may_listen_on("0.0.0.0:1".parse().expect("address"))
            .is_err()
    );
    assert!(
        good(FULL)
            .may_listen_on("0.0.0.0:1".parse().expect("address"))
            .is_ok()
    );
}

#[test]
fn a_reload_cannot_change_what_is_fixed() {
    let running = good("metrics: [a]");
    let refused = |text: &str| {
        running
            .reloadable(&good(text))
            .map_err(|fixed| fixed.to_string())
    };
    assert_eq!(
        refused("metrics: [a, b]\nlimits: [{ name: x, tokens: 1, every: 1s }]"),
        Ok(())
    );
    assert!(refused("metrics: [b, a]").is_err_and(|said| said.contains("`metrics`")));
    assert!(refused("").is_err_and(|said| said.contains("`metrics`")));
    assert!(
        refused("metrics: [a]\nlisten: 127.0.0.1:1").is_err_and(|said| said.contains("`listen`"))
    );
    assert!(refused("metrics: [a]\nadmin: none").is_err_and(|said| said.contains("`admin`")));
    assert!(
        refused("metrics: [a]\nwaiting: { queue: 5 }")
            .is_err_and(|said| said.contains("`waiting.queue`"))
    );
    assert!(
        refused("metrics: [a]\nbounds: { max_connections: 5 }")
            .is_err_and(|said| said.contains("`bounds.max_connections`"))
    );
    assert_eq!(
        refused("metrics: [a]\nbounds: { max_body: 5MiB }\nwaiting: { max_wait: 5s }"),
        Ok(())
    );
}

#[test]
fn a_key_of_the_file_ends_at_an_instant_or_at_the_beginning_of_a_day() {
    use http::HeaderMap;
    use tallygate_server::identify::{KeyHash, Rejection};
    use tallygate_store::registry::Stamp;

    let hash = KeyHash::of(b"tg-alice");
    let key = |expires: &str| format!("keys: [{{ id: a, hash: '{hash}', expires: {expires} }}]");
    let headers = HeaderMap::from_iter([(
        http::header::AUTHORIZATION,
        "Bearer tg-alice".parse().expect("a value"),
    )]);
    for (expires, end) in [
        ("2027-01-15", 1_799_971_200_000),
        ("2027-01-15T08:00:00Z", 1_800_000_000_000),
        ("2027-01-15T09:00:00+01:00", 1_800_000_000_000),
    ] {
        let config = good(&key(expires));
        let at = |millis| {
            let now = || Stamp::from_millis(millis);
            config.keyring().identify(&headers, None, now)
        };
        assert!(at(end - 1).is_ok(), "{expires}");
        assert_eq!(at(end), Err(Rejection::Expired), "{expires}");
    }
    for wrong in ["soon", "2027-02-30", "30d", "1969-01-01"] {
        let refused = Config::parse(&key(wrong), "tallygate.yaml", &|_| None);
        let refused = refused.expect_err("no instant").render();
        assert!(refused.contains("2027-01-31"), "{refused}");
    }
}

#[test]
fn where_the_store_may_have_keys_an_exposed_listener_is_a_warning() {
    let exposed = |store: &str| format!("listen: 0.0.0.0:1\nstore: {store}");
    assert!(Config::parse(&exposed("memory"), "tallygate.yaml", &|_| None).is_err());
    for store in ["./data", "redis://h"] {
        let warnings = good(&exposed(store)).warnings().render();
        assert!(warnings.contains("tallygate keys create"), "{warnings}");
    }
}

#[test]
fn a_reload_cannot_let_everybody_in() {
    let hash = "0".repeat(64);
    let keyed = good(&format!("keys: [{{ id: a, hash: \"sha256:{hash}\" }}]"));
    let other = good(&format!("keys: [{{ id: b, hash: \"sha256:{hash}\" }}]"));
    assert_eq!(keyed.reloadable(&other), Ok(()));
    assert_eq!(keyed.reloadable(&good("")), Err(Unreloadable::Keys));
    assert_eq!(good("").reloadable(&keyed), Ok(()));
}

#[test]
fn the_fuzzers_corpus_and_prefixes_of_it_are_read_without_panic() {
    let inputs: Vec<_> = golden::inputs("config", "yaml")
        .into_iter()
        .chain(golden::inputs("config-fuzz", "yaml"))
        .collect();
    for path in inputs {
        let bytes = fs::read(&path).expect("readable");
        for end in (0..=bytes.len()).rev().step_by(11) {
            tallygate_server::config::fuzz(bytes.get(..end).unwrap_or_default());
        }
    }
    assert_eq!(
        parse("a: &a [*a]").unwrap_err().problems()[0].kind(),
        Kind::Syntax
    );
}

#[test]
fn the_examples_are_good() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let entries = fs::read_dir(examples).expect("the folder is checked in");
    let mut read = 0;
    for path in entries.map(|entry| entry.expect("readable").path()) {
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = fs::read_to_string(&path).expect("readable");
            let set = |_: &str| Some("a value of some length".to_owned());
            let config = Config::parse(&text, &path.display().to_string(), &set);
            config.unwrap_or_else(|errors| panic!("{}", errors.render()));
            read += 1;
        }
    }
    assert!(read > 0, "there are examples");
}

const LADDERS: &str = "
upstreams:
  openai: { dialect: openai, base_url: \"http://127.0.0.1:1/v1\" }
  anthropic: { dialect: anthropic, base_url: \"http://127.0.0.1:1\" }
prices: { models: { mini: gpt-4o-mini } }
models:
  gpt-4o: { upstream: openai, match: [\"gpt-4o-2*\", gpt-4o] }
  mini: { upstream: openai, match: [\"gpt-4o-mini-2*\", gpt-4o-mini, other], output_estimate: max_tokens }
  haiku: { upstream: anthropic, match: [claude-haiku-4-5] }
  small: { upstream: openai, match: [text-embedding-3-small] }
tiers:
  pro:
    downgrade: [mini, haiku, small]
    limits:
      - { name: day, tokens: 5, every: day }
      - { name: spend, cost: 5, every: 60s }
      - { name: minute, tokens: 5, every: 60s }
      - { name: mini-day, when: { model: mini }, tokens: 5, every: day }
      - { name: hard-day, tokens: 5, every: day, downgraded: count }
      - { name: below, tokens: 5, every: 60s, downgraded: only }
  free: { models: [mini], downgrade: [mini], limits: [{ name: free-day, tokens: 5, every: day }] }
  plain: { limits: [{ name: plain-day, tokens: 5, every: day }] }
";

#[test]
fn a_ladder_begins_at_the_models_own_rung() {
    let config = good(LADDERS);
    let ladder = |tier, model| -> Vec<String> {
        let rungs = config.ladder(tier, model).into_iter();
        rungs.map(|rung| rung.route.model.to_owned()).collect()
    };
    assert_eq!(ladder(Some("pro"), "gpt-4o"), ["mini", "haiku", "small"]);
    assert_eq!(ladder(Some("pro"), "mini"), ["mini", "haiku", "small"]);
    assert_eq!(ladder(Some("pro"), "small"), ["small"]);
    assert_eq!(ladder(Some("plain"), "gpt-4o"), [""; 0]);
    assert_eq!(ladder(None, "gpt-4o"), [""; 0]);
    assert!(config.has_ladders() && !good(FULL).has_ladders());
}

#[test]
fn a_rung_has_a_name_and_serves_what_it_can() {
    let config = good(LADDERS);
    let rungs = config.ladder(Some("pro"), "gpt-4o");
    let names: Vec<&str> = rungs.iter().map(|rung| rung.name).collect();
    let expected = ["gpt-4o-mini", "claude-haiku-4-5", "text-embedding-3-small"];
    assert_eq!(names, expected, "the first exact name of each");
    let output = rungs[0].route.output.estimate;
    assert_eq!(output, OutputEstimate::MaxTokens, "the rung's own");
    let serving = |endpoint| -> Vec<&str> {
        let serves = rungs.iter().filter(|rung| rung.serves(endpoint));
        serves.map(|rung| rung.name).collect()
    };
    assert_eq!(serving(Endpoint::Responses), ["gpt-4o-mini"]);
    assert_eq!(serving(Endpoint::Messages), ["claude-haiku-4-5"]);
    assert_eq!(serving(Endpoint::Embeddings), ["text-embedding-3-small"]);
    assert_eq!(serving(Endpoint::GenerateContent), [""; 0]);
    let standing = |asked, dialect| -> Vec<&str> {
        let stands = rungs.iter().filter(|rung| rung.stands_for(asked, dialect));
        stands.map(|rung| rung.name).collect()
    };
    assert_eq!(
        standing("gpt-4o", None),
        ["gpt-4o-mini", "claude-haiku-4-5"]
    );
    assert_eq!(standing("gpt-4o", Some(Dialect::OpenAi)), ["gpt-4o-mini"]);
    assert_eq!(
        standing("text-embedding-3-large", None),
        ["text-embedding-3-small"]
    );
}

/// A quota of all models says when calls go down, so it does not count them there, unless it would then stop nothing.
#[test]
fn what_a_tiers_limits_count_below_their_quota() {
    let config = good(LADDERS);
    let of = |tier: &str, downgraded: &str| -> Vec<String> {
        let subject = [
            ("tier", tier),
            ("model", "mini"),
            ("downgraded", downgraded),
        ];
        let limits = config.policy().limits_of(&subject);
        limits.map(|limit| limit.name.to_string()).collect()
    };
    let asked = ["day", "spend", "minute", "mini-day", "hard-day"];
    assert_eq!(of("pro", "no"), asked);
    assert_eq!(
        of("pro", "yes"),
        ["minute", "mini-day", "hard-day", "below"]
    );
    for downgraded in ["no", "yes"] {
        assert_eq!(of("free", downgraded), ["free-day"]);
        assert_eq!(of("plain", downgraded), ["plain-day"]);
    }
}
