//! `tallygate prices`: what the tokens of models cost.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tallygate_core::text::printable_json;
use tallygate_server::Config;
use tallygate_server::config::{PriceOrigin, Priced};
use tallygate_tokens::{Cost, PerMillion, PriceError, PriceSource, PriceTable, Rates};

use crate::exit::{Exit, Failure};
use crate::screen::{Screen, tell};
use crate::settings::Settings;
use crate::table::table;

#[derive(Debug, Subcommand)]
pub(crate) enum Prices {
    /// List the prices that are known, in dollars for a million tokens
    List(List),
    /// Show what one model costs, and where that is said
    Show(Show),
    /// Turn prices of another form into a prices.json, on standard output
    #[command(after_help = "\
Examples:
  tallygate prices import --from litellm model_prices_and_context_window.json > prices.json
  then in the configuration:  prices: { file: prices.json }")]
    Import(Import),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only models with this in their name
    #[arg(default_value = "", hide_default_value = true)]
    part: String,

    /// A configuration, whose own prices and file are listed too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The model as callers name it
    model: String,

    /// A configuration, whose own prices and file count first
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Whose form the file has
    #[arg(long, value_name = "SOURCE")]
    from: Source,

    /// data.json of genai-prices, api.json of models.dev, or LiteLLM's model_prices_and_context_window.json
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Source {
    GenaiPrices,
    ModelsDev,
    Litellm,
}

pub(crate) fn run(prices: &Prices, screen: &Screen) -> Result<(), Failure> {
    match prices {
        Prices::List(args) => list(args, screen),
        Prices::Show(args) => show(args, screen),
        Prices::Import(args) => import(args, screen),
    }
}

/// The configuration to look in; without one, an empty one.
fn config(path: Option<&Path>) -> Result<Config, Failure> {
    match path {
        Some(path) => Settings::read(path)?.config(),
        None => Config::parse("", "no configuration", &|_| None)
            .map_err(|errors| Failure::shown(Exit::Config, errors.render())),
    }
}

fn list(args: &List, screen: &Screen) -> Result<(), Failure> {
    let config = config(args.config.as_deref())?;
    let part = args.part.to_lowercase();
    let mut names: Vec<&str> = Vec::new();
    for table in config.prices().tables() {
        names.extend(table.iter().iter().map(|(name, _)| *name));
    }
    names.retain(|name| name.contains(&part));
    names.sort_unstable();
    names.dedup();
    let found = names.into_iter();
    let found = found.filter_map(|name| Some((name, told(&config, name)?.1)));
    let all: Vec<(&str, &Rates)> = found.collect();
    let rows: Vec<[String; 7]> = all.iter().map(|(name, rates)| row(name, rates)).collect();
    let head = [
        "model",
        "input",
        "cached",
        "write",
        "output",
        "reasoning",
        "above",
    ];
    let built_in = PriceTable::built_in();
    let text = format!("{}\n\n{}", table(head, &rows), provenance(built_in));
    let models = all
        .iter()
        .map(|(name, rates)| ((*name).to_owned(), rates_json(rates)));
    let models: serde_json::Map<String, Value> = models.collect();
    let told = json!({ "date": built_in.date(), "sources": built_in.sources(), "models": models });
    screen.answer(&told, &text);
    Ok(())
}

fn provenance(table: &PriceTable) -> String {
    format!(
        "Dollars for a million tokens. The built-in prices are of {}, from {}.",
        table.date(),
        table.sources().join(" and ")
    )
}

/// The rates of a model, and where they are said. A call for it would be charged so.
fn told<'a>(config: &'a Config, model: &'a str) -> Option<(PriceOrigin, &'a Rates)> {
    let (label, upstream) = config.model_label(model);
    let priced = Priced {
        name: model,
        label,
        upstream: upstream.map(|upstream| upstream.name()),
    };
    let (origin, rates) = config.prices().told(&priced)?;
    Some((origin, rates))
}

fn row(name: &str, rates: &Rates) -> [String; 7] {
    let base = rates.base();
    let above: Vec<String> = rates
        .above()
        .iter()
        .map(|(tokens, rates)| longer(*tokens, rates))
        .collect();
    [
        name.to_owned(),
        dollars(base.input),
        dollars(base.cached_input),
        dollars(base.cache_write),
        dollars(base.output),
        dollars(base.reasoning),
        above.join("; "),
    ]
}

