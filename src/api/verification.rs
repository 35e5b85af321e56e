//! Verification of control of a domain's host by a challenge in DNS or in a file on the host.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use crate::actions::OwnDomain;
use crate::actions::verification::{self, HostChallenge, Verified};
use crate::db::domain::DomainRow;
use crate::error::{Error, Result};
use crate::id::DomainId;
use crate::locale::{Locale, Message};
use crate::verification::Check;

/// The state of a host's verification. To verify the host, publish the record or the file, then `POST` to this URL.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verification {
    /// Whether control of the host is verified.
    host_verified: bool,
    /// When control of the host was verified, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    verified_at: Option<i64>,
    /// Since when the challenge is no longer found, in Unix seconds. After 7 days the verification ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failing_since: Option<i64>,
    /// When the challenge expires, in Unix seconds. The challenge of a verified host does not expire and must stay
    /// published.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<i64>,
    /// The DNS record to publish. Absent if the challenge has expired: a `POST` creates a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    dns: Option<TxtRecord>,
    /// The file to publish on the host, instead of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    file: Option<ChallengeFile>,
    /// The checks of this attempt, in their order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tried: Option<Vec<Tried>>,
}

/// A DNS record.
#[derive(Serialize, ToSchema)]
struct TxtRecord {
    name: String,
    /// `TXT`.
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
}

/// A file on the host.
#[derive(Serialize, ToSchema)]
struct ChallengeFile {
    /// The file must be at one of these URLs.
    urls: Vec<String>,
    /// The whole content. Trailing white space is ignored.
    content: String,
}

/// The result of one check.
#[derive(Serialize, ToSchema)]
struct Tried {
    /// `dns` or `file`.
    method: &'static str,
    /// The name of the record, or the URL of the file.
    at: String,
    /// A stable word for programs, such as `match`, `noRecord` or `unreachable`.
    found: &'static str,
    /// Text for people, in the language of `Accept-Language`.
    message: &'static str,
}

impl Verification {
    /// The view of a domain without a challenge.
    fn nothing_wanted(domain: &DomainRow) -> Verification {
        Verification {
            host_verified: domain.verified_at.is_some(),
            verified_at: domain.verified_at,
            failing_since: None,
            expires_at: None,
            dns: None,
            file: None,
            tried: None,
        }
    }

    /// The view of a domain with this challenge.
    pub(super) fn wanted(domain: &DomainRow, wanted: &HostChallenge) -> Verification {
        let HostChallenge { challenge, expires_at, failing_since } = wanted;
        let value = challenge.value();
        Verification {
            failing_since: *failing_since,
            expires_at: *expires_at,
            dns: Some(TxtRecord { name: challenge.record_name(), kind: "TXT", value: value.clone() }),
            file: Some(ChallengeFile { urls: challenge.urls().into(), content: value }),
            ..Verification::nothing_wanted(domain)
        }
    }
}

fn tried(checks: &[Check], locale: Locale) -> Option<Vec<Tried>> {
    let tried = |check: &Check| {
        let (found, message) = check.outcome.name_and_message();
        Tried { method: check.method.as_str(), at: check.at.clone(), found, message: message.text(locale) }
    };
    Some(checks.iter().map(tried).collect())
}

/// Show how to verify control of the host.
#[utoipa::path(
    get, path = "", tag = "domains",
    operation_id = "showVerification",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    responses((status = 200, description = "What to publish", body = super::Answer<Verification>)),
)]
pub(crate) async fn show(own: OwnDomain, context: Context) -> Result<HttpResponse> {
    let (domain, wanted) = verification::state(&context.app, own).await?;
    let view = match wanted {
        Some(wanted) => Verification::wanted(&domain, &wanted),
        None => Verification::nothing_wanted(&domain),
    };
    Ok(context.answer(StatusCode::OK, Message::Ok, view))
}

/// Verify control of the host now.
///
/// The server checks the TXT record, then the file. A verified domain supersedes unverified registrations of the same
/// host. If another user verified the host before, that user's challenge is checked again: the host is taken over if it
/// is missing or if the user or the domain is suspended. At most 5 attempts a minute.
#[utoipa::path(
    post, path = "", tag = "domains",
    operation_id = "verifyDomain",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    responses(
        (status = 200, description = "Verified", body = super::Answer<Verification>),
        (status = 409, description = "The challenge was not found, with the checks in `payload`; or, with the reason `taken`, another user verified the host", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn prove(own: OwnDomain, context: Context) -> Result<HttpResponse> {
    let Verified { domain, wanted, checks, is_verified } = verification::verify(&context.app, own).await?;
    let view = Verification { tried: tried(&checks, context.locale), ..Verification::wanted(&domain, &wanted) };
    if !is_verified {
        return Err(Error::VerificationFailed(Box::new(json!(view))));
    }
    Ok(context.answer(StatusCode::OK, Message::HostVerified, view))
}
