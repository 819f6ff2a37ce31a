//! Workloads and the texts they are made of.

use std::collections::HashSet;
use std::time::Duration;

use tallygate_sim::words::{self, LEXICON_WORDS};
use tallygate_sim::workload::{Arrival, Skew};
use tallygate_sim::{Rng, Sizes, Workload, WorkloadOptions};
use tallygate_tokens::Counter;

#[test]
fn every_word_is_one_token_with_and_without_its_blank() {
    let counter = Counter::new([0, 0], 0);
    let mut seen = HashSet::new();
    for number in 0..LEXICON_WORDS {
        let word = words::word(number);
        assert!(seen.insert(word), "{word} twice");
        for model in ["gpt-4o", "gpt-4"] {
            assert_eq!(counter.output(model, word), 1, "{word} {model}");
            assert_eq!(
                counter.output(model, &format!(" {word}")),
                1,
                "{word} {model}"
            );
        }
    }
}

#[test]
fn texts_have_the_tokens_asked_for() {
    let counter = Counter::new([0, 0], 0);
    for tokens in [0, 1, 2, 100, 5_000] {
        let text = words::text(&mut Rng::new(tokens), tokens);
        assert_eq!(counter.output("gpt-4o", &text), tokens);
        assert_eq!(counter.output("gpt-4", &text), tokens);
    }
}

#[test]
fn a_seed_gives_the_same_jobs_and_another_seed_others() {
    let jobs = |seed| {
        Workload::new(WorkloadOptions {
            seed,
            ..WorkloadOptions::default()
        })
        .take(50)
        .collect::<Vec<_>>()
    };
    assert_eq!(jobs(1), jobs(1));
    assert_ne!(jobs(1), jobs(2));
}

#[test]
fn jobs_come_in_order_at_about_the_rate_asked_for() {
    let jobs: Vec<_> = Workload::new(WorkloadOptions::default())
        .take(4_000)
        .collect();
    assert!(jobs.is_sorted_by_key(|job| job.at));
    let end = jobs[jobs.len() - 1].at;
    assert!((180..220).contains(&end.as_secs()), "{end:?}");
    let every = Arrival::Every(Duration::from_millis(10));
    let even = Workload::new(WorkloadOptions {
        arrival: every,
        ..WorkloadOptions::default()
    });
    assert_eq!(even.take(3).last().unwrap().at, Duration::from_millis(30));
}

#[test]
fn users_belong_to_their_tiers_and_ask_by_their_skew() {
    let count = |skew| {
        let options = WorkloadOptions {
            skew,
            ..WorkloadOptions::default()
        };
        let mut counts = [0u32; 28];
        for job in Workload::new(options).take(28_000) {
            let tier = match job.user {
                0..16 => "free",
                16..24 => "pro",
                _ => "enterprise",
            };
            assert_eq!(&*job.tier, tier);
            counts[job.user as usize] += 1;
        }
        counts
    };
    assert!(
        count(Skew::Even)
            .iter()
            .all(|count| (850..1_150).contains(count))
    );
    let zipf = count(Skew::Zipf);
    let ratio = f64::from(zipf[0]) / f64::from(zipf[3]);
    assert!((3.5..4.5).contains(&ratio), "{ratio}");
}

#[test]
fn sizes_keep_their_median_and_bounds() {
    let sizes = Sizes {
        median: 200,
        sigma_per_mille: 1_000,
        min: 50,
        max: 2_000,
    };
    let mut rng = Rng::new(3);
    let mut drawn: Vec<u64> = (0..10_000).map(|_| sizes.draw(&mut rng)).collect();
    drawn.sort_unstable();
    assert!((190..210).contains(&drawn[5_000]), "{}", drawn[5_000]);
    assert_eq!((drawn[0], drawn[9_999]), (50, 2_000));
    assert_eq!(Sizes::fixed(7).draw(&mut rng), 7);
}

#[test]
fn a_job_becomes_a_call_of_its_size() {
    let counter = Counter::new([0, 0], 0);
    let options = WorkloadOptions {
        max_tokens: Some(64),
        ..WorkloadOptions::default()
    };
    let job = Workload::new(options).next().unwrap();
    assert_eq!(counter.output(&job.model, &job.prompt()), job.input_tokens);
    let body: serde_json::Value = serde_json::from_str(&job.call().body()).unwrap();
    assert_eq!(
        (body["max_tokens"].as_u64(), body["model"].as_str()),
        (Some(64), Some(&*job.model))
    );
}

#[test]
fn no_users_make_no_jobs() {
    let options = WorkloadOptions {
        tiers: Vec::new(),
        ..WorkloadOptions::default()
    };
    assert_eq!(Workload::new(options).next(), None);
}
