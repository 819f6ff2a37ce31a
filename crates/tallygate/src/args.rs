//! The command line.

use clap::{Parser, Subcommand};

use crate::exit::Exit;
use crate::{audit, check, count, demo, explain, keys, mock, overrides, prices, serve, usage};

/// Decides before each call to a large language model whether it may go now, and settles with what it really used.
#[derive(Debug, Parser)]
#[command(name = "tallygate", version, about, after_long_help = Exit::table())]
pub(crate) struct Cli {
    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway and the decision API
    Serve(serve::ServeArgs),

    /// See it work: a mock provider, the gateway, three users and live traffic
    Demo(demo::DemoArgs),

    /// Run a strict mock provider
    Mock(Box<mock::MockArgs>),

    /// Count the tokens of texts, files or request bodies
    Count(count::CountArgs),

    /// Show everything that is wrong with a configuration
    Check(check::CheckArgs),

    /// Show which limits apply to a caller, where they stand and what they promise
    Explain(explain::ExplainArgs),

    /// Make, list, rotate and revoke callers' keys
    #[command(subcommand)]
    Keys(keys::Keys),

    /// Override limits of a running server for a while
    #[command(subcommand)]
    Overrides(overrides::Overrides),

    /// List and show what models cost, and import prices
    #[command(subcommand)]
    Prices(prices::Prices),

    /// Show what administrators did at a running server
    Audit(audit::AuditArgs),

    /// Show what calls used and cost, and what governance saved
    Usage(Box<usage::UsageArgs>),
}
