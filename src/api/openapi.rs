//! `GET /openapi.json`: what the registration of the handlers wrote, completed with what holds for all of them, so that
//! no handler has to repeat it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use actix_web::http::StatusCode;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, get, web};
use utoipa::openapi::info::LicenseBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Header, HeaderBuilder, Info, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder, Server,
};
use utoipa::{PartialSchema, ToSchema};

use crate::config::Config;
use crate::error::ErrorBody;
use crate::gate::routes::{FOR_PROXIES, PUBLIC_DOCUMENTS, Routes, demands};
use crate::gate::versions::Version;

/// Describe this API.
#[utoipa::path(
    tag = PUBLIC_DOCUMENTS,
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
    // Without an identifier, openapi-generator refuses the document.
    info.license = Some(LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build());
    api.info = info;
    api.servers = Some(vec![Server::new(&config.public_url)]);
    let components = api.components.get_or_insert_default();
    components.schemas.insert(ErrorBody::name().into(), ErrorBody::schema());
    components.schemas.insert(SCOPES.into(), some_of(config.scopes.split(' ')));
    components.schemas.insert(AUDIENCES.into(), some_of(config.audiences.iter().map(String::as_str)));
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
            // A list with an empty requirement demands credentials in the eyes of openapi-python-client.
            operation.security.take_if(|demands| *demands == [SecurityRequirement::default()]);
            operation.security.get_or_insert_default();
            refusals(path, operation, changes, config, &mut components.responses);
        }
    }
}

const SCOPES: &str = "Scopes";
const AUDIENCES: &str = "Audiences";

/// Refers to the schema of a list of scopes that the server knows.
pub(super) fn known_scopes() -> Ref {
    Ref::from_schema_name(SCOPES)
}

/// Refers to the schema of a list of audiences that the server knows.
pub(super) fn known_audiences() -> Ref {
    Ref::from_schema_name(AUDIENCES)
}

/// The schema of a list with some of these names, each once.
fn some_of<'a>(names: impl Iterator<Item = &'a str>) -> RefOr<Schema> {
    let name = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    Schema::from(ArrayBuilder::new().items(name).min_items(Some(1)).unique_items(true)).into()
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

/// Takes nothing from a plan's limit.
const FREE_OF_CHARGE: &str = "/revoke";

/// Answers whatever the state of the server is.
const LIVENESS: &str = "/healthz";

/// Adds every refusal that follows from what an operation takes and demands. Operations share the descriptions in
/// `components`.
fn refusals(
    path: &str,
    operation: &mut Operation,
    changes: bool,
    config: &Config,
    components: &mut BTreeMap<String, RefOr<Response>>,
) {
    let demands = |text: &str| demands(operation.security.as_deref(), text);
    let mut add = |status: &str, name: &str, description: &str| {
        if let Entry::Vacant(undescribed) = operation.responses.responses.entry(status.into()) {
            undescribed.insert(Ref::from_response_name(name).into());
            components.entry(name.into()).or_insert_with(|| refusal(status, description));
        }
    };
    // `/verify` describes its refusals itself: 401 and 403 stand for all.
    if demands("oken\"") && path != FOR_PROXIES {
        add("401", "NoToken", "No token, or one that is not valid or revoked");
        if config.expired_token_status != StatusCode::UNAUTHORIZED {
            add("419", "Expired", "The token has expired");
        }
        match changes {
            true => add(
                "429",
                "OverAccount",
                "Too many changes by the account, or over the limit of the domain's plan; `reason` tells which",
            ),
            false => add("429", "OverPlan", "Over the limit of the domain's plan"),
        }
    }
    if demands("userToken") || demands(":read") || demands(":write") {
        add("403", "Forbidden", "The token lacks the scope, or is of the wrong kind");
    }
    if demands("\"client\"") {
        add("401", "NoClient", "No credentials of a client, or wrong ones");
        match path == FREE_OF_CHARGE {
            true => add(
                "429",
                "OverNetwork",
                "Too many requests or wrong credentials from the network; `reason` tells which",
            ),
            false => add(
                "429",
                "OverLimit",
                "Over the limit of the domain's plan, or too many requests or wrong credentials from the network; `reason` tells which",
            ),
        }
    }
    if operation.request_body.is_some() {
        add("400", "Malformed", "Malformed input; `field` names the member");
        add("408", "TooSlow", "The request did not arrive in time");
        add("413", "TooLarge", "The body is too large");
        add("415", "MediaType", "The content type is not accepted");
    }
    for parameter in operation.parameters.iter().flatten() {
        match place(parameter) {
            Some(ParameterIn::Path) => add("404", "NotFound", "Not found, or another tenant's"),
            Some(ParameterIn::Query) if path != FOR_PROXIES => {
                add("400", "Malformed", "Malformed input; `field` names the member");
            }
            // The only header that is a parameter.
            Some(ParameterIn::Header) => add("412", "Changed", "It is no longer as `If-Match` demands"),
            _ => {}
        }
    }
    if path != LIVENESS {
        add("503", "Unavailable", "Temporarily unavailable; nothing was changed");
    }
    if Version::of_path(path) == Some(Version::V1) && config.api_v1.sunset.is_some() {
        add("410", "Gone", "This version of the API is past its sunset");
    }
    if path != FOR_PROXIES {
        add("405", "Method", "The path has no such method");
    }
    add("431", "HeadTooLarge", "The head of the request is too large");
    add("500", "Internal", "A bug; the request id helps to find it");
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response {
            response.headers.extend(header_of(status));
        }
    }
}

/// Describes a refusal.
fn refusal(status: &str, description: &str) -> RefOr<Response> {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ErrorBody::name()))).build();
    let mut response = ResponseBuilder::new().description(description).content("application/json", content).build();
    response.headers.extend(header_of(status));
    response.into()
}

/// The header that belongs to a status.
fn header_of(status: &str) -> Option<(String, RefOr<Header>)> {
    let (name, kind, description) = match status {
        "401" | "419" => ("WWW-Authenticate", Type::String, "The challenge"),
        "403" => ("WWW-Authenticate", Type::String, "The challenge, where another token would be accepted"),
        "405" => ("Allow", Type::String, "The methods of the path"),
        "429" | "503" => ("Retry-After", Type::Integer, "Seconds to wait, at least 1"),
        _ => return None,
    };
    let schema = ObjectBuilder::new().schema_type(kind);
    let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build();
    Some((name.into(), header.into()))
}

fn place(parameter: &RefOr<Parameter>) -> Option<&ParameterIn> {
    match parameter {
        RefOr::T(parameter) => Some(&parameter.parameter_in),
        RefOr::Ref(_) => None,
    }
}
