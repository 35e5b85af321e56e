//! `/token`: a client's secret becomes an access token; and `/v1/test`, which shows what one says.

use std::borrow::Cow;

use actix_web::{HttpResponse, get, post, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, SCOPES};
use crate::error::{Error, Result};
use crate::gate::bearer::Bearer;
use crate::gate::client::{Client, Form, TokenRequest};
use crate::locale::{Locale, Message};
use crate::token::Claims;

/// The answer to plain JSON.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Issued<'a> {
    /// 200.
    code: u16,
    /// For people.
    message: &'a str,
    /// The access token.
    token: &'a str,
    /// Always `Bearer`.
    token_type: &'a str,
    /// Seconds that the token lives.
    expires_in: i64,
}

/// The answer to an OAuth 2.0 form (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
struct OAuthIssued<'a> {
    /// The access token.
    access_token: &'a str,
    /// Always `Bearer`.
    token_type: &'a str,
    /// Seconds that the token lives.
    expires_in: i64,
    /// What the token allows.
    scope: &'a str,
}

/// An OAuth 2.0 token request (RFC 6749 §4.4.2).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; `Form` reads it")]
pub(crate) struct TokenForm {
    /// `client_credentials`.
    grant_type: String,
    /// The domain's public id, unless HTTP Basic names it.
    client_id: Option<String>,
    /// The secret, unless HTTP Basic has it.
    client_secret: Option<String>,
    /// Scopes, separated by spaces; without it, all that the domain may have.
    scope: Option<String>,
    /// The audience: the issuer (RFC 8707).
    resource: Option<String>,
}

/// Either answer, after either form of the request.
#[derive(ToSchema, Serialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the answer")]
enum TokenAnswer<'a> {
    /// To JSON.
    Plain(Issued<'a>),
    /// To a form.
    OAuth(OAuthIssued<'a>),
}

/// Exchange a client secret for an access token.
///
/// Plain JSON for simple clients; OAuth 2.0 client credentials, with HTTP Basic or body credentials, for libraries.
#[utoipa::path(
    tag = "token",
    operation_id = "issueToken",
    request_body(content((TokenRequest = "application/json"), (TokenForm = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The token", body = inline(TokenAnswer))),
    security(("client" = []), ())
)]
#[post("/token")]
pub(crate) async fn issue(client: Client, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    let scope = client.form.as_ref().map_or(Ok(SCOPES.into()), |form| granted(form, &app))?;
    let (token, expires_in) = app.access_token(&client.live, &scope);
    let mut answer = HttpResponse::Ok();
    let (token, token_type) = (token.as_str(), "Bearer");
    Ok(match client.form {
        None => {
            let message = Message::TokenIssued.text(locale);
            answer.json(Issued { code: 200, message, token, token_type, expires_in })
        }
        Some(_) => answer.json(OAuthIssued { access_token: token, token_type, expires_in, scope: &scope }),
    })
}

/// The scopes that a form asks for, if it may have them all (RFC 6749 §3.3).
fn granted(form: &Form, app: &App) -> Result<Cow<'static, str>> {
    match form.get("grant_type") {
        None => return Err(Error::field("grant_type", Message::Required)),
        Some("client_credentials") => {}
        Some(_) => return Err(Error::GrantType),
    }
    if form.get("resource").is_some_and(|resource| resource != app.policy.issuer) {
        return Err(Error::Target);
    }
    let Some(asked) = form.get("scope") else {
        return Ok(SCOPES.into());
    };
    let mut granted: Vec<&str> = Vec::new();
    for scope in asked.split(' ') {
        if !SCOPES.split(' ').any(|known| known == scope) {
            return Err(Error::Scope);
        }
        if !granted.contains(&scope) {
            granted.push(scope);
        }
    }
    Ok(granted.join(" ").into())
}

/// Show what the token says.
#[utoipa::path(
    tag = "token",
    operation_id = "testToken",
    responses((status = 200, description = "The verified claims", body = Claims)),
    security(("token" = []))
)]
#[get("/test")]
pub(crate) async fn test(token: Bearer) -> HttpResponse {
    HttpResponse::Ok().json(token.claims())
}