fn longer(tokens: u64, rates: &PerMillion) -> String {
    format!(
        "{tokens}: {} / {}",
        dollars(rates.input),
        dollars(rates.output)
    )
}

fn dollars(micros: u64) -> String {
    Cost::from_micros(micros).to_string()
}

fn show(args: &Show, screen: &Screen) -> Result<(), Failure> {
    let config = config(args.config.as_deref())?;
    let Some((origin, rates)) = told(&config, &args.model) else {
        return Err(unknown(&args.model));
    };
    let place = match origin {
        PriceOrigin::Configuration => "the configuration".to_owned(),
        PriceOrigin::File => "its file of prices".to_owned(),
        PriceOrigin::Unknown => "the configuration's prices of unknown models".to_owned(),
        _ => format!("built in, {}", PriceTable::built_in().date()),
    };
    let mut text = format!("{}  ({place})\n{}", args.model, kinds(rates.base()));
    for (tokens, rates) in rates.above() {
        text.push_str(&format!(
            "\n  with more than {tokens} input tokens\n{}",
            kinds(rates)
        ));
    }
    let mut json = rates_json(rates);
    json["model"] = args.model.as_str().into();
    json["origin"] = place.into();
    screen.answer(&json, &text);
    Ok(())
}

fn unknown(model: &str) -> Failure {
    let known = PriceTable::built_in().standing(model).is_some();
    let why = match known {
        true => format!("`{model}` is not sold by tokens of text alone"),
        false => format!("no price of `{model}` is known"),
    };
    Failure::new(Exit::Input, why).mend(
        "`tallygate prices list` shows what is; add others to the configuration under `prices: models`",
    )
}

fn kinds(rates: &PerMillion) -> String {
    let lines = [
        ("input", rates.input),
        ("cached input", rates.cached_input),
        ("cache write", rates.cache_write),
        ("output", rates.output),
        ("reasoning", rates.reasoning),
    ];
    let lines = lines.map(|(kind, rate)| format!("  {kind:<13} {:>10}", dollars(rate)));
    lines.join("\n")
}

/// Rates for programs: exact decimals of dollars, as texts.
fn rates_json(rates: &Rates) -> Value {
    let mut json = kinds_json(rates.base());
    let above = rates.above().iter().map(|(tokens, rates)| {
        let mut json = kinds_json(rates);
        json["input_tokens"] = (*tokens).into();
        json
    });
    let above: Vec<Value> = above.collect();
    if !above.is_empty() {
        json["above"] = above.into();
    }
    json
}

fn kinds_json(rates: &PerMillion) -> Value {
    json!({
        "input": dollars(rates.input),
        "cached_input": dollars(rates.cached_input),
        "cache_write": dollars(rates.cache_write),
        "output": dollars(rates.output),
        "reasoning": dollars(rates.reasoning),
    })
}

fn import(args: &Import, screen: &Screen) -> Result<(), Failure> {
    let source = match args.from {
        Source::GenaiPrices => PriceSource::GenaiPrices,
        Source::ModelsDev => PriceSource::ModelsDev,
        Source::Litellm => PriceSource::LiteLlm,
    };
    let failed = |why: String| Failure::new(Exit::Input, format!("{}: {why}", args.file.display()));
    let text = std::fs::read(&args.file).map_err(|error| failed(error.to_string()))?;
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let read = source.import(&text, &today).map_err(|error| {
        let mend = match error {
            PriceError::Json(_) => {
                format!("--from {} reads another form: see --help", source.name())
            }
            _ => "mend it, or take the model out of the file; nothing was imported".to_owned(),
        };
        failed(error.to_string()).mend(mend)
    })?;
    if read.table.is_empty() {
        return Err(failed("it has no price of any model".to_owned()));
    }
    let (priced, skipped) = (read.table.len(), read.skipped.len());
    tell(&format!(
        "{priced} models have a price; {skipped} are free, not sold by tokens, or have no price of their output, and are left out"
    ));
    screen.write(&printable_json(&read.table.to_json()));
    Ok(())
}
