//! The client secrets of a domain: rotated at once or with an overlap, listed, retired one by one.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::own::OwnDomain;
use super::{answer, done, not_found};
use crate::app::App;
use crate::db::Conn;
use crate::db::audit::{Actor, Audited, Entry};
use crate::db::domain::{self, Domain};
use crate::db::secret::{self, Shown, Used};
use crate::error::{Error, Result};
use crate::gate::body::Json;
use crate::id::{DomainId, SecretId, UserId};
use crate::locale::{Locale, Message};
use crate::secret::ClientSecret;
use crate::token::present;

/// Seconds that the old secrets still work unless the owner says otherwise: a day.
const GRACE: i64 = 86_400;
/// The most that the owner can say: 30 days.
const LONGEST_GRACE: i64 = 30 * 86_400;
/// Seconds of grace that are over soon.
const SOON: i64 = 60;
/// So many secrets of one domain work at once, at most.
const MOST: i64 = 200;

/// How to rotate.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rotation {
    /// Seconds that the old secrets still work, up to 30 days; a day if absent. With 0 they stop at once, and every token
    /// of the domain ends.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, minimum = 0, maximum = 2_592_000, default = 86_400)]
    grace_seconds: Option<i64>,
}

/// A secret as its owner sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SecretView {
    /// Its number.
    id: i64,
    /// Its last four characters.
    hint: String,
    /// Unix seconds.
    created_at: i64,
    /// Who made it: the owner's public id, or `operator`; `null` of a secret from before this was noted.
    #[schema(required)]
    created_by: Option<String>,
    /// The network address from which it was made; `null` where the operator made it.
    #[schema(required)]
    created_from: Option<String>,
    /// Unix seconds from which it no longer works; `null` is never.
    #[schema(required)]
    expires_at: Option<i64>,
    /// Unix seconds, some seconds late; `null` is never.
    #[schema(required)]
    last_used_at: Option<i64>,
    /// The network address of that use.
    #[schema(required)]
    last_used_from: Option<String>,
    /// It came from a browser, where anybody can read it: rotate it, and call from your server.
    leaked_to_browser: bool,
    /// Shown in this answer only: keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_secret: Option<String>,
}

impl SecretView {
    fn of(shown: Shown, used: Option<Used>) -> SecretView {
        SecretView {
            id: shown.id.get(),
            hint: shown.hint,
            created_at: shown.created_at,
            created_by: shown.created_by,
            created_from: shown.created_from,
            expires_at: shown.expires_at,
            last_used_at: used.as_ref().map(|used| used.used_at),
            leaked_to_browser: used.as_ref().is_some_and(|used| used.leaked_at.is_some()),
            last_used_from: used.and_then(|used| used.used_from),
            client_secret: None,
        }
    }
}

/// Make a new client secret. It is shown in this answer and never again.
///
/// The old ones go on for `graceSeconds`, so that servers can be changed one after the other. With 0, as after a leak, they
/// stop at once, and the tokens that they got are revoked.
#[utoipa::path(
    tag = "domains",
    operation_id = "rotateSecret",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    request_body = Rotation,
    responses(
        (status = 201, description = "The new secret", body = super::Answer<SecretView>),
        (status = 403, description = "Too many secrets work at once", body = crate::error::ErrorBody),
    ),
    security(("userToken" = []))
)]
#[post("/domains/{id}/secrets")]
pub(crate) async fn rotate(
    own: OwnDomain,
    body: Json<Rotation>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let grace = body.0.grace_seconds.unwrap_or(GRACE);
    if !(0..=LONGEST_GRACE).contains(&grace) {
        return Err(Error::field("graceSeconds", Message::GraceSeconds));
    }
    let (actor, now) = (own.actor(), app.now());
    let rotate = move |conn: &mut Conn, domain: Domain| rotated(conn, actor, &domain, grace, now);
    let ((shown, secret), message) = match grace {
        0 => (own.change(&app, rotate).await?, Message::SecretRotatedAtOnce),
        // The old ones may be over before this node reads the database again: nobody may be told so before it has.
        1..SOON => (own.change(&app, rotate).await?, Message::SecretRotated),
        _ => (own.add(&app, rotate).await?, Message::SecretRotated),
    };
    let client_secret = Some(secret.reveal().to_owned());
    Ok(answer(StatusCode::CREATED, message, locale, SecretView { client_secret, ..SecretView::of(shown, None) }))
}

