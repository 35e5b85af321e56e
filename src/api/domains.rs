//! Domains of the signed-in user.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, delete, get, patch, post, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{answer, done, not_found, taken};
use crate::app::App;
use crate::db::domain::{self, Domain};
use crate::db::{Conn, secret};
use crate::error::{Error, Result};
use crate::gate::bearer::UserToken;
use crate::gate::body::Json;
use crate::host::{Host, HostError, LocalHosts};
use crate::id::{DomainId, UserId};
use crate::locale::{Locale, Message};
use crate::plan::Plan;
use crate::secret::ClientSecret;

/// A domain to be registered.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewDomain {
    /// A host name such as `shop.example.com`, with a port if it has one.
    host: String,
    /// `free` or `premium`.
    #[serde(rename = "type")]
    plan: String,
}

/// A change of a domain.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DomainChange {
    /// `free` or `premium`.
    #[serde(rename = "type")]
    plan: String,
}

/// A domain as its owner sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DomainView {
    /// The public id, which is the OAuth 2.0 `client_id`.
    id: String,
    host: String,
    /// `free` or `premium`.
    #[serde(rename = "type")]
    plan: &'static str,
    /// Suspended by the operator: it gets no tokens.
    suspended: bool,
    /// Unix seconds.
    created_at: i64,
    /// Shown at registration only: keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_secret: Option<String>,
}

impl From<Domain> for DomainView {
    fn from(domain: Domain) -> DomainView {
        DomainView {
            id: domain.id.to_string(),
            host: domain.host,
            plan: domain.plan.as_str(),
            suspended: domain.suspended,
            created_at: domain.created_at,
            client_secret: None,
        }
    }
}

fn plan(text: &str) -> Result<Plan> {
    Plan::parse(text).ok_or_else(|| Error::field("type", Message::Plan))
}

/// Parses a host as a person typed it.
pub(crate) fn host(text: &str, local: LocalHosts) -> Result<Host> {
    let problem = |error| match error {
        HostError::Empty => Message::HostEmpty,
        HostError::TooLong | HostError::Label => Message::HostTooLong,
        HostError::Scheme => Message::HostOnly,
        HostError::Wildcard => Message::HostWildcard,
        HostError::IpLiteral => Message::HostIp,
        HostError::Port => Message::HostPort,
        HostError::EmptyLabel => Message::HostDots,
        HostError::Character(_) | HostError::Hyphen => Message::HostCharacter,
        HostError::Idna => Message::HostIdna,
        HostError::Local => Message::HostLocal,
        HostError::SpecialUse => Message::HostSpecial,
        HostError::SingleLabel => Message::HostSingleLabel,
        HostError::PublicSuffix => Message::HostPublicSuffix,
    };
    Host::parse(text, local).map_err(|error| Error::field("host", problem(error)))
}

/// Registers a domain with its first secret.
pub(crate) fn insert(
    conn: &mut Conn,
    tenant: UserId,
    host: &Host,
    plan: Plan,
    now: i64,
) -> Result<(Domain, ClientSecret)> {
    let domain = domain::insert(conn, tenant, host, plan, now).map_err(taken("host", Message::HostTaken))?;
    let secret = ClientSecret::random();
    secret::insert(conn, domain.id, &secret, now)?;
    Ok((domain, secret))
}

/// Register a domain. Its client secret is shown in this answer and never again.
#[utoipa::path(
    tag = "domains",
    operation_id = "registerDomain",
    request_body = NewDomain,
    responses(
        (status = 201, description = "The domain with its client secret", body = super::Answer<DomainView>),
        (status = 409, description = "The user has this host already", body = crate::error::ErrorBody),
    ),
    security(("userToken" = []))
)]
#[post("/domains")]
pub(crate) async fn register(
    token: UserToken,
    body: Json<NewDomain>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let host = host(&body.0.host, app.config.local_hosts)?;
    let plan = plan(&body.0.plan)?;
    let (tenant, now) = (token.tenant(), app.now());
    let insert = move |conn: &mut Conn| insert(conn, tenant, &host, plan, now);
    let (domain, secret) = app.change_by(token.standing(), insert).await?;
    let view = DomainView { client_secret: Some(secret.reveal().to_owned()), ..domain.into() };
    Ok(answer(StatusCode::CREATED, Message::DomainRegistered, locale, view))
}

/// List the own domains.
#[utoipa::path(
    tag = "domains",
    operation_id = "listDomains",
    responses((status = 200, description = "In order of registration", body = super::Answer<Vec<DomainView>>)),
    security(("userToken" = []))
)]
#[get("/domains")]
pub(crate) async fn list(token: UserToken, app: web::Data<App>, locale: Locale) -> Result<HttpResponse> {
    let tenant = token.tenant();
    let domains = app.db.read(move |conn| Ok(domain::list(conn, tenant)?)).await?;
    let views: Vec<DomainView> = domains.into_iter().map(DomainView::from).collect();
    Ok(answer(StatusCode::OK, Message::Ok, locale, views))
}

/// Show a domain.
#[utoipa::path(
    tag = "domains",
    operation_id = "showDomain",
    params(("id" = String, Path, description = "The domain's public id")),
    responses((status = 200, description = "The domain", body = super::Answer<DomainView>)),
    security(("userToken" = []))
)]
#[get("/domains/{id}")]
pub(crate) async fn show(
    token: UserToken,
    id: web::Path<String>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let (tenant, id) = (token.tenant(), DomainId::parse(&id).ok_or_else(not_found)?);
    let found = app.db.read(move |conn| Ok(domain::find(conn, tenant, id)?)).await?;
    let view: DomainView = found.ok_or_else(not_found)?.into();
    Ok(answer(StatusCode::OK, Message::Ok, locale, view))
}

/// Change a domain's plan.
#[utoipa::path(
    tag = "domains",
    operation_id = "changeDomain",
    params(("id" = String, Path, description = "The domain's public id")),
    request_body = DomainChange,
    responses((status = 200, description = "The changed domain", body = super::Answer<DomainView>)),
    security(("userToken" = []))
)]
#[patch("/domains/{id}")]
pub(crate) async fn change(
    token: UserToken,
    id: web::Path<String>,
    body: Json<DomainChange>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let (tenant, id) = (token.tenant(), DomainId::parse(&id).ok_or_else(not_found)?);
    let plan = plan(&body.0.plan)?;
    let set = move |conn: &mut Conn| Ok(domain::set_plan(conn, tenant, id, plan)?);
    let changed = app.change_by(token.standing(), set).await?;
    let view: DomainView = changed.ok_or_else(not_found)?.into();
    Ok(answer(StatusCode::OK, Message::DomainChanged, locale, view))
}

/// Delete a domain with its secrets. Its tokens are revoked.
#[utoipa::path(
    tag = "domains",
    operation_id = "deleteDomain",
    params(("id" = String, Path, description = "The domain's public id")),
    responses((status = 200, description = "Deleted", body = super::Done)),
    security(("userToken" = []))
)]
#[delete("/domains/{id}")]
pub(crate) async fn remove(
    token: UserToken,
    id: web::Path<String>,
    app: web::Data<App>,
    locale: Locale,
) -> Result<HttpResponse> {
    let (tenant, id) = (token.tenant(), DomainId::parse(&id).ok_or_else(not_found)?);
    match app.change_by(token.standing(), move |conn| Ok(domain::delete(conn, tenant, id)?)).await? {
        true => Ok(done(Message::DomainDeleted, locale)),
        false => Err(not_found()),
    }
}
