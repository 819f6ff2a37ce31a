//! `/api/keys`: callers' keys.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use http::StatusCode;
use serde_json::{Value, json};
use tallygate_store::registry::{Change, KeyRecord, Lasting, Stamp};

use super::{Admin, Administrator, Refused, Route};
use crate::decision::Fields;
use crate::identify::{self, KeyHash, Role};
use crate::registrar::keyring;
use crate::wire::rfc3339;

mod grant;

pub(super) fn routes() -> [Route; 5] {
    [
        ("GET", "/api/keys", get(list)),
        ("POST", "/api/keys", post(create)),
        ("GET", "/api/keys/{id}", get(one)),
        ("DELETE", "/api/keys/{id}", delete(revoke)),
        ("POST", "/api/keys/{id}/rotate", post(rotate)),
    ]
}

type Body = Result<Bytes, BytesRejection>;

async fn list(State(admin): State<Admin>, _: Administrator) -> Json<Value> {
    let records = admin.server().registrar().records();
    let setup = admin.server().pipeline().setup();
    let now = admin.server().pipeline().stamp();
    let keys: Vec<Value> = records.keys().map(|key| told(key, now)).collect();
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
    let grant = grant::read(&body?, setup.config(), (author.at, hash))?;
    let first = setup.keyring().is_open();
    if first && !grant.roles.iter().any(|role| role == Role::Admin.word()) {
        return Err(no_admin("the first key must have the role `admin`").mend(
            "from then on nobody is let in without a key: create one with the role `admin` first",
        ));
    }
    let id = grant.id.clone();
    let change = Change::CreateKey(grant);
    admin.server().registrar().change(change, &author).await?;
    admin.server().observer().administered("key.create");
    let mut told = shown(&admin, &id)?;
    told["key"] = key.into();
    let warnings = warnings(&admin, first);
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
    admin.server().registrar().change(change, &author).await?;
    admin.server().observer().administered("key.rotate");
    let mut told = shown(&admin, &id)?;
    told["key"] = key.into();
    Ok(Json(told))
}

async fn revoke(
    State(admin): State<Admin>,
    who: Administrator,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refused> {
    check_place(&admin, &id)?;
    let author = who.author(&admin);
    check_admin_left(&admin, &id, author.at)?;
    let change = Change::RevokeKey { id: id.clone() };
    admin.server().registrar().change(change, &author).await?;
    admin.server().observer().administered("key.revoke");
    Ok(Json(shown(&admin, &id)?))
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

/// Somebody must be left who may administer.
fn check_admin_left(admin: &Admin, id: &str, now: Stamp) -> Result<(), Refused> {
    let records = admin.server().registrar().records();
    let setup = admin.server().pipeline().setup();
    let of = |key: &&KeyRecord| key.id == id;
    let is_admin = records
        .keys()
        .find(of)
        .is_some_and(|key| key.roles.iter().any(|role| role == Role::Admin.word()));
    if !is_admin
        || keyring(setup.config(), records.keys().filter(|key| key.id != id)).has_admin(now)
    {
        return Ok(());
    }
    let message = format!("`{id}` is the last key with the role `admin`");
    Err(no_admin(message).mend("create another one first, or rotate this one"))
}

fn no_admin(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::CONFLICT, "no_admin", message)
}

fn warnings(admin: &Admin, first: bool) -> Vec<&'static str> {
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
    told.map(|(_, text)| text).collect()
}

fn shown(admin: &Admin, id: &str) -> Result<Value, Refused> {
    let records = admin.server().registrar().records();
    let key = records.key(id).ok_or_else(|| {
        let message = format!("there is no key `{id}`");
        Refused::new(StatusCode::NOT_FOUND, "unknown", message)
    })?;
    Ok(told(key, admin.server().pipeline().stamp()))
}

/// A key as it is shown: without its hash.
fn told(key: &KeyRecord, now: Stamp) -> Value {
    let instant = |stamp: Option<Stamp>| stamp.map(|stamp| rfc3339(stamp.into()));
    let former = key.former.as_ref().filter(|former| former.until > now);
    json!({
        "id": key.id,
        "state": key.state(now).word(),
        "subject": key.subject,
        "roles": key.roles,
        "downgrade": key.downgrade.as_deref().unwrap_or("allow"),
        "created": rfc3339(key.created.into()),
        "by": key.by,
        "expires": instant(key.expires),
        "revoked": instant(key.revoked),
        "rotated": instant(key.rotated),
        "old_key_until": instant(former.map(|former| former.until)),
    })
}
