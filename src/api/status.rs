//! Whether the process is up and may take traffic, and what answers where no route is.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{answer, done};
use crate::actions::not_found;
use crate::app::App;
use crate::error::Result;
use crate::locale::{Locale, Message};

/// The checks behind readiness.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    /// The process is about to end.
    draining: bool,
    /// `up`; `away`: tokens are still issued and verified from memory, but nothing can be written; `lost`: the file was moved
    /// or replaced; `older`: the database is older than what this server has seen of it, and the server is about to end.
    database: &'static str,
    /// Seconds since the directory was known to be up to date.
    directory_age_seconds: u64,
    /// Domains in the directory.
    domains: usize,
}

/// A directory older than this means that the database is away.
const STALE: u64 = 5;

/// Tell whether the process is up.
#[utoipa::path(
    tag = "operations",
    operation_id = "healthz",
    responses((status = 200, description = "It is", body = super::Done)),
    security(())
)]
#[get("/healthz")]
pub(crate) async fn healthz(locale: Locale) -> HttpResponse {
    done(Message::Ok, locale)
}

/// Tell whether the process may take traffic. It may without its database: what is known is served from memory.
#[utoipa::path(
    tag = "operations",
    operation_id = "readyz",
    responses(
        (status = 200, description = "It may", body = super::Answer<Readiness>),
        (status = 503, description = "It is about to end, or has lost its database", body = super::Answer<Readiness>),
    ),
    security(())
)]
#[get("/readyz")]
pub(crate) async fn readyz(app: web::Data<App>, locale: Locale) -> HttpResponse {
    let age = app.directory.age().as_secs();
    let checks = Readiness {
        draining: app.is_draining(),
        database: match age {
            _ if app.directory.is_outdated() => "older",
            _ if !app.db.was_intact() => "lost",
            0..STALE => "up",
            _ => "away",
        },
        directory_age_seconds: age,
        domains: app.directory.domain_count(),
    };
    match checks.draining || matches!(checks.database, "older" | "lost") {
        false => answer(StatusCode::OK, Message::Ok, locale, checks),
        true => {
            let mut answer = answer(StatusCode::SERVICE_UNAVAILABLE, Message::Busy, locale, checks);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
    }
}

/// Answers where no route is.
pub(crate) async fn unmatched() -> Result<HttpResponse> {
    Err(not_found())
}
