//! `POST /api/reload`: the configuration file read now.

use axum::Json;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use serde_json::{Value, json};
use tallygate_store::registry::{Change, ChangeError};

use super::{Admin, Administrator, Refused, Route};
use crate::registrar::Reread;

pub(super) fn routes() -> [Route; 1] {
    [("POST", "/api/reload", post(reload))]
}

async fn reload(State(admin): State<Admin>, who: Administrator) -> Result<Json<Value>, Refused> {
    let author = who.author(&admin);
    let registrar = admin.server().registrar();
    match registrar.asking().ask().await {
        None => Err(conflict("no_file", "no configuration file is watched")
            .mend("start the server with `--config FILE`")),
        Some(Reread::Kept(why)) => Err(conflict(
            "config",
            format!("the old configuration stays in force: {}", why.join("; ")),
        )
        .mend("see what is wrong with `tallygate check FILE`")),
        Some(Reread::Taken(left)) => {
            let noted = registrar.change(Change::Reloaded, &author).await;
            admin.server().observer().administered("config.reload");
            Ok(Json(told(left, noted.err().as_ref())))
        }
    }
}

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
