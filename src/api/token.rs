//! `POST /token`, which issues access tokens, and `GET /v1/test`, which returns the claims of a token.

use std::borrow::Cow;

use actix_web::http::header::{ContentType, HeaderName};
use actix_web::{HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::App;
use crate::config::Config;
use crate::directory::Domain;
use crate::error::{Error, Result};
use crate::gate::bearer::Bearer;
use crate::gate::client::Client;
use crate::gate::credentials::{Form, TokenRequest};
use crate::locale::{Locale, Message};
use crate::token::Claims;

/// When the request's secret stops working, in Unix seconds.
const SECRET_EXPIRES: HeaderName = HeaderName::from_static("x-secret-expires");

/// The response to a JSON request.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Issued<'a> {
    /// 200.
    code: u16,
    /// Text for people, in the language of `Accept-Language`.
    message: &'a str,
    /// The access token.
    #[schema(value_type = String)]
    token: &'a RawValue,
    /// Always `Bearer`.
    token_type: &'a str,
    /// The lifetime of the token in seconds.
    expires_in: i64,
    /// When the secret stops working, in Unix seconds. Present after a rotation: use the new secret before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret_expires_at: Option<i64>,
}

/// The response to an OAuth 2.0 form (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
struct OAuthIssued<'a> {
    #[schema(value_type = String)]
    access_token: &'a RawValue,
    /// Always `Bearer`.
    token_type: &'a str,
    /// The lifetime of the token in seconds.
    expires_in: i64,
    /// The granted scopes, separated by spaces.
    scope: &'a str,
    /// When the secret stops working, in Unix seconds. Present after a rotation: use the new secret before then.
    #[serde(rename = "secretExpiresAt", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret_expires_at: Option<i64>,
}

/// An OAuth 2.0 token request (RFC 6749 §4.4.2).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; `Form` reads it")]
pub(crate) struct TokenForm {
    grant_type: GrantType,
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
    /// Scopes, separated by spaces. Defaults to all scopes that the domain may have.
    #[schema(nullable = false)]
    scope: Option<String>,
    /// One or more audiences of the token (RFC 8707). Defaults to the issuer.
    #[schema(nullable = false)]
    resource: Option<Vec<String>>,
    /// A synonym of `resource`.
    #[schema(nullable = false)]
    audience: Option<Vec<String>>,
}

/// The grant type.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the form; `Form` reads it")]
enum GrantType {
    ClientCredentials,
}

/// Exchange client credentials for an access token (RFC 6749 §4.4).
///
/// Send the credentials by HTTP Basic or in the form, but not both. `POST /v1/token` is the same for JSON. Both paths
/// accept both kinds of body and respond in kind.
#[utoipa::path(
    post, path = "", tag = "token",
    operation_id = "issueToken",
    request_body(
        content = TokenForm,
        content_type = "application/x-www-form-urlencoded",
        // `explode` is the default, but without it openapi-generator joins the values with commas.
        encoding(("resource" = (explode = true)), ("audience" = (explode = true))),
    ),
    responses(
        (status = 200, description = "The token", body = OAuthIssued),
        (status = 400, description = "Malformed input, or a grant, scope or resource that the client may not have", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn issue(client: Client, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    respond(&client, &app, locale)
}

/// Exchange a client secret for an access token, in JSON.
///
/// `POST /token` is the same for OAuth 2.0 libraries. Both paths accept both kinds of body and respond in kind.
#[utoipa::path(
    post, path = "", tag = "token",
    operation_id = "issueTokenV1",
    request_body = TokenRequest,
    responses((status = 200, description = "The token", body = Issued)),
)]
pub(crate) async fn issue_v1(client: Client, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    respond(&client, &app, locale)
}

