//! `tallygate overrides`: limits of a running server that are others for a while.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use tallygate_core::Metric;
use tallygate_server::config::{read_amount, read_dollars};

use crate::exit::{Exit, Failure};
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
  tallygate overrides set spend '$5_000' --until 12h
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

    /// The amount in force meanwhile, as 10_000; of `cost` in dollars, as '$5_000' or 5_000.00
    #[arg(value_parser = amount)]
    amount: Amount,

    /// Its end: 12h from now, or 2027-01-31T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = until)]
    until: Until,

    /// Which of the limit's amounts; need not be said where there is one
    #[arg(long)]
    metric: Option<String>,

    /// The most at once, of a bucket
    #[arg(long, value_name = "N", value_parser = amount)]
    burst: Option<Amount>,

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

/// An amount as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    /// A whole number.
    Number(u64),
    /// Micro-dollars.
    Money(u64),
}

impl Amount {
    fn units(self) -> u64 {
        match self {
            Self::Number(units) | Self::Money(units) => units,
        }
    }
}

/// A whole number or dollars, as the configuration has them. Dollars have a sign or decimals.
fn amount(text: &str) -> Result<Amount, String> {
    let read = match text.strip_prefix('$') {
        Some(dollars) => read_dollars(dollars).map(Amount::Money),
        None if text.contains('.') => read_dollars(text).map(Amount::Money),
        None => read_amount(text).map(Amount::Number),
    };
    read.map_err(|refusal| {
        format!("it {refusal}; write a whole number, as 10_000, or dollars, as 5_000.00")
    })
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
        self.check_unit().await?;
        let mut body = json!({ "amount": self.amount.units() });
        match &self.until {
            Until::Instant(text) => body["until"] = text.as_str().into(),
            Until::Length(length) => body["ttl_ms"] = millis(*length).into(),
        }
        if let Some(burst) = self.burst {
            body["burst"] = burst.units().into();
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

impl Set {
    /// 5000 may be meant as dollars or as what the API counts in, and the difference is a million.
    async fn check_unit(&self) -> Result<(), Failure> {
        let told = self.whom.open()?.get("/api/limits").await?;
        let limits = told["limits"].as_array().into_iter().flatten();
        let mut metrics = limits
            .filter(|limit| limit["name"] == self.limit.as_str())
            .filter_map(|limit| limit["metric"].as_str())
            .filter(|metric| self.metric.as_deref().is_none_or(|meant| meant == *metric));
        let (Some(metric), None) = (metrics.next(), metrics.next()) else {
            return Ok(()); // the server says what is wrong with that
        };
        let amounts = [Some(self.amount), self.burst];
        let is_money = |amount: &Amount| matches!(amount, Amount::Money(_));
        let wrong = |amount: &&Amount| is_money(amount) != (metric == "cost");
        if amounts.iter().flatten().find(wrong).is_none() {
            return Ok(());
        }
        let message = format!("the limit {} is one of {metric}", self.limit);
        let mend = match metric {
            "cost" => "write its amount in dollars, as 5_000.00",
            _ => "write its amount as a whole number, without a dollar sign or decimals",
        };
        Err(Failure::new(Exit::Usage, message).mend(mend))
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
    let show = |amount: u64| match set["metric"].as_str() {
        Some("cost") => Metric::COST.show(amount),
        _ => amount.to_string(),
    };
    let amount = show(set["amount"].as_u64().unwrap_or_default());
    let amount = match set["burst"].as_u64() {
        Some(burst) => format!("{amount} (burst {})", show(burst)),
        None => amount,
    };
    let configured = match set["configured"].as_u64() {
        Some(amount) => show(amount),
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

#[cfg(test)]
mod tests {
    use super::{Amount, amount};

    #[test]
    fn dollars_have_a_sign_or_decimals() {
        assert_eq!(amount("10_000"), Ok(Amount::Number(10_000)));
        assert_eq!(amount("$5_000"), Ok(Amount::Money(5_000_000_000)));
        assert_eq!(amount("0.000001"), Ok(Amount::Money(1)));
        assert_eq!(amount("2_000.5"), Ok(Amount::Money(2_000_500_000)));
        for wrong in [
            "",
            "$",
            ".5",
            "1.0000001",
            "1.+5",
            "1__0",
            "_1",
            "0",
            "$0.00",
            "9007199254740993",
            "-1",
            "$-1.00",
            "1e3",
            "18446744073709551615.00",
        ] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }
}
