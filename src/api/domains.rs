//! The domains of the signed-in user.

mod public_keys;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use self::public_keys::{PresentKeys, PublicKeys};
use super::Context;
use super::etag::IfMatch;
use super::openapi::{known_audiences, known_scopes};
use super::verification::Verification;
use crate::actions::OwnDomain;
use crate::actions::domains::{self, Registered};
use crate::db::domain::{self as rows, DomainRow, NewDomain as NewRow};
use crate::error::{Error, Result};
use crate::gate::bearer::UserToken;
use crate::gate::body::Json;
use crate::id::DomainId;
use crate::locale::Message;
use crate::plan::Plan;
use crate::token::present;

/// A domain to register.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewDomain {
    /// A host name such as `shop.example.com`, with an optional port. The default port is dropped. It must be a valid
    /// internationalized name (IDNA) and not a public suffix such as `co.uk`. `localhost` is for local tests only.
    // The pattern: labels of at most 63 characters and 253 in total; `localhost`, or at least two labels, the last of
    // which does not begin with a digit; an optional port.
    #[schema(pattern = "^(?!.*[0-9A-Za-z-]{64})(?![!-9;-~]{254})\
        (?:[Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt]\
        |(?:[^\\x00-/:-@\\[-`{-\\xA0](?:(?:-|[^\\x00-/:-@\\[-`{-\\xA0])*[^\\x00-/:-@\\[-`{-\\xA0])?\\.)+(?![0-9])[^\\x00-/:-@\\[-`{-\\xA0](?:(?:-|[^\\x00-/:-@\\[-`{-\\xA0])*[^\\x00-/:-@\\[-`{-\\xA0])?)\
        (?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$")]
    host: String,
    #[serde(rename = "type")]
    #[schema(value_type = Plan)]
    plan: String,
    /// Scopes that the domain's tokens may have. Defaults to all scopes of the server.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = known_scopes, required = false)]
    scopes: Option<Vec<String>>,
    /// Audiences that the domain's tokens may have. Defaults to all audiences of the server.
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = known_audiences, required = false)]
    audiences: Option<Vec<String>>,
    /// Public keys for `private_key_jwt` (RFC 7523) instead of a client secret.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, value_type = Option<PublicKeys>)]
    jwks: Option<Value>,
}

/// A change of a domain. Absent members are left as they are.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(min_properties = 1)]
pub(crate) struct DomainChange {
    #[serde(rename = "type", default, deserialize_with = "present")]
    #[schema(nullable = false, value_type = Option<Plan>)]
    plan: Option<String>,
    /// New keys of a domain that has keys. If a former key is missing from them, earlier tokens are revoked.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, value_type = Option<PublicKeys>)]
    jwks: Option<Value>,
}

/// A domain.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DomainView {
    /// The public id, which is also the OAuth 2.0 `client_id`.
    id: String,
    host: String,
    #[serde(rename = "type")]
    #[schema(value_type = Plan)]
    plan: &'static str,
    /// Whether the operator suspended the domain. It gets no tokens.
    suspended: bool,
    /// Unix seconds.
    created_at: i64,
    /// Scopes that the domain's tokens may have. Absent if all are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scopes: Option<Vec<String>>,
    /// Audiences that the domain's tokens may have. Absent if all are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    audiences: Option<Vec<String>>,
    /// The public keys of a domain without a secret. Empty after a password change with `endSecretsSince`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<PresentKeys>)]
    jwks: Option<Value>,
    /// Whether control of the host is verified.
    host_verified: bool,
    /// When control of the host was verified, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    verified_at: Option<i64>,
    /// Whether another user verified the host. The domain gets no tokens.
    superseded: bool,
    /// Whether the domain was neither verified nor used for 90 days. It gets no tokens until its owner changes it,
    /// creates a secret or verifies the host, or until the operator changes it.
    dormant: bool,
    /// How to verify control of the host. Shown at registration and at its own URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    verification: Option<Verification>,
    /// Shown at registration only. Store it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_secret: Option<String>,
}

impl From<DomainRow> for DomainView {
    fn from(domain: DomainRow) -> DomainView {
        let split = |text: String| text.split(' ').map(str::to_owned).collect();
        DomainView {
            id: domain.id.to_string(),
            host: domain.host,
            plan: domain.plan.as_str(),
            suspended: domain.suspended,
            created_at: domain.created_at,
            scopes: domain.scopes.map(split),
            audiences: domain.audiences.map(split),
            jwks: domain.jwks.map(|keys| serde_json::from_str(keys.as_json()).expect("stored keys are JSON")),
            host_verified: domain.verified_at.is_some(),
            verified_at: domain.verified_at,
            superseded: domain.superseded,
            dormant: domain.dormant,
            verification: None,
            client_secret: None,
        }
    }
}

/// Register a domain. Its client secret is shown in this response only.
#[utoipa::path(
    post, path = "", tag = "domains",
    operation_id = "registerDomain",
    request_body = NewDomain,
    responses(
        (status = 201, description = "The domain with its client secret", body = super::Answer<DomainView>),
        (status = 403, description = "The plan is granted by the operator only, or the user or the server has as many domains as is allowed; or the token is of the wrong kind", body = crate::error::ErrorBody),
        (status = 409, description = "The user already has this host, or another user verified it", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn register(token: UserToken, body: Json<NewDomain>, context: Context) -> Result<HttpResponse> {
    let (body, config) = (body.0, &context.app.config);
    let new = NewRow {
        host: domains::host(&body.host, config.local_hosts)?,
        plan: domains::plan(&body.plan)?,
        scopes: body.scopes.map(|asked| domains::scopes(&asked, config)).transpose()?,
        audiences: body.audiences.map(|asked| domains::audiences(&asked, config)).transpose()?,
        jwks: body.jwks.as_ref().map(domains::keys).transpose()?,
    };
    let Registered { domain, secret, challenge } = domains::register(&context.app, token.caller(), new).await?;
    let message = if secret.is_some() { Message::DomainRegistered } else { Message::DomainRegisteredWithKeys };
    let client_secret = secret.map(|secret| secret.reveal().to_owned());
    let verification = Some(Verification::wanted(&domain, &challenge));
    Ok(context.answer(StatusCode::CREATED, message, DomainView { verification, client_secret, ..domain.into() }))
}

/// List the caller's domains.
#[utoipa::path(
    get, path = "", tag = "domains",
    operation_id = "listDomains",
    responses((status = 200, description = "In order of registration", body = super::List<DomainView>)),
)]
pub(crate) async fn list(token: UserToken, context: Context) -> Result<HttpResponse> {
    let domains = context.app.read(token.caller(), rows::list).await?;
    Ok(context.list(domains.into_iter().map(DomainView::from)))
}

/// Show a domain.
#[utoipa::path(
    get, path = "", tag = "domains",
    operation_id = "showDomain",
    params(("id" = inline(DomainId), Path, description = "The domain's public id")),
    responses((status = 200, description = "The domain; `ETag` is for `If-Match`", body = super::Answer<DomainView>)),
)]
pub(crate) async fn show(own: OwnDomain, context: Context) -> Result<HttpResponse> {
    let view: DomainView = own.read(&context.app, |_, domain| Ok(domain)).await?.into();
    Ok(context.with_etag(StatusCode::OK, Message::Ok, view))
}

/// Change a domain's plan or keys.
#[utoipa::path(
    patch, path = "", tag = "domains",
    operation_id = "changeDomain",
    params(("id" = inline(DomainId), Path, description = "The domain's public id"), IfMatch),
    request_body = DomainChange,
    responses(
        (status = 200, description = "The changed domain", body = super::Answer<DomainView>),
        (status = 403, description = "Only the operator assigns the plan; or the token is of the wrong kind", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn change(
    own: OwnDomain,
    body: Json<DomainChange>,
    if_match: IfMatch,
    context: Context,
) -> Result<HttpResponse> {
    let plan = body.0.plan.as_deref().map(domains::plan).transpose()?;
    let keys = body.0.jwks.as_ref().map(domains::keys).transpose()?;
    if plan.is_none() && keys.is_none() {
        return Err(Error::field("type", Message::Required));
    }
    let check = move |domain: &DomainRow| if_match.check(&DomainView::from(domain.clone()));
    let view: DomainView =
        domains::change(&context.app, own, domains::DomainChange { plan, keys }, check).await?.into();
    Ok(context.with_etag(StatusCode::OK, Message::DomainChanged, view))
}

/// Delete a domain with its secrets. Its tokens are revoked. A domain that the operator suspended cannot be deleted.
#[utoipa::path(
    delete, path = "", tag = "domains",
    operation_id = "deleteDomain",
    params(("id" = inline(DomainId), Path, description = "The domain's public id"), IfMatch),
    responses(
        (status = 200, description = "Deleted", body = super::Done),
        (status = 403, description = "The operator suspended the domain (`suspended`); or the token is of the wrong kind", body = crate::error::ErrorBody),
    ),
)]
pub(crate) async fn remove(own: OwnDomain, if_match: IfMatch, context: Context) -> Result<HttpResponse> {
    let check = move |domain: &DomainRow| if_match.check(&DomainView::from(domain.clone()));
    domains::delete(&context.app, own, check).await?;
    Ok(context.done(Message::DomainDeleted))
}
