//! [`OwnDomain`] as a handler's parameter.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use serde::Deserialize;

use super::bearer::UserToken;
use crate::actions::{OwnDomain, not_found};
use crate::error::{Error, Result};
use crate::id::DomainId;

/// The part of the path that names the domain.
#[derive(Deserialize)]
struct Named {
    id: String,
}

impl FromRequest for OwnDomain {
    type Error = Error;
    type Future = Ready<Result<OwnDomain>>;

    fn from_request(req: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let token = UserToken::from_request(req, payload).into_inner();
        let named = web::Path::<Named>::from_request(req, payload).into_inner();
        let id = named.ok().and_then(|named| DomainId::parse(&named.id));
        ready(token.and_then(|token| Ok(OwnDomain { caller: token.caller(), id: id.ok_or_else(not_found)? })))
    }
}
