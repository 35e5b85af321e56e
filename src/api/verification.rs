//! Proving control of a domain's host: what to publish, and the try.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, web};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::answer;
use crate::actions::OwnDomain;
use crate::actions::verification::{self, Verified, Wanted};
use crate::app::App;
use crate::db::domain::Domain;
use crate::error::{Error, Result};
use crate::id::DomainId;
use crate::locale::{Locale, Message};
use crate::proof::Look;

/// The proof of control of a host: publish the record or the file, then `POST` to this URL.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Verification {
    proven: bool,
    /// Unix seconds since when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    proven_at: Option<i64>,
    /// Unix seconds since when the proof has not been found any more; after 7 days it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    failing_since: Option<i64>,
    /// Unix seconds until which the challenge is good; what proved a host has to stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<i64>,
    /// The record to publish in DNS; absent when the challenge ran out, and a `POST` makes a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    dns: Option<TxtRecord>,
    /// Or the file to publish on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    file: Option<ChallengeFile>,
    /// What a try found, in the order of looking.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tried: Option<Vec<Tried>>,
}

/// A record in DNS.
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
    /// Either is enough.
    urls: Vec<String>,
    /// The whole content; white space at its end does no harm.
    content: String,
}

/// One look.
#[derive(Serialize, ToSchema)]
struct Tried {
    /// `dns` or `file`.
    method: &'static str,
    /// The name of the record, or the URL of the file.
    at: String,
    /// A stable word, such as `match`, `noRecord` or `unreachable`.
    found: &'static str,
    /// The same for people.
    message: &'static str,
}

impl Verification {
    /// For a domain without a challenge.
    fn nothing_wanted(domain: &Domain) -> Verification {
        Verification {
            proven: domain.proven_at.is_some(),
            proven_at: domain.proven_at,
            failing_since: None,
            expires_at: None,
            dns: None,
            file: None,
            tried: None,
        }
    }

    /// For a domain with that challenge.
    pub(super) fn wanted(domain: &Domain, wanted: &Wanted) -> Verification {
        let Wanted { challenge, expires_at, failing_since } = wanted;
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

fn tried(looks: &[Look], locale: Locale) -> Option<Vec<Tried>> {
    let tried = |look: &Look| {
        let (found, message) = look.found.told();
        Tried { method: look.method.as_str(), at: look.at.clone(), found, message: message.text(locale) }
    };
    Some(looks.iter().map(tried).collect())
}

/// Show what proves control of the host.
#[utoipa::path(
    tag = "domains",
    operation_id = "showVerification",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    responses((status = 200, description = "What to publish", body = super::Answer<Verification>)),
    security(("userToken" = []))
)]
#[get("/domains/{id}/verification")]
pub(crate) async fn show(own: OwnDomain, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    let (domain, wanted) = verification::state(&app, own).await?;
    let view = match wanted {
        Some(wanted) => Verification::wanted(&domain, &wanted),
        None => Verification::nothing_wanted(&domain),
    };
    Ok(answer(StatusCode::OK, Message::Ok, locale, view))
}

/// Prove control of the host now.
///
/// Looks for the TXT record, then for the file. Proving takes the host over from registrations that are not proven. Where
/// another user's registration is, its proof is looked at now: if it is missing, or that user or domain is suspended, the host
/// is taken over too. At most 5 tries a minute.
#[utoipa::path(
    tag = "domains",
    operation_id = "verifyDomain",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    responses(
        (status = 200, description = "Proven", body = super::Answer<Verification>),
        (status = 409, description = "Not found, with what was looked for and what was found in `payload`; or, with the reason `taken`, somebody else has proven the host", body = crate::error::ErrorBody),
    ),
    security(("userToken" = []))
)]
#[post("/domains/{id}/verification")]
pub(crate) async fn prove(own: OwnDomain, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    let Verified { domain, wanted, looks, is_verified } = verification::verify(&app, own).await?;
    let view = Verification { tried: tried(&looks, locale), ..Verification::wanted(&domain, &wanted) };
    if !is_verified {
        return Err(Error::NotProven(Box::new(json!(view))));
    }
    Ok(answer(StatusCode::OK, Message::HostProven, locale, view))
}
