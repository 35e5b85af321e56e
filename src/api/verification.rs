//! Proving control of a domain's host: what to publish, and the try.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, get, post, web};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::own::OwnDomain;
use super::{answer, taken};
use crate::app::App;
use crate::app::proofs::{OUSTED_AT_ONCE, oust_some};
use crate::db::Conn;
use crate::db::audit::{Actor, Audited};
use crate::db::domain::Domain;
use crate::db::proof::{self, Proof};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::id::{DomainId, UserId};
use crate::locale::{Locale, Message};
use crate::proof::{Challenge, Look, Method, proven_by};

/// How long a challenge is good, in seconds.
const GOOD_FOR: i64 = 7 * 86_400;

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

/// What has to be found on a host, and until when.
pub(crate) struct Wanted {
    challenge: Challenge,
    /// Unix seconds; `None` once it proved the host.
    expires_at: Option<i64>,
    failing_since: Option<i64>,
}

impl Wanted {
    /// Shown for that domain.
    pub(crate) fn view(&self, domain: &Domain) -> Verification {
        let Wanted { challenge, expires_at, failing_since } = self;
        let value = challenge.value();
        Verification {
            failing_since: *failing_since,
            expires_at: *expires_at,
            dns: Some(TxtRecord { name: challenge.record_name(), kind: "TXT", value: value.clone() }),
            file: Some(ChallengeFile { urls: challenge.urls().into(), content: value }),
            ..nothing_wanted(domain)
        }
    }
}

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

fn tried(looks: &[Look], locale: Locale) -> Option<Vec<Tried>> {
    let tried = |look: &Look| {
        let (found, message) = look.found.told();
        Tried { method: look.method.as_str(), at: look.at.clone(), found, message: message.text(locale) }
    };
    Some(looks.iter().map(tried).collect())
}

/// What a user has to publish on a host: the challenge that there is at the trusted time, or a new one.
pub(crate) fn challenge(conn: &mut Conn, tenant: UserId, host: &Host, now: i64, trusted: i64) -> Result<Wanted> {
    let new = proof::Challenge { token: Challenge::random_token(), expires_at: now + GOOD_FOR };
    let challenge = proof::challenge_or(conn, tenant, host.as_str(), new, trusted)?;
    Ok(wanted_of(challenge, host.clone()))
}

fn wanted_of(challenge: proof::Challenge, host: Host) -> Wanted {
    let proof::Challenge { token, expires_at } = challenge;
    Wanted { challenge: Challenge { host, token }, expires_at: Some(expires_at), failing_since: None }
}

/// A domain, and what has to be found on its host, if that is known at the trusted time.
fn state(conn: &mut Conn, domain: Domain, trusted: i64) -> Result<(Domain, Option<Wanted>)> {
    let host = Host::from_stored(domain.host.clone());
    let wanted = match proof::find(conn, domain.id)? {
        Some(Proof { token, failing_since, .. }) => {
            Some(Wanted { challenge: Challenge { host, token }, expires_at: None, failing_since })
        }
        None => {
            let known = proof::challenge(conn, domain.user_id, host.as_str(), trusted)?;
            known.map(|challenge| wanted_of(challenge, host))
        }
    };
    Ok((domain, wanted))
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
    let trusted = app.trusted_now();
    let (domain, wanted) = own.read(&app, move |conn, domain| state(conn, domain, trusted)).await?;
    let view = wanted.map_or_else(|| nothing_wanted(&domain), |wanted| wanted.view(&domain));
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
    let (now, trusted) = (app.now(), app.trusted_now());
    let (domain, wanted) = own.read(&app, move |conn, domain| state(conn, domain, trusted)).await?;
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => {
            let make = move |conn: &mut Conn, domain: Domain| {
                Ok(Audited::nothing(challenge(conn, domain.user_id, &Host::from_stored(domain.host), now, trusted)?))
            };
            own.change(&app, make).await?
        }
    };
    let looks = app.look(own.holder(), own.tenant(), wanted.challenge.clone()).await?;
    let Some(method) = proven_by(&looks) else {
        let view = Verification { tried: tried(&looks, locale), ..wanted.view(&domain) };
        return Err(Error::NotProven(Box::new(json!(view))));
    };
    let held = own.read(&app, |conn, domain| Ok(proof::held_by_other(conn, &domain.host, domain.user_id)?)).await?;
    if let Some(held) = held {
        app.challenge(own.holder(), held).await?;
    }
    let (actor, now, found) = (own.actor(), app.now(), wanted.challenge.token.clone());
    let take = move |conn: &mut Conn, domain: Domain| take_over(conn, actor, domain, method, &found, now);
    let (domain, ousted) = own.change(&app, take).await?;
    if ousted == OUSTED_AT_ONCE as usize {
        app.oust_others(own.holder().ends_theft(), &domain.host).await?;
    }
    let wanted = Wanted { expires_at: None, failing_since: None, ..wanted };
    let view = Verification { tried: tried(&looks, locale), ..wanted.view(&domain) };
    Ok(answer(StatusCode::OK, Message::HostProven, locale, view))
}

/// Makes the domain the holder of its host, unless another domain that is not suspended holds the host. Also returns how many
/// other registrations this ended.
fn take_over(
    conn: &mut Conn,
    actor: Actor,
    mut domain: Domain,
    method: Method,
    token: &str,
    now: i64,
) -> Result<Audited<(Domain, usize)>> {
    let (tenant, id) = (domain.user_id, domain.id);
    if domain.proven_at.is_some() {
        proof::set_found(conn, id, method, now)?;
        return Ok(Audited::nothing((domain, 0)));
    }
    if proof::held_by_other(conn, &domain.host, tenant)?.is_some() {
        return Err(Error::Taken { name: "host", problem: Message::HostProvenByOther });
    }
    let suspended = proof::end_suspended(conn, &domain.host)?;
    let inserted = proof::insert(conn, id, method, token, now);
    inserted.map_err(taken("host", Message::HostProvenByOther))?;
    (domain.proven_at, domain.ousted) = (Some(now), false);
    let proven = actor.did("domain.proven", id, Some(tenant), now);
    let mut entries = oust_some(conn, &domain.host, now, OUSTED_AT_ONCE)?;
    let ousted = entries.len();
    let unproven = |(id, owner)| Actor::SERVER.did("domain.unproven", id, Some(owner), now);
    entries.extend(suspended.into_iter().map(unproven));
    entries.insert(0, proven.with(json!({ "host": domain.host, "method": method.as_str() })));
    Ok(Audited::several((domain, ousted), entries))
}
