//! A domain's plan: one request is taken from its limit, and the answer tells what is left in `RateLimit` and
//! `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11). Nothing is done where the plan has no limit.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};

use crate::app::App;
use crate::directory::Domain;
use crate::error::{Error, Result};
use crate::plan::Left;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What a request found, kept with it for the answer.
struct Quota {
    policy: HeaderValue,
    left: Left,
}

/// Takes one request from the domain's limit.
pub(super) fn spend(req: &HttpRequest, app: &App, domain: &Domain) -> Result<()> {
    let Some(rule) = app.config.limits.of(domain.plan) else {
        return Ok(());
    };
    let now = app.steady_now();
    let spent = domain.meter.spend(rule.limit, now);
    let left = *spent.as_ref().unwrap_or(&domain.meter.left(rule.limit, now));
    req.extensions_mut().insert(Quota { policy: rule.policy.clone(), left });
    spent.map(drop).map_err(|wait| Error::PlanLimit { wait, last_token: None })
}

/// Says on an answer what is left, if a limit was met.
pub(super) fn tell(response: &mut ServiceResponse<BoxBody>) {
    let Some(Quota { policy, left }) = response.request().extensions_mut().remove() else {
        return;
    };
    let state = format!("\"plan\";r={};t={}", left.requests, left.full_in.as_secs_f64().ceil());
    let headers = response.headers_mut();
    headers.insert(RATE_LIMIT_POLICY, policy);
    headers.insert(RATE_LIMIT, HeaderValue::try_from(state).expect("digits and ASCII"));
}
