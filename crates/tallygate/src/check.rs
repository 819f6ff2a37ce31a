//! `tallygate check`: everything that is wrong with a configuration, with its place and mend.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tallygate_server::Config;
use tallygate_server::config::CheckReport;

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
            screen.answer(&json!(report), &sentence(&settings.name, &config));
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
    format!(
        "{name} can be used: limits {limits}, upstreams {upstreams}, listening on {}",
        config.listen()
    )
}
