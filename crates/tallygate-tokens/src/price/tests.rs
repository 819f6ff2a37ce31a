//! Prices pinned by hand, arithmetic to the micro-dollar, and the forms that prices come in.

use proptest::prelude::*;

use super::{
    Cost, PerMillion, PriceError, PriceSource, PriceTable, Rates, RatesError, decimal, snapshot,
};
use crate::usage::Usage;

const SNAPSHOT: &str = include_str!("snapshot.txt");

fn built_in(model: &str) -> String {
    let found = PriceTable::built_in().find(model);
    found.map_or_else(|| "none".to_owned(), |rates| rates.to_string())
}

/// Compared with the providers' price pages as both sources cite them, November 2026.
#[test]
fn well_known_prices_are_as_published() {
    for (model, rates) in [
        ("gpt-4o", "i2.5 c1.25 o10"),
        ("gpt-4o-mini", "i0.15 c0.075 o0.6"),
        ("gpt-4o-2024-05-13", "i5 o15"),
        ("gpt-4.1", "i2 c0.5 o8"),
        ("o3", "i2 c0.5 o8"),
        ("gpt-5", "i1.25 c0.125 o10"),
        ("claude-sonnet-4", "i3 c0.3 w3.75 o15"),
        ("claude-opus-4-1", "i15 c1.5 w18.75 o75"),
        ("claude-haiku-4-5", "i1 c0.1 w1.25 o5"),
        (
            "claude-sonnet-4-5",
            "i3 c0.3 w3.75 o15 >200000 i6 c0.6 w7.5 o22.5",
        ),
        ("gemini-2.5-pro", "i1.25 c0.125 o10 >200000 i2.5 c0.25 o15"),
        ("gemini-2.5-flash", "i0.3 c0.03 o2.5"),
        ("text-embedding-3-small", "i0.02 o0.02"),
    ] {
        assert_eq!(built_in(model), rates, "{model}");
    }
}

