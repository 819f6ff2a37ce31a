//! `tallygate check`: everything that is wrong with a configuration, with its place and mend.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tallygate_server::Config;
use tallygate_server::config::{CheckReport, StoreChoice};

use crate::exit::{Exit, Failure};
use crate::screen::{Screen, tell};
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration; `-` is standard input
    file: PathBuf,
}

pub(crate) fn run(args: &CheckArgs, screen: &Screen) -> Result<(), Failure> {
    let settings = Settings::read(&args.file)?;
    match settings.parse() {
        Ok(config) => {
            let warnings = config.warnings();
            if !warnings.problems().is_empty() && !screen.is_json() {
                tell(&warnings.render());
            }
            let report = CheckReport::new(&settings.name, warnings.problems());
            let mut told = json!(report);
            told["store"] = config.store().to_string().into();
            screen.answer(&told, &sentence(&settings.name, &config));
            Ok(())
        }
        Err(errors) if screen.is_json() => {
            let report = CheckReport::new(&settings.name, errors.problems());
            screen.answer(&json!(report), "");
            Err(Failure::shown(Exit::Config, String::new()))
        }
        Err(errors) => Err(Failure::shown(Exit::Config, errors.render())),
    }
}

fn sentence(name: &str, config: &Config) -> String {
    let limits = config.policy().limits().count();
    let upstreams = config.upstreams().len();
    let counters = match config.store() {
        StoreChoice::Memory => "in memory".to_owned(),
        elsewhere => format!("on {elsewhere}"),
    };
    format!(
        "{name} can be used: limits {limits}, upstreams {upstreams}, counters {counters}, listening on {}",
        config.listen()
    )
}
