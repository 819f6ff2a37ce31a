//! `POST /api/reload`: the configuration file read now.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::routing::post;
use http::StatusCode;
use serde_json::{Value, json};
use tallygate_store::registry::{Change, ChangeError};

use super::{Admin, Administrator, Refused, Route};
use crate::decision::pairs;
use crate::registrar::{Intent, Reread};

pub(super) fn routes() -> [Route; 1] {
    [("POST", "/api/reload", post(reload))]
}

async fn reload(
    State(admin): State<Admin>,
    who: Administrator,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Refused> {
    let author = who.author(&admin);
    let registrar = admin.server().registrar();
    let intent = intent(query.as_deref().unwrap_or_default())?;
    match registrar.asking().ask(intent).await {
        None => Err(conflict("no_file", "no configuration file is watched")
            .mend("start the server with `--config FILE`")),
        Some(Reread::Possible(trial)) => Ok(Json(json!({
            "reloaded": false,
            "limits": { "added": trial.added, "removed": trial.removed, "changed": trial.changed },
            "warnings": trial.warnings,
        }))),
        Some(Reread::Kept(why)) if intent == Intent::Try => Err(conflict(
            "config",
            format!("the file would not be taken over: {}", why.join("; ")),
        )),
        Some(Reread::Kept(why)) => Err(conflict(
            "config",
            format!("the old configuration stays in force: {}", why.join("; ")),
        )
        .mend("see what is wrong with `tallygate check FILE`")),
        Some(Reread::Taken(left)) => {
            let noted = registrar.change(Change::Reloaded, &author).await;
            admin
                .server()
                .observer()
                .administered(Change::Reloaded.action());
            Ok(Json(told(left, noted.err().as_ref())))
        }
    }
}

/// What the file is to be read for.
fn intent(query: &str) -> Result<Intent, Refused> {
    let mut said = None;
    for (name, value) in pairs(query) {
        let intent = match (&*name, &*value) {
            (DRY_RUN, "true") => Intent::Try,
            (DRY_RUN, "false") => Intent::Reload,
            (DRY_RUN, _) => {
                return Err(Refused::invalid(
                    "`dry_run` must be true or false",
                    Some(DRY_RUN),
                ));
            }
            _ => {
                let message = format!("a reload is not asked for `{name}`");
                return Err(Refused::invalid(message, Some(&name)));
            }
        };
        if said.replace(intent).is_some() {
            let message = "`dry_run` is given twice";
            return Err(Refused::invalid(message, Some(DRY_RUN)));
        }
    }
    Ok(said.unwrap_or(Intent::Reload))
}

/// The parameter of a reload that only says what it would do.
const DRY_RUN: &str = "dry_run";

/// It is in force whether or not that could be noted: a file that changes is taken over without being asked for, too.
fn told(mut warnings: Vec<String>, unnoted: Option<&ChangeError>) -> Value {
    let mut told = json!({ "reloaded": true, "noted": unnoted.is_none() });
    warnings.extend(
        unnoted.map(|error| format!("it is in force, and the audit log does not say so: {error}")),
    );
    if !warnings.is_empty() {
        told["warnings"] = warnings.into();
    }
    told
}

fn conflict(kind: &'static str, message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::CONFLICT, kind, message)
}