#[test]
fn names_are_found_by_version_and_maker_and_nothing_is_guessed() {
    for (model, same_as) in [
        ("GPT-4o", "gpt-4o"),
        ("gpt-4o-2099-12-31", "gpt-4o"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("anthropic/claude-opus-4-1-20250805", "claude-opus-4-1"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash"),
    ] {
        assert_ne!(built_in(same_as), "none", "{same_as}");
        assert_eq!(built_in(model), built_in(same_as), "{model}");
    }
    for unknown in [
        "",
        "gpt-4o-turbo-max",
        "gpt-4omni",
        "ft:gpt-4o-mini-2024-07-18:acme::abc",
        "someone/gpt-4o",
        "us.anthropic.claude-sonnet-4-20250514-v1:0",
        "gpt",
        "-2024-01-01",
        "gpt-realtime",
        "gemini-2.5-flash-image",
    ] {
        assert_eq!(built_in(unknown), "none", "{unknown}");
    }
}

#[test]
fn every_line_of_the_snapshot_is_read() {
    let data = SNAPSHOT
        .lines()
        .filter(|line| !line.starts_with("date ") && !line.starts_with("source "));
    let unread: Vec<&str> = data.filter(|text| snapshot::line(text).is_none()).collect();
    assert!(unread.is_empty(), "{unread:?}");
    let table = PriceTable::built_in();
    assert!(table.len() > 500 && table.date().len() == 10);
    assert_eq!(table.sources().len(), 2);
    assert_eq!(
        table.to_snapshot(),
        SNAPSHOT,
        "made by the command, not by hand"
    );
    let free = |rates: &Rates| rates.base().input == 0 && rates.base().output == 0;
    assert!(
        table.iter().iter().all(|(_, rates)| !free(rates)),
        "nothing is free without saying so"
    );
}

#[test]
fn usage_is_charged_by_kind_and_rounded_up_once() {
    let rates = Rates::flat(PerMillion {
        input: 2_500_000,
        cached_input: 1_250_000,
        cache_write: 3_125_000,
        output: 10_000_000,
        reasoning: 12_000_000,
    })
    .unwrap();
    let usage = Usage {
        input_tokens: 1_000,
        cached_input_tokens: 300,
        cache_write_tokens: 100,
        output_tokens: 50,
        reasoning_tokens: 20,
        audio_tokens: 0,
    };
    // 600 × 2.5 + 300 × 1.25 + 100 × 3.125 + 30 × 10 + 20 × 12 = 2727.5
    assert_eq!(rates.of(&usage), Cost::from_micros(2_728));
    assert_eq!(rates.of(&Usage::default()), Cost::ZERO);
    let one = Rates::flat(PerMillion::new(1, 1)).unwrap();
    let tiny = Usage {
        input_tokens: 1,
        output_tokens: 1,
        ..Usage::default()
    };
    assert_eq!(
        one.of(&tiny),
        Cost::from_micros(1),
        "two millionths are rounded once, together"
    );
}

#[test]
fn a_long_input_is_charged_whole_by_its_tier() {
    let rates = PriceTable::built_in().find("gemini-2.5-pro").unwrap();
    let cost = |input_tokens| {
        rates
            .of(&Usage {
                input_tokens,
                output_tokens: 1_000,
                ..Usage::default()
            })
            .micros()
    };
    assert_eq!(cost(200_000), 250_000 + 10_000);
    assert_eq!(cost(200_001), 500_003 + 15_000); // 200,001 × 2.5 is 500,002.5
    assert_eq!(rates.bound(200_000, 1_000).micros(), 260_000);
    assert_eq!(rates.bound(200_001, 1_000).micros(), 515_003);
}

#[test]
fn a_cheaper_tier_above_does_not_make_a_bound_smaller() {
    let falling = Rates::tiered(
        PerMillion::new(4_000_000, 0),
        vec![(100, PerMillion::new(1_000_000, 0))],
    )
    .unwrap();
    assert_eq!(falling.bound(150, 0).micros(), 600);
    assert_eq!(
        falling
            .of(&Usage {
                input_tokens: 150,
                ..Usage::default()
            })
            .micros(),
        150
    );
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let dear = Rates::flat(PerMillion::new(super::MAX_RATE, super::MAX_RATE)).unwrap();
    assert_eq!(dear.bound(1 << 53, 1 << 53), Cost::from_micros(u64::MAX));
    assert_eq!(
        Rates::flat(PerMillion::new(super::MAX_RATE + 1, 0)),
        Err(RatesError::TooDear(super::MAX_RATE + 1))
    );
    let twice = vec![(5, PerMillion::new(1, 1)), (5, PerMillion::new(2, 2))];
    assert_eq!(
        Rates::tiered(PerMillion::new(1, 1), twice),
        Err(RatesError::NotRising {
            before: 5,
            after: 5
        })
    );
}

#[test]
fn decimals_are_read_exactly() {
    for (text, micros) in [
        ("2.5", 2_500_000),
        ("0.000001", 1),
        ("0", 0),
        ("0.0000001", 1),
        ("1e-7", 1),
        ("2.5e-06", 3),
        ("1E2", 100_000_000),
        ("0e99", 0),
        ("1e-40", 1),
    ] {
        assert_eq!(decimal::micros(text), Some(micros), "{text}");
    }
    for wrong in [
        "",
        "-1",
        "abc",
        "1.2.3",
        "NaN",
        "1e40",
        "99999999999",
        "null",
        "1e99999999999",
        ".",
    ] {
        assert_eq!(decimal::micros(wrong), None, "{wrong}");
    }
    assert_eq!(
        decimal::scaled("2.5e-06", 12),
        Some(2_500_000),
        "LiteLLM's dollars for one token"
    );
    assert_eq!(decimal::exact_micros("0.0000001"), None);
    assert_eq!(decimal::exact_micros("2.500000000"), Some(2_500_000));
}

#[test]
fn money_is_shown_in_dollars() {
    for (micros, shown) in [
        (0, "0.00"),
        (1, "0.000001"),
        (1_500_000, "1.50"),
        (2_000_000_000, "2000.00"),
        (1_234_567, "1.234567"),
        (10_010, "0.01001"),
    ] {
        assert_eq!(Cost::from_micros(micros).to_string(), shown);
    }
}

#[test]
fn a_file_of_prices_is_read_as_it_is_written() {
    let table = PriceTable::built_in();
    let read = PriceTable::from_json(table.to_json().as_bytes()).unwrap();
    assert_eq!(
        (read.date(), read.sources(), read.len()),
        (table.date(), table.sources(), table.len())
    );
    assert_eq!(read.to_json(), table.to_json());
}

#[test]
fn a_wrong_price_in_a_file_is_named() {
    let read = |price: &str| {
        let text = format!(r#"{{"models": {{"m": {price}}}}}"#);
        PriceTable::from_json(text.as_bytes())
            .map(|table| table.to_json())
            .unwrap_err()
    };
    let said = read(r#"{"input": -1, "output": 2}"#).to_string();
    assert!(
        said.starts_with("`input` of `m` is `-1`, not dollars"),
        "{said}"
    );
    assert!(
        read(r#"{"input": "a", "output": 2}"#)
            .to_string()
            .contains(r#"`"a"`"#)
    );
    assert!(
        read(r#"{"input": 1}"#)
            .to_string()
            .contains("missing field `output`")
    );
    assert!(
        read(r#"{"inptu": 1, "input": 1, "output": 1}"#)
            .to_string()
            .contains("unknown field `inptu`")
    );
    let falling = r#"{"input": 1, "output": 1, "above": [{"input_tokens": 9, "input": 1, "output": 1}, {"input_tokens": 8, "input": 1, "output": 1}]}"#;
    assert_eq!(
        read(falling),
        PriceError::Rates {
            model: "m".to_owned(),
            source: RatesError::NotRising {
                before: 9,
                after: 8
            }
        }
    );
}

#[test]
fn genai_prices_are_imported() {
    let text = r#"[
      {"id": "groq", "models": [{"id": "llama", "match": {"equals": "llama"}, "prices": {"input_mtok": 0.59, "output_mtok": 0.79}}]},
      {"id": "openai", "models": [
        {"id": "o3", "match": {"or": [{"equals": "o3"}, {"equals": "o3-x"}]}, "prices": [
          {"prices": {"input_mtok": 10, "output_mtok": 40}},
          {"constraint": {"start_date": "2025-06-10"}, "prices": {"input_mtok": "2", "cache_read_mtok": "0.5", "output_mtok": "8"}},
          {"constraint": {"start_date": "2027-01-01"}, "prices": {"input_mtok": 1, "output_mtok": 4}}]},
        {"id": "night", "match": {"starts_with": "night-"}, "prices": [
          {"prices": {"input_mtok": 1, "output_mtok": 9}},
          {"constraint": {"start_time": "00:30:00Z", "end_time": "16:30:00Z"}, "prices": {"input_mtok": 2, "output_mtok": 3}}]},
        {"id": "long", "match": {"equals": "long"}, "prices": {
          "input_mtok": {"base": 1.25, "tiers": [{"start": 200000, "price": 2.5}]}, "cache_read_mtok": 0.1, "output_mtok": 10}},
        {"id": "sings", "match": {"equals": "sings"}, "prices": {"input_mtok": 1, "output_mtok": 2, "output_audio_mtok": 80}},
        {"id": "free", "match": {"equals": "free"}, "prices": {}}]}]"#;
    let read = PriceSource::GenaiPrices
        .import(text.as_bytes(), "2026-11-22")
        .unwrap();
    let rates = |name: &str| read.table.find(name).map(ToString::to_string);
    assert_eq!(rates("o3-x").as_deref(), Some("i2 c0.5 o8"));
    assert_eq!(
        rates("night").as_deref(),
        Some("i2 o9"),
        "the dearest hours"
    );
    assert_eq!(rates("night-20260101").as_deref(), Some("i2 o9"));
    assert_eq!(
        rates("long").as_deref(),
        Some("i1.25 c0.1 o10 >200000 i2.5 c0.1 o10")
    );
    assert_eq!(rates("groq/llama").as_deref(), Some("i0.59 o0.79"));
    assert_eq!(rates("llama"), None);
    assert_eq!(read.skipped, ["free", "sings"]);
}

#[test]
fn models_dev_is_imported() {
    let text = r#"{
      "openai": {"models": {"gpt-4o": {"cost": {"input": 2.5, "output": 10, "cache_read": 1.25}}, "none": {}}},
      "google": {"models": {"pro": {"cost": {"input": 1.25, "output": 10,
        "context_over_200k": {"input": 2.5, "output": 15},
        "tiers": [{"input": 2.5, "output": 15, "tier": {"type": "context", "size": 200000}}]}}}},
      "elsewhere": {"models": {"gpt-4o": {"cost": {"input": 3, "output": 12}}}}}"#;
    let read = PriceSource::ModelsDev
        .import(text.as_bytes(), "2026-11-22")
        .unwrap();
    let rates = |name: &str| read.table.find(name).map(ToString::to_string);
    assert_eq!(rates("gpt-4o").as_deref(), Some("i2.5 c1.25 o10"));
    assert_eq!(rates("elsewhere/gpt-4o").as_deref(), Some("i3 o12"));
    assert_eq!(rates("pro").as_deref(), Some("i1.25 o10 >200000 i2.5 o15"));
    assert_eq!(read.skipped, ["none"]);
}

#[test]
fn litellm_is_imported() {
    let text = r#"{
      "sample_spec": {"input_cost_per_token": 0.0},
      "gpt-4o": {"input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06, "mode": "chat", "litellm_provider": "openai"},
      "pro": {"input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05, "output_cost_per_reasoning_token": 1.1e-05,
        "input_cost_per_token_above_200k_tokens": 2.5e-06, "output_cost_per_token_above_200k_tokens": 1.5e-05},
      "image": {"input_cost_per_image": 0.04}}"#;
    let read = PriceSource::LiteLlm
        .import(text.as_bytes(), "2026-11-22")
        .unwrap();
    let rates = |name: &str| read.table.find(name).map(ToString::to_string);
    assert_eq!(rates("gpt-4o").as_deref(), Some("i2.5 c1.25 o10"));
    assert_eq!(
        rates("pro").as_deref(),
        Some("i1.25 o10 r11 >200000 i2.5 o15 r11")
    );
    assert_eq!(read.skipped, ["image"]);
    assert!(matches!(
        PriceSource::LiteLlm.import(b"[]", ""),
        Err(PriceError::Json(_))
    ));
}

/// A model would else be charged by what is left: nothing for its input, or its output like its input.
fn cannot_be_read(source: PriceSource, text: &str, (field, found): (&str, &str)) {
    match source.import(text.as_bytes(), "2026-11-22") {
        Err(PriceError::Unreadable {
            model,
            field: wrong,
            found: there,
        }) => {
            assert_eq!((&*model, &*wrong, &*there), ("m", field, found));
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_price_of_genai_prices_that_cannot_be_read_is_not_missing() {
    for (prices, place) in [
        (
            r#"{"input_mtok": -1, "output_mtok": 2}"#,
            ("input_mtok", "-1"),
        ),
        (
            r#"[{"prices": {"input_mtok": 1, "output_mtok": "2 $"}}]"#,
            ("output_mtok", "\"2 $\""),
        ),
        (
            r#"{"input_mtok": {"base": 1, "tiers": [{"start": 5, "price": "x"}]}}"#,
            ("input_mtok", "\"x\""),
        ),
        (
            r#"{"input_mtok": {"bas": 1}}"#,
            ("input_mtok", "{\"bas\": 1}"),
        ),
    ] {
        let text =
            format!(r#"[{{"id": "openai", "models": [{{"id": "m", "prices": {prices}}}]}}]"#);
        cannot_be_read(PriceSource::GenaiPrices, &text, place);
    }
}

#[test]
fn a_price_of_models_dev_that_cannot_be_read_is_not_missing() {
    for (cost, place) in [
        (r#"{"input": 1, "output": true}"#, ("output", "true")),
        (
            r#"{"input": 1, "output": 2, "context_over_200k": {"input": 1e400}}"#,
            ("input", "1e400"),
        ),
        (
            r#"{"input": 1, "tiers": [{"cache_read": [], "tier": {"size": 9}}]}"#,
            ("cache_read", "[]"),
        ),
    ] {
        let text = format!(r#"{{"openai": {{"models": {{"m": {{"cost": {cost}}}}}}}}}"#);
        cannot_be_read(PriceSource::ModelsDev, &text, place);
    }
}

#[test]
fn a_price_of_litellm_that_cannot_be_read_is_not_missing() {
    for (fields, place) in [
        (
            r#"{"input_cost_per_token": 1e-6, "output_cost_per_token": "1,5e-6"}"#,
            ("output_cost_per_token", "\"1,5e-6\""),
        ),
        (
            r#"{"input_cost_per_token_above_200k_tokens": -1e-6}"#,
            ("input_cost_per_token_above_200k_tokens", "-1e-6"),
        ),
        (
            r#"{"output_cost_per_second": "x"}"#,
            ("output_cost_per_second", "\"x\""),
        ),
    ] {
        cannot_be_read(
            PriceSource::LiteLlm,
            &format!(r#"{{"m": {fields}}}"#),
            place,
        );
    }
    // None is said in words too, and what is no price of ours may be anything.
    let text = r#"{"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": null, "mode": "embedding", "input_cost_per_token_batches": "x"}}"#;
    let read = PriceSource::LiteLlm.import(text.as_bytes(), "2026-11-22");
    let table = read.unwrap().table;
    assert_eq!(
        table.find("m").map(ToString::to_string).as_deref(),
        Some("i1 o1")
    );
}

/// What a model writes would else be charged as what it reads, at a fraction of its price.
#[test]
fn a_model_of_litellm_that_writes_has_a_price_of_output_or_none() {
    let import = |fields: &str| {
        let text = format!(r#"{{"m": {{"input_cost_per_token": 1e-6{fields}}}}}"#);
        let read = PriceSource::LiteLlm.import(text.as_bytes(), "2026-11-22");
        let read = read.unwrap();
        let rates = read.table.find("m").map(ToString::to_string);
        assert_eq!(rates.is_none(), read.skipped == ["m"]);
        rates
    };
    for missing in [
        "",
        r#", "mode": "chat""#,
        r#", "mode": "responses", "output_cost_per_token": null"#,
        r#", "mode": "chat", "output_cost_per_token_above_128k_tokens": 9e-6"#,
    ] {
        assert_eq!(import(missing), None, "{missing}");
    }
    for (told, rates) in [
        (r#", "mode": "embedding""#, "i1 o1"),
        (
            r#", "mode": "rerank", "output_cost_per_token": 0.0"#,
            "i1 o0",
        ),
        (r#", "output_cost_per_token": 4e-6"#, "i1 o4"),
    ] {
        assert_eq!(import(told).as_deref(), Some(rates), "{told}");
    }
}

/// What one length does not tell is as at the length below it, not as at none.
#[test]
fn a_length_without_a_price_of_its_own_has_that_of_the_length_below() {
    let text = r#"{"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 3e-5,
        "input_cost_per_token_above_128k_tokens": 2e-6, "output_cost_per_token_above_128k_tokens": 6e-5,
        "cache_read_input_token_cost_above_128k_tokens": 5e-7, "input_cost_per_token_above_200k_tokens": 3e-6}}"#;
    let read = PriceSource::LiteLlm.import(text.as_bytes(), "2026-11-22");
    let rates = read.unwrap().table.find("m").map(ToString::to_string);
    let expected = "i1 o30 >128000 i2 c0.5 o60 >200000 i3 c0.5 o60";
    assert_eq!(rates.as_deref(), Some(expected));
}

fn rates() -> impl Strategy<Value = Rates> {
    let set = || {
        let rate = || 0..100_000_000_u64;
        (rate(), rate(), rate(), rate(), rate()).prop_map(
            |(input, cached_input, cache_write, output, reasoning)| PerMillion {
                input,
                cached_input,
                cache_write,
                output,
                reasoning,
            },
        )
    };
    (
        set(),
        proptest::collection::btree_map(0..2_000_u64, set(), 0..3),
    )
        .prop_map(|(base, above)| Rates::tiered(base, above.into_iter().collect()).unwrap())
}

fn usage() -> impl Strategy<Value = Usage> {
    let tokens = || 0..3_000_u64;
    (tokens(), tokens(), tokens(), tokens(), tokens()).prop_map(
        |(input, output, cached, written, reasoning)| Usage {
            input_tokens: input,
            output_tokens: output,
            cached_input_tokens: cached,
            cache_write_tokens: written,
            reasoning_tokens: reasoning,
            audio_tokens: 0,
        },
    )
}

proptest! {
    /// Nothing that stays within its hold costs more than what was held for it, whatever the provider says of caches.
    #[test]
    fn a_bound_is_never_exceeded(rates in rates(), usage in usage(), more in (0..500_u64, 0..500_u64)) {
        let bound = rates.bound(usage.input_tokens + more.0, usage.output_tokens + more.1);
        prop_assert!(rates.of(&usage) <= bound);
    }

    /// The cost is the exact sum over the tokens, one by one, rounded up at the end.
    #[test]
    fn a_cost_is_the_sum_of_its_tokens(rates in rates(), usage in usage()) {
        let set = rates.above().iter().rev().find(|(above, _)| usage.input_tokens > *above).map_or(rates.base(), |(_, set)| set);
        let mut exact: u128 = 0;
        for token in 0..usage.input_tokens {
            let written = token < usage.cache_write_tokens;
            let cached = !written && token - usage.cache_write_tokens < usage.cached_input_tokens;
            exact += u128::from(if written { set.cache_write } else if cached { set.cached_input } else { set.input });
        }
        for token in 0..usage.output_tokens {
            exact += u128::from(if token < usage.reasoning_tokens { set.reasoning } else { set.output });
        }
        let rounded = exact / 1_000_000 + u128::from(!exact.is_multiple_of(1_000_000));
        prop_assert_eq!(u128::from(rates.of(&usage).micros()), rounded);
    }

    #[test]
    fn arbitrary_bytes_are_no_prices_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in ".{0,40}") {
        let _ = PriceTable::from_json(&bytes);
        for source in [PriceSource::GenaiPrices, PriceSource::ModelsDev, PriceSource::LiteLlm] {
            let _ = source.import(&bytes, "2026-11-22");
        }
        let _ = PriceTable::built_in().find(&name);
        let _ = decimal::micros(&name);
    }
}
