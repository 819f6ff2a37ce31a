//! `tallygate overrides`: limits of a running server that are others for a while.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::keys::millis;
use crate::length::{Until, until};
use crate::remote::{Whom, escaped};
use crate::screen::Screen;
use crate::table::table;

#[derive(Debug, Subcommand)]
pub(crate) enum Overrides {
    /// List the overrides that have not ended
    List(List),
    /// Override a limit until an instant
    #[command(after_help = "\
Examples:
  tallygate overrides set pro-day 1_000_000 --until 12h --reason 'launch day'
  tallygate overrides set minute 50 --metric requests --burst 100 --until 2027-01-31")]
    Set(Set),
    /// End the overrides of a limit now
    Clear(Clear),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// The name of the limit
    limit: String,

    /// The amount in force meanwhile, as 10_000; of `cost` in micro-dollars
    #[arg(value_parser = amount)]
    amount: u64,

    /// Its end: 12h from now, or 2027-01-31T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = until)]
    until: Until,

    /// Which of the limit's amounts; need not be said where there is one
    #[arg(long)]
    metric: Option<String>,

    /// The most at once, of a bucket
    #[arg(long, value_name = "N", value_parser = amount)]
    burst: Option<u64>,

    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, Args)]
pub(crate) struct Clear {
    /// The name of the limit
    limit: String,

    /// Only this metric's
    #[arg(long)]
    metric: Option<String>,

    #[command(flatten)]
    whom: Whom,
}

/// A whole number, in groups if one likes, as the configuration has it.
fn amount(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    digits
        .parse()
        .map_err(|_| "write a whole number, as 10_000".to_owned())
}

pub(crate) async fn run(overrides: &Overrides, screen: &Screen) -> Result<(), Failure> {
    let (told, none) = match overrides {
        Overrides::List(args) => {
            let told = args.whom.open()?.get("/api/overrides").await?;
            (told, "no limit is overridden")
        }
        Overrides::Set(args) => (args.set().await?, "nothing is overridden"),
        Overrides::Clear(args) => (args.clear().await?, "the limit is as configured again"),
    };
    screen.answer(&told, &shown(&told, none));
    Ok(())
}

impl Set {
    async fn set(&self) -> Result<Value, Failure> {
        let mut body = json!({ "amount": self.amount });
        match &self.until {
            Until::Instant(text) => body["until"] = text.as_str().into(),
            Until::Length(length) => body["ttl_ms"] = millis(*length).into(),
        }
        if let Some(burst) = self.burst {
            body["burst"] = burst.into();
        }
        for (name, text) in [("metric", &self.metric), ("reason", &self.reason)] {
            if let Some(text) = text {
                body[name] = text.as_str().into();
            }
        }
        let path = format!("/api/overrides/{}", escaped(&self.limit));
        let remote = self.whom.open()?;
        remote.ask(Method::PUT, &path, Some(&body)).await
    }
}

impl Clear {
    async fn clear(&self) -> Result<Value, Failure> {
        let mut path = format!("/api/overrides/{}", escaped(&self.limit));
        if let Some(metric) = &self.metric {
            path.push_str(&format!("?metric={}", escaped(metric)));
        }
        self.whom.open()?.ask(Method::DELETE, &path, None).await
    }
}

fn shown(told: &Value, none: &str) -> String {
    let overrides = told["overrides"].as_array().map_or(&[][..], Vec::as_slice);
    if overrides.is_empty() {
        return none.to_owned();
    }
    let rows: Vec<[String; 7]> = overrides.iter().map(row).collect();
    table(
        [
            "limit",
            "metric",
            "amount",
            "configured",
            "until",
            "by",
            "reason",
        ],
        &rows,
    )
}

fn row(set: &Value) -> [String; 7] {
    let text = |name: &str| set[name].as_str().unwrap_or_default().to_owned();
    let amount = match set["burst"].as_u64() {
        Some(burst) => format!("{} (burst {burst})", set["amount"]),
        None => set["amount"].to_string(),
    };
    let configured = match set["configured"].as_u64() {
        Some(amount) => amount.to_string(),
        None => "no such limit now".to_owned(),
    };
    [
        text("limit"),
        text("metric"),
        amount,
        configured,
        text("until"),
        text("by"),
        text("reason"),
    ]
}
