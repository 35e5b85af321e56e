//! The client secrets of a domain: rotated at once or with an overlap, listed, retired one by one.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{answer, done};
use crate::actions::{OwnDomain, not_found, secrets};
use crate::app::App;
use crate::db::Conn;
use crate::db::domain::Domain;
use crate::db::secret::{self, Shown, Used};
use crate::error::Result;
use crate::gate::body::Json;
use crate::id::{DomainId, SecretId};
use crate::locale::{Locale, Message};
use crate::token::present;

/// Seconds for which earlier secrets work after a rotation, unless the owner says otherwise.
const DEFAULT_GRACE: i64 = 86_400;

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
    let grace = body.0.grace_seconds.unwrap_or(DEFAULT_GRACE);
    let (shown, secret) = secrets::rotate(&app, own, grace).await?;
    let message = if grace == 0 { Message::SecretRotatedAtOnce } else { Message::SecretRotated };
    let client_secret = Some(secret.reveal().to_owned());
    Ok(answer(StatusCode::CREATED, message, locale, SecretView { client_secret, ..SecretView::of(shown, None) }))
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
    secrets::retire(&app, own, secret_id).await?;
    Ok(done(Message::SecretRetired, locale))
}