/// Rotates the secrets of a domain, whoever demands it.
///
/// # Errors
/// When it proves itself by keys, or has too many secrets.
pub(crate) fn rotated(
    conn: &mut Conn,
    actor: Actor,
    domain: &Domain,
    grace: i64,
    now: i64,
) -> Result<Audited<(Shown, ClientSecret)>> {
    let id = domain.id;
    if domain.jwks.is_some() {
        return Err(Error::field("id", Message::HasKeys));
    }
    if grace > 0 && secret::count_live(conn, id, now)? >= MOST {
        return Err(Error::Quota(Message::TooManySecrets));
    }
    let new = ClientSecret::random();
    let shown = secret::rotate(conn, id, &new, grace, actor, now)?;
    let entry = actor.did("secret.rotated", id, Some(domain.user_id), now);
    let entry = entry.with(json!({ "graceSeconds": grace, "secret": shown.id.get() }));
    Ok(Audited::new((shown, new), entry))
}

/// How many secrets one transaction ends.
pub(crate) const ENDED_AT_ONCE: usize = 25;

/// Ends some of the secrets and public keys of all domains of a user that were made or set at that time or later, at most
/// [`ENDED_AT_ONCE`] of them, and returns an entry of the audit log for each.
pub(crate) fn end_some(conn: &mut Conn, actor: Actor, tenant: UserId, since: i64, now: i64) -> Result<Vec<Entry>> {
    let some = secret::made_since(conn, tenant, since, ENDED_AT_ONCE as i64)?;
    for (id, domain) in &some {
        secret::delete(conn, *domain, *id)?;
    }
    let ended = |(id, domain): (SecretId, DomainId)| {
        actor.did("secret.retired", domain, Some(tenant), now).with(json!({ "secret": id.get() }))
    };
    let mut entries: Vec<Entry> = some.into_iter().map(ended).collect();
    for domain in domain::with_keys_since(conn, tenant, since, (ENDED_AT_ONCE - entries.len()) as i64)? {
        domain::remove_keys(conn, domain)?;
        entries.push(actor.did("domain.keys_removed", domain, Some(tenant), now));
    }
    Ok(entries)
}

/// List the client secrets of a domain: by their last four characters, never whole.
#[utoipa::path(
    tag = "domains",
    operation_id = "listSecrets",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    responses((status = 200, description = "The newest first", body = super::List<SecretView>)),
    security(("userToken" = []))
)]
#[get("/domains/{id}/secrets")]
pub(crate) async fn list(own: OwnDomain, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    let list = |conn: &mut Conn, domain: Domain| Ok(secret::list(conn, domain.user_id, domain.id)?);
    let secrets = own.read(&app, list).await?;
    Ok(super::list(secrets.into_iter().map(|(shown, used)| SecretView::of(shown, used)).collect(), None, locale))
}

/// Retire one client secret at once. Every token that the domain has is revoked with it.
#[utoipa::path(
    tag = "domains",
    operation_id = "retireSecret",
    params(
        ("id" = inline(DomainId), Path, description = "The domain's public id"),
        ("secretId" = inline(SecretId), Path, description = "The secret's number"),
    ),
    responses((status = 200, description = "Retired", body = super::Done)),
    security(("userToken" = []))
)]
#[delete("/domains/{id}/secrets/{secretId}")]
pub(crate) async fn retire(
    own: OwnDomain,
    path: web::Path<(String, String)>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let secret_id = SecretId::parse(&path.1).ok_or_else(not_found)?;
    let entry = own.did("secret.retired", app.now()).with(json!({ "secret": secret_id.get() }));
    let retire = move |conn: &mut Conn, domain: Domain| match secret::delete(conn, domain.id, secret_id)? {
        true => Ok(Audited::new((), entry)),
        false => Err(not_found()),
    };
    own.change(&app, retire).await?;
    Ok(done(Message::SecretRetired, locale))
}
