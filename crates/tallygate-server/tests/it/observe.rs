//! What the metrics say, and what they never say.

use std::sync::Arc;
use std::time::Duration;

use tallygate_core::{
    Admission, Amounts, Denial, LimitInfo, Metric, Mode, Never, Outcome, Receipt, Replay,
    ReservationId, Standing, Time, Told,
};
use tallygate_server::Config;
use tallygate_server::config::{Forbidden, Secret};
use tallygate_server::observe::{
    Answered, Door, Downgraded, End, MAX_MODELS, Observer, Sizing, Stage,
};
use tallygate_server::wire::ApiError;
use tallygate_store::{SettleError, StoreHealth, StoreStats};
use tallygate_tokens::{Endpoint, EstimateMethod, Method, Usage};

use crate::golden;

const CONFIG: &str = "
upstreams: { openai: { dialect: openai, base_url: 'https://api.openai.com/v1', api_key: sk-never-shown } }
models: { gpt-4o: { upstream: openai, match: 'gpt-4o*' } }
metrics: [images]
limits:
  - { name: minute, per: [user], tokens: 1_000, images: 3, every: 60s }
  - { name: quiet, requests: 1, every: 60s, mode: shadow }
keys:
  - { id: key-of-alice, hash: 'sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b', subject: { user: alice } }
";

fn config() -> Config {
    Config::parse(CONFIG, "tallygate.yaml", &|_| None).expect("good")
}

fn standings(config: &Config) -> Vec<Standing> {
    let standing = |limit: &Arc<LimitInfo>| Standing {
        limit: Arc::clone(limit),
        used: 0,
        remaining: limit.burst,
        debt: 0,
        reset: Duration::ZERO,
    };
    config.policy().limits().map(standing).collect()
}

fn admission(config: &Config) -> Admission {
    let standings = standings(config);
    let shadowed = standings
        .iter()
        .filter(|s| s.limit.mode == Mode::Shadow)
        .map(|s| Arc::clone(&s.limit))
        .collect();
    let images = config.metrics().find("images").expect("named");
    Admission {
        id: ReservationId::from_bits(7),
        expires_at: Time::from_secs(600),
        reserved: Amounts::call(100, 50).with(images, 2),
        standings,
        shadowed,
        waited: Duration::from_millis(20),
        replay: Replay::Fresh,
    }
}

fn all_told() -> Observer {
    let config = config();
    let observer = Observer::new(&config);
    observer.admitted(Door::Gateway, &admission(&config));
    let downgraded = Downgraded {
        from: "gpt-4o",
        to: "unserved",
        reason: "quota",
        passed: "gpt-4o: month",
    };
    observer.downgraded(Door::Decision, &admission(&config), &downgraded);
    let blocked_by = standings(&config).into_iter().take(1).collect::<Vec<_>>();
    let denial = Denial {
        blocked_by: blocked_by.clone(),
        retry_after: Duration::from_secs(1),
        retry_at: Time::ZERO,
    };
    observer.refused(Door::Gateway, &denial.into());
    observer.refused(
        Door::Decision,
        &Never {
            blocked_by,
            largest: vec![(Metric::TOKENS, 1_000)],
        }
        .into(),
    );
    observer.refused(
        Door::Gateway,
        &ApiError::StoreDown {
            trouble: "the store refuses (OOM)".to_owned(),
            retry_after: Duration::from_secs(1),
        },
    );
    observer.refused(
        Door::Gateway,
        &Forbidden::Tier("tier-of-alice".into()).into(),
    );
    observer.gave_up(Duration::from_secs(3));
    observer.extended(&Amounts::ZERO.with_tokens(0, 25));
    let receipt = Receipt {
        outcome: Outcome::Settled,
        charged: Amounts::call(100, 60),
        returned: Amounts::ZERO.with_tokens(0, 0),
        debt: Amounts::ZERO.with(Metric::TOKENS, 10),
        told: Told::First,
    };
    observer.ended(&receipt);
    observer.lost(ReservationId::from_bits(9), &SettleError::Unknown);
    let usage = Usage {
        input_tokens: 110,
        output_tokens: 60,
        ..Usage::default()
    };
    answered(&observer, "gpt-4o", End::Status(200), Some(&usage));
    answered(&observer, "gpt-4o", End::Status(429), None);
    answered(
        &observer,
        "gpt-4o",
        End::Failed(&ApiError::Unreachable("openai".into())),
        None,
    );
    observer.sized(&Sizing {
        model: "gpt-4o",
        input: (100, Method::Framed),
        output: (50, EstimateMethod::Multiplier),
        usage: &usage,
    });
    Stage::ALL
        .into_iter()
        .for_each(|stage| observer.stage(stage, Duration::from_micros(3)));
    observer
}

