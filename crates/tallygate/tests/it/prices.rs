//! What models cost, on the command line.

use crate::command::{run, run_with};
use crate::folder::Folder;

const OWN: &str = "prices: { models: { gpt-4o: { input: 1, output: 2, above: [{ input_tokens: 100, input: 3, output: 4.5 }] } } }\n";

#[test]
fn a_price_is_shown_with_its_origin() {
    let ran = run(&["prices", "show", "gpt-4o-2024-08-06"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.starts_with("gpt-4o-2024-08-06  (built in, 20"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("input               2.50"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("cached input        1.25"),
        "{}",
        ran.stdout
    );
    let own = run_with(
        &["prices", "show", "gpt-4o", "--config", "-", "--json"],
        OWN,
    )
    .json();
    assert_eq!(
        (&own["input"], &own["origin"]),
        (&"1.00".into(), &"the configuration".into())
    );
    assert_eq!(
        (&own["above"][0]["input_tokens"], &own["above"][0]["output"]),
        (&100.into(), &"4.50".into())
    );
}

#[test]
fn a_model_without_a_price_is_a_failure_that_says_so() {
    let ran = run(&["prices", "show", "house-llm"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""));
    assert!(
        ran.stderr.contains("no price of `house-llm` is known"),
        "{}",
        ran.stderr
    );
    let ran = run(&["prices", "show", "gpt-realtime"]);
    assert!(
        ran.stderr.contains("not sold by tokens of text alone"),
        "{}",
        ran.stderr
    );
}

#[test]
fn prices_are_listed_by_a_part_of_the_name() {
    let ran = run(&["prices", "list", "gpt-4o-mini"]);
    assert!(ran.stdout.starts_with("model  "), "{}", ran.stdout);
    assert!(ran.stdout.contains("\ngpt-4o-mini "), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("genai-prices") && !ran.stdout.contains("claude"),
        "{}",
        ran.stdout
    );
    let listed = run(&["prices", "list", "--json"]).json();
    assert_eq!(
        listed["models"]["gemini-2.5-pro"]["above"][0]["input"],
        "2.50"
    );
}

#[test]
fn an_import_is_a_file_that_the_configuration_takes() {
    let folder = Folder::new("prices");
    let theirs = folder.write(
        "litellm.json",
        r#"{"house-llm": {"input_cost_per_token": 1.5e-06, "output_cost_per_token": 6e-06}, "pictures": {"output_cost_per_image": 0.04}}"#,
    );
    let ran = run(&["prices", "import", "--from", "litellm", &theirs]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("1 models have a price; 1 are"),
        "{}",
        ran.stderr
    );
    folder.write("prices.json", &ran.stdout);
    let config = folder.write("tallygate.yaml", "prices: { file: prices.json }\n");
    let shown = run(&["prices", "show", "house-llm", "--config", &config, "--json"]).json();
    assert_eq!(
        (&shown["input"], &shown["origin"]),
        (&"1.50".into(), &"its file of prices".into())
    );
    let broken = folder.write(
        "broken.json",
        r#"{"house-llm": {"input_cost_per_token": 1e-06, "output_cost_per_token": "6,0e-06"}}"#,
    );
    let ran = run(&["prices", "import", "--from", "litellm", &broken]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""));
    for said in [
        "broken.json",
        "`output_cost_per_token` of `house-llm`",
        "6,0e-06",
    ] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    let wrong = run(&["prices", "import", "--from", "genai-prices", &theirs]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (4, ""));
    assert!(
        wrong.stderr.contains("--from genai-prices"),
        "{}",
        wrong.stderr
    );
}
