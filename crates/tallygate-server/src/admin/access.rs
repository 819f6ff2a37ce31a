//! Who may use the admin API.
//!
//! With keys: who shows one that has the role `admin`. Without any key, ever: who reaches a listener on a loopback address from a
//! program on this machine. A page in a browser on this machine is none of those: it may be made to ask by anybody whose page is
//! open, so a request must be addressed to this machine by a name that is (against names that are re-bound to 127.0.0.1), and
//! must not come from another site's page.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Uri};
use tallygate_store::registry::{Author, Keeper, NOBODY, Right};

use super::{Admin, Refused};
use crate::identify::{Identity, Role};

/// Somebody who may use the admin API. A handler that takes it is asked by nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Administrator {
    /// Whose key was shown; nobody's while there is none.
    identity: Option<Arc<Identity>>,
    from: IpAddr,
}

impl Administrator {
    /// Who makes a change now.
    pub(crate) fn author(&self, admin: &Admin) -> Author {
        Author {
            by: self.key_id().to_owned(),
            from: self.from.to_string(),
            at: admin.server.pipeline().stamp(),
            right: self.right(admin),
            elsewhere: elsewhere(admin),
        }
    }

    /// The keys of the configuration do not stand in the records.
    fn right(&self, admin: &Admin) -> Right {
        let setup = admin.server.pipeline().setup();
        let shown = self.identity.as_ref();
        let Some(hash) = shown.and_then(|shown| shown.hash()) else {
            return Right::Keyless;
        };
        match setup.config().has_key(self.key_id()) {
            true => Right::Elsewhere,
            false => Right::Key(hash.to_string()),
        }
    }

    /// Whether it would be let in again now.
    pub(crate) fn is_still_one(&self, admin: &Admin) -> bool {
        let pipeline = admin.server.pipeline();
        let setup = pipeline.setup();
        match &self.identity {
            None => setup.keyring().is_open(),
            Some(identity) => setup.keyring().lets_in(identity, || pipeline.stamp()),
        }
    }

    fn key_id(&self) -> &str {
        let identity = self.identity.as_ref();
        identity.and_then(|shown| shown.key_id()).unwrap_or(NOBODY)
    }
}

/// Who may administer by the keys of the configuration.
fn elsewhere(admin: &Admin) -> Keeper {
    let pipeline = admin.server.pipeline();
    let setup = pipeline.setup();
    setup.config().keyring().keeper(pipeline.stamp())
}

impl FromRequestParts<Admin> for Administrator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, admin: &Admin) -> Result<Self, Refused> {
        let ConnectInfo(peer) = ConnectInfo::<SocketAddr>::from_request_parts(parts, admin)
            .await
            .map_err(|_| Refused::internal())?;
        let from = peer.ip().to_canonical();
        let admitted = admit(admin, &parts.headers);
        let identity = admitted.inspect_err(|refused| {
            let observer = admin.server.observer();
            observer.admin_refused(from, refused.kind());
        })?;
        Ok(Self { identity, from })
    }
}

fn admit(admin: &Admin, headers: &HeaderMap) -> Result<Option<Arc<Identity>>, Refused> {
    let setup = admin.server.pipeline().setup();
    if setup.keyring().is_open() {
        check_local(admin, headers)?;
        return Ok(None);
    }
    // Never from the query, which ends up in logs and histories.
    let now = || admin.server.pipeline().stamp();
    let identity = setup.keyring().identify(headers, None, now)?;
    match identity.may(Role::Admin) {
        true => Ok(Some(identity)),
        false => Err(Refused::role()),
    }
}

fn check_local(admin: &Admin, headers: &HeaderMap) -> Result<(), Refused> {
    if !admin.addr.ip().to_canonical().is_loopback() {
        return Err(Refused::closed());
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| Authority::from_str(host).is_ok_and(|host| is_loopback(&host))) {
        return Err(Refused::host());
    }
    let foreign = headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin
            .to_str()
            .ok()
            .and_then(|text| text.parse::<Uri>().ok());
        origin.is_none_or(|origin| origin.authority().map(Authority::as_str) != host)
    });
    match foreign {
        true => Err(Refused::origin()),
        false => Ok(()),
    }
}

fn is_loopback(host: &Authority) -> bool {
    let name = host.host();
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match bare.unwrap_or(name).parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Says at the start that the API answers nobody, if so.
pub(super) fn tell_if_closed(admin: &Admin) {
    let open = admin.server.pipeline().setup().keyring().is_open();
    if open && !admin.addr.ip().to_canonical().is_loopback() {
        admin.server.observer().admin_closed();
    }
}
