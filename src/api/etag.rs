//! Entity tags: a client can make a change conditional on the version that it read, with `If-Match` (RFC 9110 §13.1.1),
//! so that concurrent changes are not lost.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, ETAG, EntityTag, Header, IF_MATCH, TryIntoHeaderValue};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Context;
use crate::error::{Error, Result};
use crate::locale::Message;

/// The entity tag of a representation: the first 128 bits of the SHA-256 of its JSON.
fn tag(view: &impl Serialize) -> EntityTag {
    let json = serde_json::to_vec(view).expect("a view is plain data");
    EntityTag::new_strong(HEXLOWER.encode(&digest(&SHA256, &json).as_ref()[..16]))
}

impl Context {
    /// A response with one object and its `ETag`.
    pub(super) fn with_etag(
        &self,
        status: StatusCode,
        message: Message,
        view: impl Serialize + ToSchema,
    ) -> HttpResponse {
        let tag = tag(&view).try_into_value().expect("hexadecimal in quotes is a header value");
        let mut answer = self.answer(status, message, view);
        answer.headers_mut().insert(ETAG, tag);
        answer
    }
}

/// The precondition `If-Match`.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct IfMatch {
    /// `ETag` values, or `*` for any version. The current version must have one of the values.
    #[param(rename = "If-Match", value_type = Option<String>, nullable = false)]
    tags: Option<header::IfMatch>,
}

impl IfMatch {
    /// # Errors
    /// [`Error::PreconditionFailed`] if no tag matches.
    pub(super) fn check(&self, view: &impl Serialize) -> Result<()> {
        let is_match = match &self.tags {
            None | Some(header::IfMatch::Any) => true,
            Some(header::IfMatch::Items(known)) => {
                let now = tag(view);
                known.iter().any(|known| known.strong_eq(&now))
            }
        };
        if is_match { Ok(()) } else { Err(Error::PreconditionFailed) }
    }
}

impl FromRequest for IfMatch {
    type Error = Error;
    type Future = Ready<Result<IfMatch>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        // A header that is not text has no tag that can match.
        let parse = || header::IfMatch::parse(req).unwrap_or(header::IfMatch::Items(Vec::new()));
        let tags = req.headers().contains_key(IF_MATCH).then(parse);
        ready(Ok(IfMatch { tags }))
    }
}
