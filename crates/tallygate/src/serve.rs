//! `tallygate serve`: the gateway and the decision API, until told to stop.

mod greeting;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tallygate_server::config::{Exposed, StoreChoice};
use tallygate_server::reload::Watcher;
use tallygate_server::{Config, Listeners, RunError, Server, ServerHandle, StartError};
use tokio::net::TcpListener;

use crate::exit::{Exit, Failure};
use crate::screen::{Screen, tell};
use crate::settings::Settings;
use crate::signals::Signals;

#[derive(Debug, Args)]
#[command(after_help = "\
Without --config, the providers whose keys are in the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY) are served with limits
that suit a new account; the configuration is printed, to begin from.

SIGTERM or Ctrl-C ends it once the calls under way have ended; a second one ends it at once. SIGHUP reads the file again, as does a change
of it. TALLYGATE_LOG sets what is logged: warn, info (as it is), debug.")]
pub(crate) struct ServeArgs {
    /// The configuration, docs/configuration.md
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where counters live, whatever the configuration says: memory, a folder (./tallygate-data) as in docs/durability.md, or
    /// redis://… as in docs/redis.md; ${NAME} stands for that environment variable
    #[arg(long, value_name = "STORE")]
    store: Option<String>,

    /// Listen here, whatever the configuration says; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// The admin listener, whatever the configuration says
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

pub(crate) async fn run(args: &ServeArgs, screen: &Screen) -> Result<(), Failure> {
    let settings = settings(args)?;
    let config = settings.config()?;
    if !config.warnings().problems().is_empty() {
        tell(&config.warnings().render());
    }
    let store = store(args, &config)?;
    let listeners = bind(args, &config, &store).await?;
    let server = Server::open_on(&store, config).await.map_err(not_started)?;
    let signals = Signals::new()?;
    greeting::greet(screen, &settings, &store, &listeners)?;
    tokio::spawn(watch(args.config.clone(), server.handle()));
    let shutdown = async {
        signals.stop().await;
        tracing::info!("stopping: calls under way are finished, no others taken");
    };
    server
        .run(listeners, shutdown)
        .await
        .map_err(|error| match error {
            RunError::Exposed(error) => exposed(error),
            error => Failure::new(Exit::Failed, error),
        })
}

fn exposed(error: Exposed) -> Failure {
    Failure::new(Exit::Config, error)
        .mend("add `keys` to the configuration, make one with `tallygate keys create`, or listen on 127.0.0.1")
}

fn settings(args: &ServeArgs) -> Result<Settings, Failure> {
    match &args.config {
        Some(path) => Settings::read(path),
        None => Settings::of_environment(&|name| std::env::var(name).ok()).ok_or_else(|| {
            Failure::new(Exit::Config, "there is neither a --config nor a provider's key in the environment").mend(
                "export OPENAI_API_KEY=… (or ANTHROPIC_API_KEY, GEMINI_API_KEY), name a --config FILE, or see it work without any: tallygate demo",
            )
        }),
    }
}

/// The store of the command line, or else the configuration's.
fn store(args: &ServeArgs, config: &Config) -> Result<StoreChoice, Failure> {
    let Some(text) = &args.store else {
        return Ok(config.store().clone());
    };
    let env = |name: &str| std::env::var(name).ok();
    StoreChoice::parse(text, "--store", &env)
        .map_err(|errors| Failure::shown(Exit::Usage, errors.render()))
}

fn not_started(error: StartError) -> Failure {
    let exit = match error {
        StartError::Store(_)
        | StartError::Folder(_)
        | StartError::Counters(_)
        | StartError::Registry(_)
        | StartError::Ledger(_) => Exit::Store,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

/// Takes over what the file becomes. Standard input and the built-in configuration do not change.
async fn watch(file: Option<PathBuf>, server: ServerHandle) {
    let Some(path) = file.filter(|path| path.as_os_str() != "-") else {
        return;
    };
    let env = Arc::new(|name: &str| std::env::var(name).ok());
    Watcher::new(path, env, server).await.run().await;
}

async fn bind(
    args: &ServeArgs,
    config: &Config,
    store: &StoreChoice,
) -> Result<Listeners, Failure> {
    let data = args.listen.unwrap_or_else(|| config.listen());
    // A store that keeps keys is asked for them before anything is served.
    if !store.keeps_keys() {
        config.may_listen_on(data).map_err(exposed)?;
    }
    let admin = args.admin.or_else(|| config.admin());
    Ok(Listeners {
        data: listener(data, "--listen").await?,
        admin: match admin {
            Some(addr) => Some(listener(addr, "--admin").await?),
            None => None,
        },
    })
}

async fn listener(addr: SocketAddr, option: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr).await.map_err(|error| {
        Failure::new(
            Exit::Listen,
            format!("{addr} cannot be listened on: {error}"),
        )
        .mend(format!(
            "choose another address with {option}, or port 0 for a free one"
        ))
    })
}
