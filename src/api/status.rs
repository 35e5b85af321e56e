//! Liveness, readiness, and the response for an unknown path.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use serde::Serialize;
use utoipa::ToSchema;

use super::Context;
use crate::actions::not_found;
use crate::error::Result;
use crate::locale::Message;

/// The checks behind readiness.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    /// Whether the process is shutting down.
    draining: bool,
    /// `up`; `away`: tokens are still issued and verified from memory, but writes fail; `lost`: the database file was moved or
    /// replaced; `older`: the database lost changes that this server has already read, and the server is about to exit.
    database: &'static str,
    /// Seconds since the directory was last up to date.
    directory_age_seconds: u64,
    /// The number of domains in the directory.
    domains: usize,
}

/// Age of the directory in seconds from which the database counts as away.
const STALE_AGE: u64 = 5;

/// Check whether the process is up.
#[utoipa::path(
    get, path = "", tag = "operations",
    operation_id = "healthz",
    responses((status = 200, description = "The process is up", body = super::Done)),
)]
pub(crate) async fn healthz(context: Context) -> HttpResponse {
    context.done(Message::Ok)
}

/// Check whether the process can take traffic. An unreachable database does not matter: tokens are served from memory.
#[utoipa::path(
    get, path = "", tag = "operations",
    operation_id = "readyz",
    responses(
        (status = 200, description = "The process can take traffic", body = super::Answer<Readiness>),
        (status = 503, description = "The process is shutting down, or has lost its database", body = super::Answer<Readiness>),
    ),
)]
pub(crate) async fn readyz(context: Context) -> HttpResponse {
    let app = &context.app;
    let age = app.directory.age().as_secs();
    let checks = Readiness {
        draining: app.is_draining(),
        database: match age {
            _ if app.directory.is_stale() => "older",
            _ if !app.db.was_intact() => "lost",
            0..STALE_AGE => "up",
            _ => "away",
        },
        directory_age_seconds: age,
        domains: app.directory.domain_count(),
    };
    if checks.draining || matches!(checks.database, "older" | "lost") {
        let mut answer = context.answer(StatusCode::SERVICE_UNAVAILABLE, Message::Busy, checks);
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        answer
    } else {
        context.answer(StatusCode::OK, Message::Ok, checks)
    }
}

/// The response for an unknown path.
pub(crate) async fn unmatched() -> Result<HttpResponse> {
    Err(not_found())
}
