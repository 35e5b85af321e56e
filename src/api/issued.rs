//! What a client may ask and do about tokens that it was issued: introspection (RFC 7662) and revocation (RFC 7009). Of
//! other clients' tokens it learns nothing, not even that they are tokens.

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
    /// The user to whom the data belongs.
    #[schema(required = false)]
    username: &'a str,
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
    let Some(token) = own(&client, &app, app.now())? else {
        return Ok(HttpResponse::Ok().json(Inactive { active: false }));
    };
    let claims = token.claims();
    Ok(HttpResponse::Ok().json(Introspection {
        active: true,
        scope: &claims.scope,
        client_id: &claims.sub,
        username: &claims.username,
        token_type: "Bearer",
        exp: claims.exp,
        iat: claims.iat,
        sub: &claims.sub,
        aud: claims.aud.iter().map(AsRef::as_ref).collect(),
        iss: &claims.iss,
        jti: &claims.jti,
    }))
}

/// Revoke a token of the calling client (RFC 7009). It is refused from the answer on here, and within two seconds on other
/// nodes.
///
/// The answer is the same for a token that was not good or not this client's. Revoking costs nothing of the plan's limit,
/// and has a share of the database of its own: a thief with a stolen token cannot use up what ends the theft.
#[utoipa::path(
    tag = "token",
    operation_id = "revokeToken",
    request_body(content = TokenHint, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The token is not good any more", body = super::Done)),
    security(("client" = []), ())
)]
#[post("/revoke")]
pub(crate) async fn revoke(client: FormClient, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    // While the clock is ahead, a token only seems to have expired.
    if let Some(token) = own(&client, &app, app.trusted_now())? {
        let (id, expires_at) = token.revocable();
        app.revoke(client.revoker(), id, expires_at).await?;
        client.has_revoked(expires_at);
    }
    Ok(done(Message::Revoked, locale))
}

/// The token of the form, if it is live at the time `now` and this client's.
fn own(client: &FormClient, app: &App, now: i64) -> Result<Option<Bearer>> {
    let token = client.form.get("token").ok_or_else(|| Error::field("token", Message::Required))?;
    let live = Bearer::judge(app, token, now).ok();
    Ok(live.filter(|token| token.domain().is_some_and(|domain| domain.id == client.id())))
}
