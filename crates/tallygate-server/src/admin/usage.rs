//! `GET /api/usage`: what calls used and cost, and what governance saved.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use tallygate_store::usage::{MAX_ROWS, Query, QueryError, Report, ShelfError};

use super::reports::Page;
use super::{Admin, Administrator, Refused, Route};
use crate::decision::pairs;
use crate::usage;

/// The parameter that says how the answer is written.
const FORMAT: &str = "format";

pub(super) fn routes() -> [Route; 1] {
    [("GET", "/api/usage", get(answer))]
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
}

async fn answer(
    State(admin): State<Admin>,
    _: Administrator,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let mut pairs: Vec<_> = pairs(query.as_deref().unwrap_or_default()).collect();
    let format = format(&mut pairs, &headers)?;
    let pipeline = admin.server().pipeline();
    let now = pipeline.store().now().as_nanos() / 1_000_000;
    let named = pairs.iter().map(|(name, value)| (&**name, &**value));
    let query = Query::read(named, now)?;
    let recorder = Arc::clone(pipeline.recorder());
    let asking = async move {
        let report = recorder.answer(&query).await.ok_or_else(off)??;
        match format == Format::Csv && report.without_row > 0 {
            true => Err(too_many_rows()),
            false => Ok((report, query)),
        }
    };
    let write = move |(report, query): &(Report, Query), page: &mut Page| {
        let report = usage::json(report, query);
        match format {
            Format::Json => Ok(serde_json::to_writer(page, &report)?),
            Format::Csv => usage::write_csv(&report, page),
        }
    };
    let body = admin.reports.make(asking, write).await?;
    Ok(([(CONTENT_TYPE, format.media_type())], body).into_response())
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// As `format` says, which is taken out; else as the header `accept` does.
fn format(pairs: &mut Vec<(String, String)>, headers: &HeaderMap) -> Result<Format, Refused> {
    let said = pairs.iter().position(|(name, _)| name == FORMAT);
    let Some(said) = said.map(|at| pairs.remove(at).1) else {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        return Ok(
            match accept.is_some_and(|accept| accept.starts_with("text/csv")) {
                true => Format::Csv,
                false => Format::Json,
            },
        );
    };
    match said.as_str() {
        "json" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        _ => Err(Refused::invalid(
            "`format` must be json or csv",
            Some(FORMAT),
        )),
    }
}

fn off() -> Refused {
    let message = "no usage is kept: the configuration says `ledger: off`";
    Refused::new(StatusCode::NOT_FOUND, "off", message)
        .mend("write `ledger: { keep: 90d }`, and restart")
}

/// Comma-separated values have no totals: what is in no row would be in none of them, and nobody told.
fn too_many_rows() -> Refused {
    let message = format!("the report has more than {MAX_ROWS} rows");
    Refused::invalid(message, Some("by")).mend(
        "ask for less in `by`, or for a shorter time; or for JSON, whose totals have all calls",
    )
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        Self::invalid(error.to_string(), error.parameter())
    }
}

impl From<ShelfError> for Refused {
    fn from(error: ShelfError) -> Self {
        match error {
            ShelfError::Query(error) => error.into(),
            error => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ledger_down",
                error.to_string(),
            ),
        }
    }
}
