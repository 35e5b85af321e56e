//! What a client may ask and do about tokens that it was issued: introspection (RFC 7662) and revocation (RFC 7009).
//! Introspection tells it nothing of the tokens of others, and names no user: a resource server could take the name for
//! one of its own users (RFC 7662 §2.2 means the resource owner, whom client credentials do not have).

use actix_web::{HttpRequest, HttpResponse, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::done;
use crate::app::App;
use crate::error::{Error, Result};
use crate::gate::bearer::Bearer;
use crate::gate::client::FormClient;
use crate::locale::{Locale, Message};

/// A token, and what helps to find it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; `Form` reads it")]
struct TokenHint {
    /// The token.
    #[schema(min_length = 1)]
    token: String,
    /// Ignored: every token of ours is found without it.
    #[schema(nullable = false)]
    token_type_hint: Option<String>,
    /// The domain's public id, unless HTTP Basic names it.
    #[schema(nullable = false)]
    client_id: Option<String>,
    /// The secret, unless HTTP Basic has it.
    #[schema(nullable = false, format = Password)]
    client_secret: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, with a signature instead of a secret (RFC 7523).
    #[schema(nullable = false)]
    client_assertion_type: Option<String>,
    /// The signature.
    #[schema(nullable = false)]
    client_assertion: Option<String>,
}

/// What an active token says (RFC 7662 §2.2). Of every other one, whatever the reason, `active` alone is answered.
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
    /// Whether control of that host was verified when the token was issued.
    #[schema(required = false)]
    host_verified: bool,
}

/// A token that is not active.
#[derive(Serialize)]
struct Inactive {
    /// Always false.
    active: bool,
}

/// Tell whether a token of the calling client is live, and what it says (RFC 7662).
#[utoipa::path(
    tag = "token",
    operation_id = "introspectToken",
    request_body(content = TokenHint, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "What the token says, or that it is not active", body = Introspection)),
    security(("client" = []), ())
)]
#[post("/introspect")]
pub(crate) async fn introspect(client: FormClient, req: HttpRequest, app: web::Data<App>) -> Result<HttpResponse> {
    client.spend(&req, &app)?;
    let token = live(&client, &app, app.now())?.filter(|token| is_own(&client, token));
    let Some(token) = token else {
        return Ok(HttpResponse::Ok().json(Inactive { active: false }));
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

/// Revoke a token of the calling client (RFC 7009). It is refused from the answer on here, and within two seconds on other
/// nodes.
///
/// What is no live token ends nothing, and the answer says so; a live token of anybody else is refused (RFC 7009 §2.1).
/// Revoking costs nothing of the plan's limit, and has a share of the database of its own: a thief with a stolen token
/// cannot use up what ends the theft.
#[utoipa::path(
    tag = "token",
    operation_id = "revokeToken",
    request_body(content = TokenHint, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token is revoked, or it was none", body = super::Done),
        (status = 400, description = "Malformed input, or the live token of somebody else", body = crate::error::ErrorBody),
    ),
    security(("client" = []), ())
)]
#[post("/revoke")]
pub(crate) async fn revoke(client: FormClient, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    // While the clock is ahead, a token only seems to have expired.
    let Some(token) = live(&client, &app, app.trusted_now())? else {
        return Ok(done(Message::NothingRevoked, locale));
    };
    if !is_own(&client, &token) {
        app.refused(client.id(), &Error::OtherClient);
        return Err(Error::OtherClient);
    }
    let (id, expires_at) = token.revocable();
    app.revoke(client.revoker(), id, expires_at).await?;
    client.has_revoked(expires_at);
    Ok(done(Message::Revoked, locale))
}

/// The token of the form, if it is live at the time `now`.
fn live(client: &FormClient, app: &App, now: i64) -> Result<Option<Bearer>> {
    let token = client.form.get("token").ok_or_else(|| Error::field("token", Message::Required))?;
    Ok(Bearer::judge(app, token, now).ok())
}

/// Whether a token was issued to that client.
fn is_own(client: &FormClient, token: &Bearer) -> bool {
    token.domain().is_some_and(|domain| domain.id == client.id())
}
