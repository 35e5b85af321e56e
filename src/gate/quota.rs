//! The limit of a domain's plan, and the headers `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers-11). A plan without a limit has no headers.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};

use super::routes::Limit;
use crate::app::App;
use crate::directory::Domain;
use crate::error::{Error, Result};
use crate::plan::Left;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The state of the limit after a request, stored in the request's extensions for its response.
struct Quota {
    policy: HeaderValue,
    left: Left,
}

/// Takes one request from the limit of the domain's plan, if the route counts to it.
pub(super) fn spend(req: &HttpRequest, app: &App, domain: &Domain) -> Result<()> {
    let Some(rule) = app.config.plans.of(domain.plan).rule.as_ref().filter(|_| Limit::of(req) != Limit::None) else {
        return Ok(());
    };
    let now = app.steady_now();
    let spent = domain.meter.spend(rule.limit, now);
    let left = *spent.as_ref().unwrap_or(&domain.meter.left(rule.limit, now));
    req.extensions_mut().insert(Quota { policy: rule.policy.clone(), left });
    spent.map(drop).map_err(|wait| Error::PlanLimit { wait, last_token: None })
}

/// Adds the headers to a response if the request was counted.
pub(super) fn add_headers(response: &mut ServiceResponse<BoxBody>) {
    let Some(Quota { policy, left }) = response.request().extensions_mut().remove() else {
        return;
    };
    let state = format!("\"plan\";r={};t={}", left.requests, left.full_in.as_secs_f64().ceil());
    let headers = response.headers_mut();
    headers.insert(RATE_LIMIT_POLICY, policy);
    headers.insert(RATE_LIMIT, HeaderValue::try_from(state).expect("digits and ASCII"));
}
