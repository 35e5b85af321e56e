//! [`OwnDomain`] as a handler's parameter.

use actix_web::{FromRequest, HttpRequest, web};
use serde::Deserialize;

use super::bearer::UserToken;
use crate::actions::{OwnDomain, not_found};
use crate::error::Result;
use crate::id::DomainId;

/// The part of the path that names the domain.
#[derive(Deserialize)]
struct Named {
    id: String,
}

fn own_domain(req: &HttpRequest) -> Result<OwnDomain> {
    let token = UserToken::of(req)?;
    let named = web::Path::<Named>::extract(req).into_inner();
    let id = named.ok().and_then(|named| DomainId::parse(&named.id));
    Ok(OwnDomain { caller: token.caller(), id: id.ok_or_else(not_found)? })
}

extract!(OwnDomain, own_domain);
