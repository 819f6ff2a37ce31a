//! `tallygate check`: everything that is wrong with a configuration, with its place and mend.

use std::path::PathBuf;

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use tallygate_server::Config;
use tallygate_server::config::{CheckReport, StoreChoice};
use tallygate_store::{FoundServer, RedisFindings};

use crate::exit::{Exit, Failure};
use crate::remote::Whom;
use crate::screen::{Screen, tell};
use crate::settings::Settings;
use crate::storage::{self, FolderFindings};

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The configuration; `-` is standard input
    #[arg(required_unless_present = "admin")]
    file: Option<PathBuf>,

    /// Open the store too, and tell what is there
    #[arg(long)]
    connect: bool,

    /// Ask the admin listener of a running server instead: whether it would take its file over as it is now, and what that would
    /// change. Its key, where keys are configured, is in TALLYGATE_ADMIN_KEY
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "connect"])]
    admin: Option<String>,
}

pub(crate) async fn run(args: &CheckArgs, screen: &Screen) -> Result<(), Failure> {
    let Some(file) = &args.file else {
        return at_server(args.admin.clone(), screen).await;
    };
    let settings = Settings::read(file)?;
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
    if let Some(found) = connect(args, config).await? {
        text.push_str(&found.text);
        if !screen.is_json() {
            for warning in &found.warnings {
                tell(&format!("warning: {warning}"));
            }
        }
        told["connected"] = found.told;
    }
    screen.answer(&told, &text);
    Ok(())
}

/// What a running server would make of its file. It alone reads it: what others sent it to check could name its variables and files.
async fn at_server(admin: Option<String>, screen: &Screen) -> Result<(), Failure> {
    let whom = Whom {
        admin,
        config: None,
    };
    let path = "/api/reload?dry_run=true";
    let told = whom.open()?.ask(Method::POST, path, None).await?;
    let names = |of: &Value| -> Vec<String> {
        let names = of.as_array().into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if !screen.is_json() {
        for warning in names(&told["warnings"]) {
            tell(&format!("warning: {warning}"));
        }
    }
    let limits = ["added", "removed", "changed"].map(|how| (how, names(&told["limits"][how])));
    let lines = limits.iter().filter(|(_, names)| !names.is_empty());
    let lines: String = lines
        .map(|(how, names)| format!("\n  limits {how}: {}", names.join(", ")))
        .collect();
    let text = format!("the server would take its file over{lines}");
    screen.answer(&told, &text);
    Ok(())
}

/// What was found where the counters are.
struct Found {
    told: Value,
    text: String,
    warnings: Vec<String>,
}

/// Looks into the store, if that was asked for and it is not this process's memory.
async fn connect(args: &CheckArgs, config: &Config) -> Result<Option<Found>, Failure> {
    match config.store() {
        StoreChoice::Redis(options) if args.connect => {
            let store = storage::connect(options, config).await?;
            Ok(Some(on_servers(store.findings())))
        }
        StoreChoice::Folder(path) if args.connect => {
            let found = storage::examine(path.clone(), config).await?;
            Ok(Some(in_folder(&found)))
        }
        _ => Ok(None),
    }
}

fn on_servers(found: &RedisFindings) -> Found {
    let server = |server: &FoundServer| json!({ "host": server.host, "engine": server.engine, "version": server.version });
    let servers: Vec<Value> = found.servers.iter().map(server).collect();
    Found {
        told: json!({ "topology": found.topology, "servers": servers, "warnings": found.warnings }),
        text: lines(found),
        warnings: found.warnings.clone(),
    }
}

fn in_folder(found: &FolderFindings) -> Found {
    let damaged = format!(
        "{} pieces of the ledger of usage cannot be read; what they hold is in no sum",
        found.damaged
    );
    let warnings: Vec<String> = (found.damaged > 0).then_some(damaged).into_iter().collect();
    let text = match found.is_new {
        true => "\n  the folder is new: it is made when the server starts".to_owned(),
        false => format!("\n  the folder can be opened: keys {}", found.keys),
    };
    Found {
        told: json!({ "new": found.is_new, "keys": found.keys, "warnings": warnings }),
        text,
        warnings,
    }
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
