//! `GET /openapi.json`. The document joins what each handler's `#[utoipa::path]` describes with what follows from the facts of
//! its route: path, credentials and refusals.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::http::{Method, StatusCode};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use utoipa::openapi::info::LicenseBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Header, HeaderBuilder, Info, OpenApi, PathItem, Paths, Ref, RefOr, Response, ResponseBuilder,
    Server,
};
use utoipa::{PartialSchema, ToSchema};

use crate::config::Config;
use crate::error::ErrorBody;
use crate::gate::routes::{self, Credentials, Kind, Limit, Routes};
use crate::gate::versions;

/// The document as JSON.
pub(crate) struct Document(Bytes);

impl Document {
    /// Describes all routes that have a description.
    pub(crate) fn of(routes: &Routes, config: &Config) -> Document {
        let mut info = Info::new("Gatebird", env!("CARGO_PKG_VERSION"));
        info.description = Some("The gate in front of an API that other people's domains call.".into());
        // Without an identifier, openapi-generator refuses the document.
        info.license = Some(LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build());
        let mut api = OpenApi::new(info, Paths::new());
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
        for route in routes.operations() {
            let Some(describe) = route.description else { continue };
            let OpenApi { paths, components: described, .. } = describe();
            components.schemas.extend(described.unwrap_or_default().schemas);
            let operation = paths.paths.into_values().find_map(|mut item| of_method(&mut item, &route.method).take());
            let mut operation = operation.unwrap_or_else(|| panic!("{} is described with another method", route.path));
            operation.security = Some(security(route.credentials));
            refusals(route, &mut operation, config, &mut components.responses);
            *of_method(api.paths.paths.entry(route.path.into()).or_default(), &route.method) = Some(operation);
        }
        Document(api.to_json().expect("the document is plain data").into())
    }
}

/// Describe this API.
#[utoipa::path(
    get, path = "", tag = "documents",
    operation_id = "openapi",
    responses((status = 200, description = "This document", body = Object)),
)]
pub(crate) async fn document(document: web::Data<Document>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(document.0.clone())
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

/// The operation of a method.
fn of_method<'a>(item: &'a mut PathItem, method: &Method) -> &'a mut Option<Operation> {
    match *method {
        Method::GET => &mut item.get,
        Method::POST => &mut item.post,
        Method::PUT => &mut item.put,
        Method::PATCH => &mut item.patch,
        Method::DELETE => &mut item.delete,
        Method::OPTIONS => &mut item.options,
        Method::HEAD => &mut item.head,
        _ => &mut item.trace,
    }
}

/// The alternatives of credentials. No credentials are an empty list: openapi-python-client reads a list with an empty
/// requirement as a demand.
fn security(credentials: Credentials) -> Vec<SecurityRequirement> {
    let scheme = |name, scope: Option<&str>| SecurityRequirement::new::<&str, _, _>(name, scope);
    match credentials {
        Credentials::Anonymous | Credentials::Secret => vec![],
        // The form can have the credentials instead.
        Credentials::Client => vec![scheme("client", None), SecurityRequirement::default()],
        Credentials::Token => vec![scheme("token", None)],
        Credentials::Scoped(scope) => vec![scheme("token", Some(scope))],
        Credentials::UserToken => vec![scheme("userToken", None)],
    }
}

/// Adds the refusals that follow from the facts of a route and from what its operation takes, unless its description has
/// them. Operations share the descriptions in `components`.
fn refusals(
    route: &routes::Operation,
    operation: &mut Operation,
    config: &Config,
    components: &mut BTreeMap<String, RefOr<Response>>,
) {
    use Credentials::{Client, Scoped, Secret, Token, UserToken};
    // A proxy knows 401 and 403 only. The operation describes them.
    let is_proxy_check = route.kind == Kind::ProxyCheck;
    let takes_token = matches!(route.credentials, Token | Scoped(_) | UserToken) && !is_proxy_check;
    let takes_client = matches!(route.credentials, Client | Secret);
    let takes_body = operation.request_body.is_some();
    let parameters = operation.parameters.iter().flatten().filter_map(place);
    let (mut in_path, mut in_query, mut in_header) = (false, false, false);
    parameters.for_each(|place| match place {
        ParameterIn::Path => in_path = true,
        ParameterIn::Query => in_query = !is_proxy_check,
        ParameterIn::Header => in_header = true,
        _ => {}
    });
    let ends = versions::is_v1(route.path) && config.api_v1.sunset.is_some();
    let tells_expired = takes_token && config.expired_token_status != StatusCode::UNAUTHORIZED;
    let is_limited = takes_client || takes_token && route.limit != Limit::None;
    let demands_more = matches!(route.credentials, Scoped(_) | UserToken);
    let table = [
        (takes_token, "401", "NoToken", "No token, or one that is not valid or revoked"),
        (takes_client, "401", "NoClient", "No credentials of a client, or wrong ones"),
        (tells_expired, "419", "Expired", "The token has expired"),
        (is_limited, "429", "OverLimit", "Over a limit of the plan, the account or the network; `reason` tells which"),
        (demands_more, "403", "Forbidden", "The token lacks the scope, or is of the wrong kind"),
        (takes_body || in_query, "400", "Malformed", "Malformed input; `field` names the member"),
        (takes_body, "408", "RequestTimeout", "The request did not arrive in time"),
        (takes_body, "413", "TooLarge", "The body is too large"),
        (takes_body, "415", "MediaType", "The content type is not accepted"),
        (in_path, "404", "NotFound", "Not found, or another tenant's"),
        // `If-Match` is the only header that is a parameter.
        (in_header, "412", "Changed", "It is no longer as `If-Match` demands"),
        (route.kind != Kind::Status, "503", "Unavailable", "Temporarily unavailable; nothing was changed"),
        (ends, "410", "Gone", "This version of the API is past its sunset"),
        (!is_proxy_check, "405", "Method", "The path has no such method"),
        (true, "431", "HeadTooLarge", "The head of the request is too large"),
        (true, "500", "Internal", "A bug; the request id helps to find it"),
    ];
    for (_, status, name, description) in table.into_iter().filter(|(applies, ..)| *applies) {
        if let Entry::Vacant(undescribed) = operation.responses.responses.entry(status.into()) {
            undescribed.insert(Ref::from_response_name(name).into());
            components.entry(name.into()).or_insert_with(|| refusal(status, description));
        }
    }
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
