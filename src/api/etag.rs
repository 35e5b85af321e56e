//! Entity tags: a client can make a change conditional on the version that it read, with `If-Match` (RFC 9110 §13.1.1),
//! so that concurrent changes are not lost.

use std::fmt::Write;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, IF_MATCH};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::answer;
use crate::error::{Error, Result};
use crate::locale::{Locale, Message};

/// The entity tag of a representation: the first 128 bits of the SHA-256 of its JSON.
fn tag(view: &impl Serialize) -> String {
    let json = serde_json::to_vec(view).expect("a view is plain data");
    let mut tag = String::from('"');
    for byte in &digest(&SHA256, &json).as_ref()[..16] {
        write!(tag, "{byte:02x}").expect("a String takes everything");
    }
    tag + "\""
}

/// A response with one object and its `ETag`.
pub(super) fn with_etag(
    status: StatusCode,
    message: Message,
    locale: Locale,
    view: impl Serialize + ToSchema,
) -> HttpResponse {
    let tag = tag(&view);
    let mut answer = answer(status, message, locale, view);
    answer.headers_mut().insert(ETAG, tag.try_into().expect("hexadecimal in quotes is a header value"));
    answer
}

/// The precondition `If-Match`.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(crate) struct IfMatch {
    /// `ETag` values, or `*` for any version. The current version must have one of the values.
    #[param(rename = "If-Match", value_type = Option<String>, nullable = false)]
    tags: Option<Vec<String>>,
}

impl IfMatch {
    pub(super) fn is_present(&self) -> bool {
        self.tags.is_some()
    }

    /// # Errors
    /// [`Error::PreconditionFailed`] if no tag matches.
    pub(super) fn check(&self, view: &impl Serialize) -> Result<()> {
        let Some(known) = &self.tags else { return Ok(()) };
        let now = tag(view);
        if known.iter().any(|known| known == "*" || *known == now) { Ok(()) } else { Err(Error::PreconditionFailed) }
    }
}

impl FromRequest for IfMatch {
    type Error = Error;
    type Future = Ready<Result<IfMatch>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let headers = req.headers().get_all(IF_MATCH).map(|value| value.to_str().unwrap_or_default());
        let tags = |value: &str| value.split(',').map(|tag| tag.trim().to_owned()).collect::<Vec<_>>();
        let tags = headers.map(tags).reduce(|all, more| [all, more].concat());
        ready(Ok(IfMatch { tags }))
    }
}
