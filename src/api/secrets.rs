//! Client secrets of a domain: rotate, list and retire.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Context;
use crate::actions::{OwnDomain, not_found, secrets};
use crate::db::Conn;
use crate::db::domain::DomainRow;
use crate::db::secret::{self, SecretDetails, SecretUse};
use crate::error::Result;
use crate::gate::body::Json;
use crate::id::{DomainId, SecretId};
use crate::locale::Message;
use crate::token::present;
use crate::usage::DAY;

/// Seconds for which earlier secrets work after a rotation, unless the owner says otherwise.
const DEFAULT_GRACE: i64 = DAY;

/// Options of a rotation.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rotation {
    /// Seconds for which the old secrets still work, up to 30 days. Defaults to a day. With 0 they stop working at
    /// once, and every token of the domain is revoked.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, minimum = 0, maximum = 2_592_000, default = 86_400)]
    grace_seconds: Option<i64>,
}

/// A client secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SecretView {
    id: i64,
    /// The last four characters of the secret.
    hint: String,
    /// Unix seconds.
    created_at: i64,
    /// The owner's public id, or `operator`. `null` if it is not known.
    #[schema(required)]
    created_by: Option<String>,
    /// The network address from which the secret was created. `null` if the operator created it.
    #[schema(required)]
    created_from: Option<String>,
    /// When the secret stops working, in Unix seconds. `null` if it does not expire.
    #[schema(required)]
    expires_at: Option<i64>,
    /// Unix seconds, updated with a delay of some seconds. `null` if the secret was never used.
    #[schema(required)]
    last_used_at: Option<i64>,
    /// The network address of the last use.
    #[schema(required)]
    last_used_from: Option<String>,
    /// Whether a browser sent the secret, where anyone can read it. Rotate it, and request tokens from your server.
    leaked_to_browser: bool,
    /// Shown in this response only. Store it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_secret: Option<String>,
}

impl SecretView {
    fn of(shown: SecretDetails, used: Option<SecretUse>) -> SecretView {
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

/// Create a new client secret. It is shown in this response only.
///
/// The old secrets keep working for `graceSeconds`, so that your servers can be updated one by one. After a leak, use
/// 0: the old secrets stop working at once, and the domain's tokens are revoked.
#[utoipa::path(
    post, path = "", tag = "domains",
    operation_id = "rotateSecret",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    request_body = Rotation,
    responses(
        (status = 201, description = "The new secret", body = super::Answer<SecretView>),
        (status = 403, description = "The domain has too many valid secrets", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn rotate(own: OwnDomain, body: Json<Rotation>, context: Context) -> Result<HttpResponse> {
    let grace = body.0.grace_seconds.unwrap_or(DEFAULT_GRACE);
    let (shown, secret) = secrets::rotate(&context.app, own, grace).await?;
    let message = if grace == 0 { Message::SecretRotatedAtOnce } else { Message::SecretRotated };
    let client_secret = Some(secret.reveal().to_owned());
    Ok(context.answer(StatusCode::CREATED, message, SecretView { client_secret, ..SecretView::of(shown, None) }))
}

/// List the client secrets of a domain. Only the last four characters of each are shown.
#[utoipa::path(
    get, path = "", tag = "domains",
    operation_id = "listSecrets",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    responses((status = 200, description = "The newest first", body = super::List<SecretView>)),
)]
pub(crate) async fn list(own: OwnDomain, context: Context) -> Result<HttpResponse> {
    let list = |conn: &mut Conn, domain: DomainRow| Ok(secret::list(conn, domain.user_id, domain.id)?);
    let secrets = own.read(&context.app, list).await?;
    Ok(context.list(secrets.into_iter().map(|(shown, used)| SecretView::of(shown, used))))
}

/// Retire one client secret at once. Every token of the domain is revoked.
#[utoipa::path(
    delete, path = "", tag = "domains",
    operation_id = "retireSecret",
    params(
        ("id" = inline(DomainId), Path, description = "The domain's public id"),
        ("secretId" = inline(SecretId), Path, description = "The secret's number"),
    ),
    responses((status = 200, description = "Retired", body = super::Done)),
)]
pub(crate) async fn retire(
    own: OwnDomain,
    path: web::Path<(String, String)>,
    context: Context,
) -> Result<HttpResponse> {
    let secret_id = SecretId::parse(&path.1).ok_or_else(not_found)?;
    secrets::retire(&context.app, own, secret_id).await?;
    Ok(context.done(Message::SecretRetired))
}
