//! `/token`: a client's secret becomes an access token; and `/v1/test`, which shows what one says.

use std::borrow::Cow;

use actix_web::http::header::{ContentType, HeaderName};
use actix_web::{HttpResponse, get, post, web};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::app::App;
use crate::config::Config;
use crate::directory::Domain;
use crate::error::{Error, Result};
use crate::gate::bearer::Bearer;
use crate::gate::client::{Client, Form, TokenRequest};
use crate::locale::{Locale, Message};
use crate::token::Claims;

/// Unix seconds from which the secret of the request no longer works.
const SECRET_EXPIRES: HeaderName = HeaderName::from_static("x-secret-expires");

/// The answer to plain JSON.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Issued<'a> {
    /// 200.
    code: u16,
    /// For people.
    message: &'a str,
    /// The access token.
    #[schema(value_type = String)]
    token: &'a RawValue,
    /// Always `Bearer`.
    token_type: &'a str,
    /// Seconds that the token lives.
    expires_in: i64,
    /// Unix seconds from which the secret no longer works, once it was retired: take the new one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret_expires_at: Option<i64>,
}

/// The answer to an OAuth 2.0 form (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
struct OAuthIssued<'a> {
    /// The access token.
    #[schema(value_type = String)]
    access_token: &'a RawValue,
    /// Always `Bearer`.
    token_type: &'a str,
    /// Seconds that the token lives.
    expires_in: i64,
    /// What the token allows.
    scope: &'a str,
    /// Unix seconds from which the secret no longer works, once it was retired: take the new one before.
    #[serde(rename = "secretExpiresAt", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    secret_expires_at: Option<i64>,
}

/// An OAuth 2.0 token request (RFC 6749 §4.4.2).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; `Form` reads it")]
pub(crate) struct TokenForm {
    grant_type: GrantType,
    /// The domain's public id, unless HTTP Basic names it.
    #[schema(nullable = false)]
    client_id: Option<String>,
    /// The secret, unless HTTP Basic has it.
    #[schema(nullable = false, format = Password)]
    client_secret: Option<String>,
    /// `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, with a signature instead of a secret (RFC 7523).
    #[schema(nullable = false)]
    client_assertion_type: Option<String>,
    /// The signature: a JWT of the client's own.
    #[schema(nullable = false)]
    client_assertion: Option<String>,
    /// Scopes, separated by spaces; without it, all that the domain may have.
    #[schema(nullable = false)]
    scope: Option<String>,
    /// An audience that the token is to be for, or several of them; without it, the issuer (RFC 8707).
    #[schema(nullable = false)]
    resource: Option<Vec<String>>,
    /// Another word for `resource`.
    #[schema(nullable = false)]
    audience: Option<Vec<String>>,
}

/// The only grant.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the form; `Form` reads it")]
enum GrantType {
    ClientCredentials,
}

/// Exchange client credentials for an access token (RFC 6749 §4.4).
///
/// Send the credentials by HTTP Basic or in the form, not by both. `POST /v1/token` does the same in plain JSON. Each of the
/// two paths accepts both kinds of body, and answers in kind.
#[utoipa::path(
    tag = "token",
    operation_id = "issueToken",
    request_body(
        content = TokenForm,
        content_type = "application/x-www-form-urlencoded",
        // This is the default of OpenAPI, but without it openapi-generator joins the resources with commas.
        encoding(("resource" = (explode = true)), ("audience" = (explode = true))),
    ),
    responses(
        (status = 200, description = "The token", body = OAuthIssued),
        (status = 400, description = "Malformed input, or a grant, scope or resource that the client may not have", body = crate::error::ErrorBody),
    ),
    security(("client" = []), ())
)]
#[post("/token")]
pub(crate) async fn issue(client: Client, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    issued(&client, &app, locale)
}

/// Exchange a client secret for an access token, in plain JSON.
///
/// `POST /token` does the same for OAuth 2.0 libraries. Each of the two paths accepts both kinds of body, and answers in kind.
#[utoipa::path(
    tag = "token",
    operation_id = "issueTokenV1",
    request_body = TokenRequest,
    responses(
        (status = 200, description = "The token", body = Issued),
        (status = 401, description = "Unknown client", body = crate::error::ErrorBody),
        (status = 429, description = "Over the limit of the domain's plan, or too many requests or wrong credentials from the network; `reason` tells which", body = crate::error::ErrorBody),
    ),
    security(())
)]
#[post("/token")]
pub(crate) async fn issue_v1(client: Client, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    issued(&client, &app, locale)
}

