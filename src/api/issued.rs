//! Token introspection (RFC 7662) and revocation (RFC 7009), for a client's own tokens.
//!
//! Introspection has no `username`: it means the resource owner (RFC 7662 §2.2), which the client credentials grant
//! does not have.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::Context;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gate::bearer::Bearer;
use crate::gate::client::FormClient;
use crate::locale::Message;

/// A token and the client's credentials.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; `Form` reads it")]
struct TokenHint {
    #[schema(min_length = 1)]
    token: String,
    /// Ignored: the server recognizes its tokens without a hint.
    #[schema(nullable = false)]
    token_type_hint: Option<String>,
    /// The domain's public id. Optional with HTTP Basic.
    #[schema(nullable = false)]
    client_id: Option<String>,
    /// The client secret. Not allowed with HTTP Basic.
    #[schema(nullable = false, format = Password)]
    client_secret: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, if the client authenticates by an assertion (RFC 7523).
    #[schema(nullable = false)]
    client_assertion_type: Option<String>,
    /// A JWT that the client signed.
    #[schema(nullable = false)]
    client_assertion: Option<String>,
}

/// The state of a token (RFC 7662 §2.2). A token that is not active has `active` only.
#[derive(Serialize, ToSchema)]
struct Introspection<'a> {
    active: bool,
    #[schema(required = false)]
    scope: &'a str,
    #[schema(required = false)]
    client_id: &'a str,
    #[schema(required = false)]
    token_type: &'a str,
    /// Unix seconds.
    #[schema(required = false)]
    exp: i64,
    /// Unix seconds.
    #[schema(required = false)]
    iat: i64,
    #[schema(required = false)]
    sub: &'a str,
    #[schema(required = false)]
    aud: Vec<&'a str>,
    #[schema(required = false)]
    iss: &'a str,
    #[schema(required = false)]
    jti: &'a str,
    /// The domain's host.
    #[schema(required = false)]
    host: &'a str,
    /// Whether control of the host was verified when the token was issued.
    #[schema(required = false)]
    host_verified: bool,
}

/// Introspect a token of the calling client (RFC 7662).
#[utoipa::path(
    post, path = "", tag = "token",
    operation_id = "introspectToken",
    request_body(content = TokenHint, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The state of the token", body = Introspection)),
)]
pub(crate) async fn introspect(client: FormClient, app: web::Data<App>) -> Result<HttpResponse> {
    let token = active_token(&client, &app, app.now())?.filter(|token| is_own(&client, token));
    let Some(token) = token else {
        return Ok(HttpResponse::Ok().json(json!({"active": false})));
    };
    let claims = token.claims();
    Ok(HttpResponse::Ok().json(Introspection {
        active: true,
        scope: &claims.scope,
        client_id: &claims.sub,
        token_type: "Bearer",
        exp: claims.exp,
        iat: claims.iat,
        sub: &claims.sub,
        aud: claims.aud.iter().map(AsRef::as_ref).collect(),
        iss: &claims.iss,
        jti: &claims.jti,
        host: claims.host.as_deref().unwrap_or_default(),
        host_verified: claims.host_verified.unwrap_or_default(),
    }))
}

/// Revoke a token of the calling client (RFC 7009).
///
/// This node refuses the token once it has answered, and other nodes within two seconds. An inactive token is answered
/// with 200, and the message says that nothing was revoked. An active token of another client is refused (RFC 7009
/// §2.1). Revocation does not count against the plan's limit and has its own share of the database, so that a thief
/// with a stolen token cannot prevent it.
#[utoipa::path(
    post, path = "", tag = "token",
    operation_id = "revokeToken",
    request_body(content = TokenHint, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token is revoked, or it was not active", body = super::Done),
        (status = 400, description = "Malformed input, or an active token of another client", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn revoke(client: FormClient, context: Context) -> Result<HttpResponse> {
    let app = &context.app;
    // If the clock is ahead, a token that seems expired may still be valid.
    let Some(token) = active_token(&client, app, app.trusted_now())? else {
        return Ok(context.done(Message::NothingRevoked));
    };
    if !is_own(&client, &token) {
        app.refused(client.id(), &Error::OtherClient);
        return Err(Error::OtherClient);
    }
    let (id, expires_at) = token.revocable();
    app.revoke(client.revoker(), id, expires_at).await?;
    client.record_revocation(expires_at);
    Ok(context.done(Message::Revoked))
}

/// The form's token, if it is active at `now`.
fn active_token(client: &FormClient, app: &App, now: i64) -> Result<Option<Bearer>> {
    let token = client.form.get("token").ok_or_else(|| Error::field("token", Message::Required))?;
    Ok(Bearer::judge(app, token, now).ok())
}

fn is_own(client: &FormClient, token: &Bearer) -> bool {
    token.domain().is_some_and(|domain| domain.id == client.id())
}
