//! `/api/keys`: callers' keys.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::routing::{delete, get, patch, post};
use http::StatusCode;
use serde_json::{Value, json};
use tallygate_store::registry::{Change, Grant, Lasting, Right};

use super::{Admin, Administrator, Refused, Route};
use crate::config::Config;
use crate::decision::Fields;
use crate::identify::{self, GrantError, KeyHash, key_shown, read_end, read_grant, untiered};

pub(super) fn routes() -> [Route; 6] {
    [
        ("GET", "/api/keys", get(list)),
        ("POST", "/api/keys", post(create)),
        ("GET", "/api/keys/{id}", get(one)),
        ("PATCH", "/api/keys/{id}", patch(expire)),
        ("DELETE", "/api/keys/{id}", delete(revoke)),
        ("POST", "/api/keys/{id}/rotate", post(rotate)),
    ]
}

type Body = Result<Bytes, BytesRejection>;

async fn list(State(admin): State<Admin>, _: Administrator) -> Json<Value> {
    let records = admin.server().registrar().records();
    let setup = admin.server().pipeline().setup();
    let now = admin.server().pipeline().stamp();
    let keys: Vec<Value> = records.keys().map(|key| key_shown(key, now)).collect();
    let of_file: Vec<&str> = setup.config().key_ids().collect();
    Json(json!({ "keys": keys, "of_configuration": of_file }))
}

async fn one(
    State(admin): State<Admin>,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    check_place(&admin, &id)?;
    Ok(Json(shown(&admin, &id)?))
}

async fn create(
    State(admin): State<Admin>,
    who: Administrator,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Refused> {
    let author = who.author(&admin);
    let setup = admin.server().pipeline().setup();
    let (key, hash) = new_key()?;
    let grant = read_grant(&body?, (author.at, hash))?;
    check(&grant, setup.config())?;
    let mut warnings = warnings(&admin, author.right == Right::Keyless);
    warnings.extend(untiered(&grant, setup.config()));
    let id = grant.id.clone();
    let change = Change::CreateKey(grant);
    admin.change(change, &author).await?;
    let mut told = shown(&admin, &id)?;
    told["key"] = key.into();
    if !warnings.is_empty() {
        told["warnings"] = warnings.into();
    }
    Ok((StatusCode::CREATED, Json(told)))
}

async fn rotate(
    State(admin): State<Admin>,
    who: Administrator,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Refused> {
    check_place(&admin, &id)?;
    let author = who.author(&admin);
    let body = body?;
    let mut fields = match body.is_empty() {
        true => Fields::of_body(b"{}")?,
        false => Fields::of_body(&body)?,
    };
    let grace = fields.millis("grace_ms")?.filter(|grace| !grace.is_zero());
    fields.end()?;
    let (key, hash) = new_key()?;
    let change = Change::RotateKey {
        id: id.clone(),
        hash,
        grace: grace.map(|grace| author.at.plus(grace)),
    };
    admin.change(change, &author).await?;
    let mut told = shown(&admin, &id)?;
    told["key"] = key.into();
    Ok(Json(told))
}

async fn expire(
    State(admin): State<Admin>,
    who: Administrator,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, Refused> {
    check_place(&admin, &id)?;
    let author = who.author(&admin);
    let end = read_end(&body?, author.at)?;
    let change = Change::ExpireKey {
        id: id.clone(),
        end,
    };
    admin.change(change, &author).await?;
    Ok(Json(shown(&admin, &id)?))
}

async fn revoke(
    State(admin): State<Admin>,
    who: Administrator,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    check_place(&admin, &id)?;
    let author = who.author(&admin);
    let change = Change::RevokeKey { id: id.clone() };
    admin.change(change, &author).await?;
    Ok(Json(shown(&admin, &id)?))
}

/// Whether a key goes with the configuration.
fn check(grant: &Grant, config: &Config) -> Result<(), Refused> {
    if config.has_key(&grant.id) {
        let message = format!("the key id `{}` is taken by the configuration", grant.id);
        return Err(Refused::new(StatusCode::CONFLICT, "taken", message)
            .mend("choose another id, or remove the key from the configuration"));
    }
    match grant.subject.get("tier") {
        Some(tier) if !config.may_be_tier(tier) => {
            let message = format!("the tier `{tier}` is not under `tiers`");
            let names: Vec<&str> = config.tier_names().collect();
            Err(Refused::invalid(message, Some("subject.tier"))
                .mend(format!("there are: {}", names.join(", "))))
        }
        _ => Ok(()),
    }
}

impl From<GrantError> for Refused {
    fn from(error: GrantError) -> Self {
        let refused = Self::invalid(error.message, error.field.as_deref());
        match error.mend {
            Some(mend) => refused.mend(mend),
            None => refused,
        }
    }
}

/// A key and its hash.
fn new_key() -> Result<(String, String), Refused> {
    let key = identify::generate().map_err(|_| Refused::internal())?;
    let hash = KeyHash::of(key.as_bytes()).to_string();
    Ok((key, hash))
}

fn check_place(admin: &Admin, id: &str) -> Result<(), Refused> {
    let setup = admin.server().pipeline().setup();
    match setup.config().has_key(id) {
        true => Err(Refused::new(
            StatusCode::CONFLICT,
            "of_configuration",
            format!("the key `{id}` stands in the configuration"),
        )
        .mend("change it there")),
        false => Ok(()),
    }
}

fn warnings(admin: &Admin, first: bool) -> Vec<String> {
    let process = admin.server().registrar().lasts() == Lasting::Process;
    let told = [
        (
            first,
            "from now on every caller needs a key, of the data listener too",
        ),
        (
            process,
            "the store is memory: this key is gone when the server ends",
        ),
    ];
    let told = told.into_iter().filter(|(applies, _)| *applies);
    told.map(|(_, text)| text.to_owned()).collect()
}

fn shown(admin: &Admin, id: &str) -> Result<Value, Refused> {
    let records = admin.server().registrar().records();
    let key = records.key(id).ok_or_else(|| {
        let message = format!("there is no key `{id}`");
        Refused::new(StatusCode::NOT_FOUND, "unknown", message)
    })?;
    Ok(key_shown(key, admin.server().pipeline().stamp()))
}
