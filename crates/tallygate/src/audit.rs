//! `tallygate audit`: what administrators did.

use clap::Args;
use serde_json::Value;

use crate::exit::Failure;
use crate::remote::Whom;
use crate::screen::Screen;
use crate::table::table;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// At most so many entries, the latest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// Only entries with a smaller number
    #[arg(long, value_name = "SEQ")]
    before: Option<u64>,

    #[command(flatten)]
    whom: Whom,
}

pub(crate) async fn run(args: &AuditArgs, screen: &Screen) -> Result<(), Failure> {
    let mut path = format!("/api/audit?limit={}", args.limit);
    if let Some(before) = args.before {
        path.push_str(&format!("&before={before}"));
    }
    let told = args.whom.open()?.get(&path).await?;
    screen.answer(&told, &shown(&told));
    Ok(())
}

fn shown(told: &Value) -> String {
    let entries = told["audit"].as_array().map_or(&[][..], Vec::as_slice);
    if entries.is_empty() {
        return "nothing was done".to_owned();
    }
    let rows: Vec<[String; 7]> = entries.iter().map(row).collect();
    table(["seq", "at", "by", "from", "did", "to", "with"], &rows)
}

fn row(entry: &Value) -> [String; 7] {
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let detail = entry["detail"].as_object().into_iter().flatten();
    let detail: Vec<String> = detail
        .map(|(name, value)| match value.as_str() {
            Some(value) => format!("{name}={value}"),
            None => format!("{name}={value}"),
        })
        .collect();
    [
        entry["seq"].to_string(),
        text("at"),
        text("by"),
        text("from"),
        text("action"),
        text("target"),
        detail.join(" "),
    ]
}