/// Answers with a token for what the request asks for: JSON gets plain JSON, a form gets that of OAuth 2.0.
fn issued(client: &Client, app: &App, locale: Locale) -> Result<HttpResponse> {
    let domain = &client.live.domain;
    let grant = Grant::of(client.form.as_ref(), domain, &app.config);
    let Grant { scope, audiences } = grant.inspect_err(|error| app.refused(domain.id, error))?;
    let (token, expires_in) = app.access_token(&client.live, &scope, &audiences);
    let mut answer = HttpResponse::Ok();
    let (token, token_type, secret_expires_at) = (&*quoted(&token), "Bearer", client.secret_expires_at);
    if let Some(deadline) = secret_expires_at {
        answer.insert_header((SECRET_EXPIRES, deadline));
    }
    // Enough for most: a body that grows to its size is copied three times.
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

/// A token as JSON. It has no character that would have to be escaped, and to look for one at each of its bytes takes
/// longer than the rest of the answer.
fn quoted(token: &str) -> Box<RawValue> {
    let quoted = ["\"", token, "\""].concat();
    RawValue::from_string(quoted).expect("base64url and dots")
}

/// What a token will allow, and for whom it will be.
struct Grant<'a> {
    /// Separated by spaces.
    scope: Cow<'a, str>,
    audiences: Vec<&'a str>,
}

impl<'a> Grant<'a> {
    /// What a form asks for, if the domain may have it all; without a form, or where the form does not say, all that the
    /// domain may have, for the issuer (RFC 6749 §3.3, RFC 8707 §2).
    fn of(form: Option<&'a Form>, domain: &'a Domain, config: &'a Config) -> Result<Grant<'a>> {
        match form.map(|form| form.get("grant_type")) {
            None | Some(Some("client_credentials")) => {}
            Some(None) => return Err(Error::field("grant_type", Message::Required)),
            Some(Some(_)) => return Err(Error::GrantType),
        }
        Ok(Grant { scope: scope(form, domain, config)?, audiences: audiences(form, domain, config)? })
    }
}

fn scope<'a>(form: Option<&'a Form>, domain: &'a Domain, config: &'a Config) -> Result<Cow<'a, str>> {
    let known = |scope: &&str| config.scopes.split(' ').any(|known| known == *scope);
    let allowed = |scope: &&str| domain.scopes().is_none_or(|own| own.split(' ').any(|own| own == *scope));
    let asked = form.and_then(|form| form.get("scope")).unwrap_or_default();
    let mut asked = asked.split(' ').filter(|scope| !scope.is_empty()).peekable();
    if asked.peek().is_none() {
        return Ok(match domain.scopes() {
            None => config.scopes.as_str().into(),
            Some(own) => match own.split(' ').filter(known).collect::<Vec<_>>().join(" ") {
                none if none.is_empty() => return Err(Error::Scope),
                left => left.into(),
            },
        });
    }
    let granted = each_once(asked, |scope| known(&scope) && allowed(&scope));
    Ok(granted.ok_or(Error::Scope)?.join(" ").into())
}

fn audiences<'a>(form: Option<&'a Form>, domain: &'a Domain, config: &'a Config) -> Result<Vec<&'a str>> {
    let allowed = |audience: &str| domain.audiences().is_none_or(|own| own.split(' ').any(|own| own == audience));
    let mut known = config.audiences.iter().map(String::as_str).filter(|audience| allowed(audience));
    let mut asked = form.into_iter().flat_map(Form::resources).peekable();
    if asked.peek().is_none() {
        // The issuer is the first of them.
        return known.next().map(|audience| vec![audience]).ok_or(Error::Target);
    }
    let known: Vec<&str> = known.collect();
    each_once(asked, |audience| known.contains(&audience)).ok_or(Error::Target)
}

/// What was asked for, without repetitions; `None` when it may not all be had.
fn each_once<'a>(asked: impl Iterator<Item = &'a str>, may_have: impl Fn(&'a str) -> bool) -> Option<Vec<&'a str>> {
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

/// Show what the token says.
#[utoipa::path(
    tag = "token",
    operation_id = "testToken",
    responses((status = 200, description = "The verified claims", body = Claims)),
    security(("token" = []))
)]
#[get("/test")]
pub(crate) async fn test(token: Bearer) -> HttpResponse {
    let mut body = Vec::with_capacity(640);
    serde_json::to_writer(&mut body, token.claims()).expect("claims are plain JSON");
    HttpResponse::Ok().content_type(ContentType::json()).body(body)
}
