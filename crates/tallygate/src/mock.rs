//! `tallygate mock`: a strict provider to develop and test against, without keys or costs.

mod flags;

use std::net::SocketAddr;

use clap::Args;
use serde_json::json;
use tallygate_sim::books::Counts;
use tallygate_sim::{Books, Mock};

use crate::exit::{Exit, Failure};
use crate::screen::Screen;
use crate::signals::Signals;
use flags::{Behaviour, Limits};

#[derive(Debug, Args)]
#[command(after_help = "\
It speaks the dialects of OpenAI, Anthropic and Gemini, takes any key, and answers texts whose real token counts are what its usage
says. Single calls can ask for faults of their own by x-mock-… headers. GET /mock/books shows what it admitted and refused.

Example:
  tallygate mock --tokens-per-minute 30000 --first-token-ms 200 --token-us 10000")]
pub(crate) struct MockArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8789")]
    listen: SocketAddr,

    /// What the answers follow from, with the prompt
    #[arg(long, default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    behaviour: Behaviour,
}

pub(crate) async fn run(args: &MockArgs, screen: &Screen) -> Result<(), Failure> {
    let options = args.behaviour.options(args.seed, args.limits.list());
    let signals = Signals::new()?;
    let mock = Mock::start(args.listen, options).await.map_err(|error| {
        Failure::new(
            Exit::Listen,
            format!("{} cannot be listened on: {error}", args.listen),
        )
        .mend("choose another address with --listen, or port 0 for a free one")
    })?;
    let url = format!("http://{}", mock.addr());
    screen.answer(
        &json!({ "event": "listening", "mock": url }),
        &format!("mock listening on {url}"),
    );
    signals.stop().await;
    let books = mock.books();
    mock.stop().await;
    screen.answer(
        &json!({ "event": "stopped", "books": books }),
        &summary(&books),
    );
    Ok(())
}

fn summary(books: &Books) -> String {
    let Counts {
        admitted,
        refused,
        failed,
        served,
        input_tokens,
        output_tokens,
        ..
    } = books.totals();
    format!(
        "mock stopped: calls admitted {admitted}, served {served}, refused by limits {refused}, failed by switches {failed}; \
         tokens in {input_tokens}, out {output_tokens}"
    )
}
