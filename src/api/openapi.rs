//! `GET /openapi.json`: what the registration of the handlers wrote, completed with what holds for all of them, so that
//! no handler has to repeat it.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, get, web};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::security::{Http, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Info, License, OpenApi, PathItem, Ref, RefOr, ResponseBuilder, Server};
use utoipa::{PartialSchema, ToSchema};

use crate::config::Config;
use crate::error::ErrorBody;
use crate::gate::routes::Routes;
use crate::gate::versions::Version;

/// Describe this API.
#[utoipa::path(
    tag = "operations",
    operation_id = "openapi",
    responses((status = 200, description = "This document", body = Object)),
    security(())
)]
#[get("/openapi.json")]
pub(crate) async fn document(routes: web::Data<Routes>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(routes.document.clone())
}

/// Completes the collected document.
pub(crate) fn complete(api: &mut OpenApi, config: &Config) {
    let mut info = Info::new("Gatebird", env!("CARGO_PKG_VERSION"));
    info.description = Some("The gate before an API that other people's domains call.".into());
    info.license = Some(License::new("MIT"));
    api.info = info;
    api.servers = Some(vec![Server::new(&config.public_url)]);
    let components = api.components.get_or_insert_default();
    components.schemas.insert(ErrorBody::name().into(), ErrorBody::schema());
    let bearer = |description: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        SecurityScheme::Http(scheme.description(Some(description)).build())
    };
    components.add_security_scheme(
        "token",
        bearer("An access token of `/token`, or a user token, which carries every scope"),
    );
    components.add_security_scheme("userToken", bearer("A user token of sign-up or sign-in"));
    components.add_security_scheme("client", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)));
    for (path, item) in &mut api.paths.paths {
        for (changes, operation) in operations(item) {
            if path == "/v1/token" {
                operation.operation_id = Some("issueTokenV1".into());
            }
            refusals(path, operation, changes, config);
        }
    }
}

/// Each, and whether it may change something.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let all = [
        (false, &mut item.get),
        (true, &mut item.post),
        (true, &mut item.put),
        (true, &mut item.patch),
        (true, &mut item.delete),
    ];
    all.into_iter().filter_map(|(changes, operation)| Some((changes, operation.as_mut()?)))
}

/// What never waits for the database nor for a hash.
const FROM_MEMORY: [&str; 9] = [
    "/token",
    "/v1/token",
    "/introspect",
    "/verify",
    "/v1/test",
    "/.well-known/oauth-authorization-server",
    "/.well-known/jwks.json",
    "/healthz",
    "/openapi.json",
];

/// Describes its refusals itself: 401 and 403 stand for all.
const FOR_PROXIES: &str = "/verify";

/// Takes nothing from a plan's limit.
const FREE_OF_CHARGE: &str = "/revoke";

const FAILURES: &str = "Too many wrong credentials from the network";
const OVER_THE_PLAN: &str = "Over the limit of the domain's plan";
const OVER_THE_ACCOUNT: &str =
    "Too many changes by the account, or over the limit of the domain's plan; `reason` tells which";
const OVER_A_LIMIT: &str = "Over the limit of the domain's plan, or too many requests or wrong credentials from the network; `reason` tells which";

/// Adds every refusal that follows from what an operation takes and demands.
fn refusals(path: &str, operation: &mut Operation, changes: bool, config: &Config) {
    let mut add = |status: &str, description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ErrorBody::name()))).build();
        let response = ResponseBuilder::new().description(description).content("application/json", content).build();
        operation.responses.responses.entry(status.into()).or_insert(response.into());
    };
    let demands: Vec<String> = operation
        .security
        .iter()
        .flatten()
        .map(|requirement| serde_json::to_string(requirement).expect("a requirement is plain data"))
        .collect();
    let demands = |text: &str| demands.iter().any(|requirement| requirement.contains(text));
    if demands("oken\"") && path != FOR_PROXIES {
        add("401", "No token, or one that is not valid or revoked");
        add("419", "The token has expired (401 with EXPIRED_TOKEN_STATUS=401)");
        add("429", if changes { OVER_THE_ACCOUNT } else { OVER_THE_PLAN });
    }
    if demands("userToken") || demands(":read") || demands(":write") {
        add("403", "The token lacks the scope, or is of the wrong kind");
    }
    if demands("\"client\"") {
        add("401", "Unknown client");
        add("429", if path == FREE_OF_CHARGE { FAILURES } else { OVER_A_LIMIT });
    }
    if operation.request_body.is_some() {
        add("400", "Malformed input; `field` names the member");
        add("408", "The request did not arrive in time");
        add("413", "The body is too large");
        add("415", "The content type is not accepted");
    }
    for parameter in operation.parameters.iter().flatten() {
        match place(parameter) {
            Some(ParameterIn::Path) => add("404", "Not found, or another tenant's"),
            Some(ParameterIn::Query) if path != FOR_PROXIES => add("400", "Malformed input; `field` names the member"),
            _ => {}
        }
    }
    if !FROM_MEMORY.contains(&path) {
        add("503", "Temporarily unavailable; see Retry-After");
    }
    if Version::of_path(path) == Some(Version::V1) && config.api_v1.sunset.is_some() {
        add("410", "This version of the API is past its sunset");
    }
    add("431", "The head of the request is too large");
    add("500", "A bug; the request id helps to find it");
}

fn place(parameter: &RefOr<Parameter>) -> Option<&ParameterIn> {
    match parameter {
        RefOr::T(parameter) => Some(&parameter.parameter_in),
        RefOr::Ref(_) => None,
    }
}
