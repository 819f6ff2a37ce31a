//! `tallygate usage`: what calls used and cost, and what governance saved.

mod table;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::Value;
use tallygate_server::usage;
use tallygate_store::folder::{DataFolder, Purpose};
use tallygate_store::usage::{FolderShelf, MAX_ROWS, Query};

use crate::exit::{Exit, Failure};
use crate::remote::{Whom, escaped};
use crate::screen::{Screen, tell};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tallygate usage
  tallygate usage --by tenant,day --from 30d --timezone Europe/Berlin
  tallygate usage --by user,model --from 2026-11-01 --to 2026-12-01 tenant=acme tenant=globex
  tallygate usage --by limit outcome=denied --from 24h
  tallygate usage --by tenant,month --csv > usage.csv
  tallygate usage --data ./tallygate-data --by tenant

Rows may be apart by any label of the subject (tenant, user, key, tier, …), and by model, asked, upstream, outcome, limit,
method, hour, day, week and month.")]
pub(crate) struct UsageArgs {
    /// Only calls with this label, or this model, asked, upstream, outcome, limit or method; of several values of one name any
    #[arg(value_name = "NAME=VALUE", value_parser = filter)]
    only: Vec<(String, String)>,

    /// What rows are apart by, with commas between
    #[arg(long, default_value = "tenant,model")]
    by: String,

    /// The first moment that counts: a date, a time, or a length back from now (24h, 30d); all that is kept unless given
    #[arg(long, value_name = "WHEN")]
    from: Option<String>,

    /// The first moment that counts no more
    #[arg(long, value_name = "WHEN")]
    to: Option<String>,

    /// Whose hours, days, weeks and months are meant
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    timezone: String,

    /// Write comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// Rows of the table at most, the dearest; those of a calendar in its order
    #[arg(long, value_name = "N", default_value_t = 40)]
    rows: usize,

    /// Read this data folder, in use or not, instead of asking a server; the latest calls may be missing
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["admin", "config"])]
    data: Option<PathBuf>,

    #[command(flatten)]
    whom: Whom,
}

fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

pub(crate) async fn run(args: &UsageArgs, screen: &Screen) -> Result<(), Failure> {
    let report = match &args.data {
        Some(folder) => local(folder, args)?,
        None => args.whom.open()?.get(&args.path()).await?,
    };
    let damaged = report["damaged"].as_u64().unwrap_or(0);
    if damaged > 0 {
        tell(&format!(
            "tallygate: pieces of the ledger cannot be read, and what they hold is in no sum: {damaged}"
        ));
    }
    if let Some(left_out) = left_out(&report) {
        // Comma-separated values have no totals, where these calls are.
        if args.csv {
            return Err(Failure::new(Exit::Usage, left_out).mend(FEWER_ROWS));
        }
        tell(&format!(
            "tallygate: {left_out}; they are in the totals alone: {FEWER_ROWS}"
        ));
    }
    if args.csv {
        screen.write(&usage::csv(&report));
    } else {
        screen.answer(&report, &table::text(&report, args.rows));
    }
    Ok(())
}

const FEWER_ROWS: &str = "ask for less in --by, or for a shorter time with --from and --to";

/// What is to be known of a report that has not all the rows that it would have.
fn left_out(report: &Value) -> Option<String> {
    let calls = report["calls_without_row"].as_u64()?;
    (calls > 0)
        .then(|| format!("a report has at most {MAX_ROWS} rows, and calls without one are {calls}"))
}

impl UsageArgs {
    /// The question, as names and values.
    fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs = vec![("by", &*self.by), ("timezone", &*self.timezone)];
        let moments = [("from", &self.from), ("to", &self.to)];
        pairs.extend(
            moments
                .iter()
                .filter_map(|(name, at)| Some((*name, at.as_deref()?))),
        );
        pairs.extend(self.only.iter().map(|(name, value)| (&**name, &**value)));
        pairs
    }

    /// The question, as a server is asked it.
    fn path(&self) -> String {
        let pairs = self.pairs().into_iter();
        let pairs = pairs.map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
        format!("/api/usage?{}", pairs.collect::<Vec<_>>().join("&"))
    }
}

/// The answer out of a data folder, as it is now.
fn local(folder: &Path, args: &UsageArgs) -> Result<Value, Failure> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let query = Query::read(args.pairs(), now).map_err(|error| Failure::new(Exit::Usage, error))?;
    let failed = |error: &dyn std::error::Error| Failure::new(Exit::Store, error);
    let folder = DataFolder::open(folder, Purpose::Read).map_err(|error| failed(&error))?;
    let report = FolderShelf::peek(&folder, &query).map_err(|error| failed(&error))?;
    Ok(usage::json(&report, &query))
}