/// Issues the requested token. The response has the form of the request: JSON or OAuth 2.0.
fn respond(client: &Client, app: &App, locale: Locale) -> Result<HttpResponse> {
    let domain = &client.live.domain;
    let grant = grant(client.form.as_ref(), domain, &app.config);
    let (scope, audiences) = grant.inspect_err(|error| app.refused(domain.id, error))?;
    let (token, expires_in) = app.access_token(&client.live, &scope, &audiences);
    let mut answer = HttpResponse::Ok();
    let (token, token_type, secret_expires_at) = (&*json_string(&token), "Bearer", client.secret_expires_at);
    if let Some(deadline) = secret_expires_at {
        answer.insert_header((SECRET_EXPIRES, deadline));
    }
    // Large enough for most responses: without it, the buffer is reallocated three times.
    let mut body = Vec::with_capacity(token.get().len() + 256);
    let written = match &client.form {
        None => {
            let message = Message::TokenIssued.text(locale);
            let issued = Issued { code: 200, message, token, token_type, expires_in, secret_expires_at };
            serde_json::to_writer(&mut body, &issued)
        }
        Some(_) => {
            let issued = OAuthIssued { access_token: token, token_type, expires_in, scope: &scope, secret_expires_at };
            serde_json::to_writer(&mut body, &issued)
        }
    };
    written.map_err(Error::internal)?;
    Ok(answer.content_type(ContentType::json()).body(body))
}

/// The token as a JSON string. It has no character that must be escaped; serde would spend more time on the search for
/// one than on the rest of the response.
fn json_string(token: &str) -> Box<RawValue> {
    let quoted = ["\"", token, "\""].concat();
    RawValue::from_string(quoted).expect("base64url and dots")
}

/// Grants the scopes and the audiences that the form requests. Defaults to all scopes of the domain and to the issuer as
/// the audience (RFC 6749 §3.3, RFC 8707 §2).
///
/// # Errors
/// If the domain may not have all that is requested.
fn grant<'a>(form: Option<&'a Form>, domain: &'a Domain, config: &'a Config) -> Result<(Cow<'a, str>, Vec<&'a str>)> {
    match form.map(|form| form.get("grant_type")) {
        None | Some(Some("client_credentials")) => {}
        Some(None) => return Err(Error::field("grant_type", Message::Required)),
        Some(Some(_)) => return Err(Error::UnsupportedGrantType),
    }
    Ok((scope(form, domain, config)?, audiences(form, domain, config)?))
}

fn scope<'a>(form: Option<&'a Form>, domain: &'a Domain, config: &'a Config) -> Result<Cow<'a, str>> {
    let known = |scope: &&str| has(Some(config.scopes.as_str()), scope);
    let asked = form.and_then(|form| form.get("scope")).unwrap_or_default();
    let mut asked = asked.split(' ').filter(|scope| !scope.is_empty()).peekable();
    let granted = match (asked.peek(), domain.scopes()) {
        (None, None) => return Ok(config.scopes.as_str().into()),
        (None, Some(own)) => {
            let granted: Vec<&str> = own.split(' ').filter(known).collect();
            (!granted.is_empty()).then_some(granted)
        }
        (Some(_), own) => distinct_allowed(asked, |scope| known(&scope) && has(own, scope)),
    };
    Ok(granted.ok_or(Error::InvalidScope)?.join(" ").into())
}

fn audiences<'a>(form: Option<&'a Form>, domain: &'a Domain, config: &'a Config) -> Result<Vec<&'a str>> {
    let known = config.audiences.iter().map(String::as_str).filter(|audience| has(domain.audiences(), audience));
    let mut asked = form.into_iter().flat_map(Form::resources).peekable();
    let granted = match asked.peek() {
        // The issuer comes first.
        None => known.clone().next().map(|audience| vec![audience]),
        Some(_) => distinct_allowed(asked, |audience| known.clone().any(|known| known == audience)),
    };
    granted.ok_or(Error::InvalidTarget)
}

/// Whether a list of names, separated by spaces, has a name. Without a list, every name is allowed.
fn has(list: Option<&str>, name: &str) -> bool {
    list.is_none_or(|list| list.split(' ').any(|one| one == name))
}

/// The requested names without duplicates. `None` if one of them is not allowed.
fn distinct_allowed<'a>(
    asked: impl Iterator<Item = &'a str>,
    may_have: impl Fn(&'a str) -> bool,
) -> Option<Vec<&'a str>> {
    let mut granted = Vec::new();
    for name in asked {
        if !may_have(name) {
            return None;
        }
        if !granted.contains(&name) {
            granted.push(name);
        }
    }
    Some(granted)
}

/// Return the claims of the token.
#[utoipa::path(
    get, path = "", tag = "token",
    operation_id = "testToken",
    responses((status = 200, description = "The verified claims", body = Claims)),
)]
pub(crate) async fn test(token: Bearer) -> HttpResponse {
    let mut body = Vec::with_capacity(640);
    serde_json::to_writer(&mut body, token.claims()).expect("claims are plain JSON");
    HttpResponse::Ok().content_type(ContentType::json()).body(body)
}
