//! `tallygate check`: everything that is wrong with a configuration, with its place and mend.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tallygate_server::Config;
use tallygate_server::config::{CheckReport, StoreChoice};
use tallygate_store::{FoundServer, RedisFindings};

use crate::exit::{Exit, Failure};
use crate::screen::{Screen, tell};
use crate::settings::Settings;
use crate::storage;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration; `-` is standard input
    file: PathBuf,

    /// Open the store too, and tell what is there
    #[arg(long)]
    connect: bool,
}

pub(crate) async fn run(args: &CheckArgs, screen: &Screen) -> Result<(), Failure> {
    let settings = Settings::read(&args.file)?;
    match settings.parse() {
        Ok(config) => good(args, &settings.name, &config, screen).await,
        Err(errors) if screen.is_json() => {
            let report = CheckReport::new(&settings.name, errors.problems());
            screen.answer(&json!(report), "");
            Err(Failure::shown(Exit::Config, String::new()))
        }
        Err(errors) => Err(Failure::shown(Exit::Config, errors.render())),
    }
}

async fn good(
    args: &CheckArgs,
    name: &str,
    config: &Config,
    screen: &Screen,
) -> Result<(), Failure> {
    let warnings = config.warnings();
    if !warnings.problems().is_empty() && !screen.is_json() {
        tell(&warnings.render());
    }
    let mut told = json!(CheckReport::new(name, warnings.problems()));
    told["store"] = config.store().to_string().into();
    let mut text = sentence(name, config);
    if let (true, StoreChoice::Redis(options)) = (args.connect, config.store()) {
        let store = storage::connect(options, config).await?;
        let found = store.findings();
        told["connected"] = connected(found);
        text.push_str(&lines(found));
        if !screen.is_json() {
            for warning in &found.warnings {
                tell(&format!("warning: {warning}"));
            }
        }
    }
    screen.answer(&told, &text);
    Ok(())
}

fn connected(found: &RedisFindings) -> Value {
    let server = |server: &FoundServer| json!({ "host": server.host, "engine": server.engine, "version": server.version });
    let servers: Vec<Value> = found.servers.iter().map(server).collect();
    json!({ "topology": found.topology, "servers": servers, "warnings": found.warnings })
}

/// One line a server.
fn lines(found: &RedisFindings) -> String {
    let line = |server: &FoundServer| {
        let FoundServer {
            host,
            engine,
            version,
            ..
        } = server;
        format!("\n  {engine} {version} at {host} ({})", found.topology)
    };
    found.servers.iter().map(line).collect()
}

fn sentence(name: &str, config: &Config) -> String {
    let limits = config.policy().limits().count();
    let upstreams = config.upstreams().len();
    let counters = match config.store() {
        StoreChoice::Memory => "in memory".to_owned(),
        StoreChoice::Folder(path) => format!("in {}", path.display()),
        elsewhere => format!("on {elsewhere}"),
    };
    format!(
        "{name} can be used: limits {limits}, upstreams {upstreams}, counters {counters}, listening on {}",
        config.listen()
    )
}