fn answered(observer: &Observer, model: &str, end: End<'_>, usage: Option<&Usage>) {
    observer.answered(&Answered {
        endpoint: Endpoint::ChatCompletions,
        upstream: "openai",
        model,
        asked: model,
        response_model: usage.map(|_| "gpt-4o-2024-08-06"),
        end,
        took: Duration::from_millis(700),
        first_token: usage.map(|_| Duration::from_millis(90)),
        usage,
    });
}

fn rendered(observer: &Observer) -> String {
    let stats = StoreStats {
        counters: 3,
        reservations: 2,
        waiters: 1,
    };
    observer.render(stats, &StoreHealth::Up)
}

#[test]
fn everything_that_happens_has_a_metric() {
    // Without the version, which changes by itself, and the buckets, of which there are many; families come in any order.
    let text = rendered(&all_told());
    let told =
        |line: &&str| !line.starts_with("tallygate_build_info") && !line.contains("_bucket{");
    let mut lines: Vec<&str> = text.lines().filter(told).collect();
    lines.sort_unstable();
    let path = golden::folder("observe").join("metrics.txt");
    golden::all_equal(
        golden::difference(&path, &(lines.join("\n") + "\n"))
            .into_iter()
            .collect(),
    );
}

#[test]
fn no_key_no_user_and_no_unserved_model_is_a_label() {
    let observer = all_told();
    answered(&observer, "made-up-by-a-caller", End::Status(404), None);
    let text = rendered(&observer);
    for secret in ["alice", "never-shown", "sha256", "made-up-by-a-caller"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(
        text.contains(r#"gen_ai_request_model="other",error_type="404""#),
        "{text}"
    );
    assert_eq!(Secret::new("x").to_string(), "***");
}

#[test]
fn the_number_of_models_is_bounded() {
    let observer = Observer::new(&config());
    let usage = Usage {
        input_tokens: 1,
        output_tokens: 1,
        ..Usage::default()
    };
    for n in 0..MAX_MODELS + 50 {
        answered(&observer, &format!("m{n}"), End::Status(200), Some(&usage));
    }
    let text = rendered(&observer);
    let series = text
        .lines()
        .filter(|line| line.starts_with("gen_ai_server_request_duration_seconds_count"))
        .count();
    assert!(series <= MAX_MODELS + 1, "{series}");
    assert!(text.contains(r#"gen_ai_request_model="other""#));
}

#[test]
fn own_metrics_keep_their_names_over_a_reload() {
    let observer = all_told();
    let next = Config::parse("metrics: [images, minutes]", "next", &|_| None).expect("good");
    observer.reloaded(&next);
    let minutes = next.metrics().find("minutes").expect("named");
    observer.extended(&Amounts::ZERO.with(minutes, 4));
    let text = rendered(&observer);
    assert!(
        text.contains(r#"tallygate_reserved_total{metric="minutes"} 4"#),
        "{text}"
    );
    assert!(
        text.contains(r#"tallygate_reserved_total{metric="images"} 4"#),
        "{text}"
    );
}

#[test]
fn an_admission_told_again_reserves_nothing_new() {
    let config = config();
    let observer = Observer::new(&config);
    let first = admission(&config);
    let again = Admission {
        replay: Replay::Open,
        ..first.clone()
    };
    observer.admitted(Door::Decision, &first);
    observer.admitted(Door::Decision, &again);
    assert!(rendered(&observer).contains(r#"tallygate_reserved_total{metric="tokens"} 150"#));
}
