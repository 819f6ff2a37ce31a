//! `tallygate explain`: which limits apply to a caller, where they stand, and what each promises.

mod answer;
mod ask;
mod unread;

use std::path::PathBuf;

use clap::Args;

use crate::exit::{Exit, Failure};
use crate::remote::Whom;
use crate::screen::Screen;
use crate::settings::Settings;
use crate::storage;
use ask::{Label, Question, Size};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tallygate explain --config tallygate.yaml tenant=acme user=alice tier=free --model gpt-4o
  tallygate explain --config tallygate.yaml user=alice --model gpt-4o --input-tokens 1200 --output-tokens 800
  tallygate explain --config tallygate.yaml --connect user=alice --model gpt-4o
  tallygate explain --url http://127.0.0.1:8787 user=alice --model gpt-4o
  tallygate explain --admin http://127.0.0.1:8788 user=alice --model gpt-4o")]
pub(crate) struct ExplainArgs {
    /// Who asks: labels of the subject, as user=alice
    #[arg(value_name = "LABEL=VALUE")]
    subject: Vec<Label>,

    /// The model called
    #[arg(short, long)]
    model: Option<String>,

    /// The size of the call: is there room for it?
    #[arg(long, value_name = "N")]
    input_tokens: Option<u64>,

    /// The expected size of the answer
    #[arg(long, value_name = "N")]
    output_tokens: Option<u64>,

    /// Explain a configuration, as it stands before any call
    #[arg(short, long, value_name = "FILE", required_unless_present_any = ["url", "admin"])]
    config: Option<PathBuf>,

    /// Read the counters of the configuration's store where they stand; they are only looked at
    #[arg(long, requires = "config", conflicts_with = "url")]
    connect: bool,

    /// Ask a running server where its counters stand, at its data listener; with --config also what they promise
    #[arg(long)]
    url: Option<String>,

    /// Ask a running server at its admin listener, with the key in TALLYGATE_ADMIN_KEY where keys are configured: where its
    /// counters stand, what they promise and how they are overridden
    #[arg(long, value_name = "URL", conflicts_with_all = ["url", "config"])]
    admin: Option<String>,

    /// A key with the role `decide`, for --url; TALLYGATE_KEY unless given
    #[arg(long, requires = "url", env = "TALLYGATE_KEY", hide_env_values = true)]
    key: Option<String>,
}

pub(crate) async fn run(args: &ExplainArgs, screen: &Screen) -> Result<(), Failure> {
    let question = Question {
        subject: args.subject.clone(),
        model: args.model.clone(),
        size: Size::of(args.input_tokens, args.output_tokens),
    };
    if args.admin.is_some() {
        let whom = Whom {
            admin: args.admin.clone(),
            config: None,
        };
        let answer = ask::admin(&whom, &question).await?;
        screen.answer(&answer.json(), &answer.text());
        return Ok(());
    }
    let written = match &args.config {
        Some(file) => {
            let config = Settings::read(file)?.config()?;
            let store = match args.connect {
                true => storage::open(&config).await?,
                false => storage::untouched(&config),
            };
            Some(ask::configuration(&config, store, &question).await?)
        }
        None => None,
    };
    let counted = match &args.url {
        Some(url) => Some(ask::server(url, args.key.as_deref(), &question).await?),
        None => None,
    };
    let answer = match (counted, written) {
        (Some(counted), Some(written)) => counted.promising(&written),
        (Some(answer), None) | (None, Some(answer)) => answer,
        (None, None) => return Err(Failure::new(Exit::Usage, "name a --config or a --url")),
    };
    screen.answer(&answer.json(), &answer.text());
    Ok(())
}
