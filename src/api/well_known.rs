//! Authorization server metadata (RFC 8414) and the key set (RFC 7517). Nothing in them comes from the request.

use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::config::Algorithm;
use crate::token::keyring::JWKS_MAX_AGE;

/// How clients authenticate at every endpoint (RFC 6749 §2.3.1, RFC 7523).
const CLIENT_AUTHENTICATION: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/// Algorithms of client assertions. EdDSA has two names (RFC 9864).
const ASSERTION_ALGORITHMS: [&str; 4] = ["ES256", "EdDSA", "Ed25519", "RS256"];

/// Authorization server metadata (RFC 8414 §2).
#[derive(Serialize, ToSchema)]
struct Metadata<'a> {
    /// The `iss` of every token.
    issuer: &'a str,
    token_endpoint: String,
    /// Absent with HS256, which has no public keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    jwks_uri: Option<String>,
    scopes_supported: Vec<&'a str>,
    /// Empty, because there is no authorization endpoint.
    response_types_supported: [&'a str; 0],
    /// A subject has the same id for every client.
    subject_types_supported: [&'a str; 1],
    /// The algorithm of access tokens. The server issues no ID tokens, but OpenID libraries read the algorithm here.
    id_token_signing_alg_values_supported: [&'a str; 1],
    grant_types_supported: [&'a str; 1],
    token_endpoint_auth_methods_supported: [&'a str; 3],
    token_endpoint_auth_signing_alg_values_supported: [&'a str; 4],
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: [&'a str; 3],
    revocation_endpoint_auth_signing_alg_values_supported: [&'a str; 4],
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: [&'a str; 3],
    introspection_endpoint_auth_signing_alg_values_supported: [&'a str; 4],
}

/// Return the authorization server metadata (RFC 8414).
#[utoipa::path(
    get, path = "", tag = "documents",
    operation_id = "metadata",
    responses((status = 200, description = "Authorization server metadata", body = Metadata)),
)]
pub(crate) async fn metadata(app: web::Data<App>) -> HttpResponse {
    let config = &app.config;
    let at = |path: &str| format!("{}{path}", config.public_url);
    let described = Metadata {
        issuer: &config.issuer,
        token_endpoint: at("/token"),
        jwks_uri: (config.jwt_algorithm != Algorithm::Hs256).then(|| at("/.well-known/jwks.json")),
        scopes_supported: config.scopes.split(' ').collect(),
        response_types_supported: [],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: [config.jwt_algorithm.name()],
        grant_types_supported: ["client_credentials"],
        token_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION,
        token_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
        revocation_endpoint: at("/revoke"),
        revocation_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION,
        revocation_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
        introspection_endpoint: at("/introspect"),
        introspection_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION,
        introspection_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
    };
    HttpResponse::Ok().insert_header(cacheable()).json(described)
}

/// Return the same metadata at the path where OpenID libraries look for it.
#[utoipa::path(
    get, path = "", tag = "documents",
    operation_id = "openidConfiguration",
    responses((status = 200, description = "Authorization server metadata", body = Metadata)),
)]
pub(crate) async fn openid_configuration(app: web::Data<App>) -> HttpResponse {
    metadata(app).await
}

/// A JWK Set (RFC 7517 §5).
#[derive(Serialize, ToSchema)]
struct KeySet<T> {
    /// The public keys. Empty with HS256, whose key is secret.
    #[schema(value_type = Vec<Object>)]
    keys: T,
}

/// Return the public keys that verify tokens, with the next one.
#[utoipa::path(
    get, path = "", tag = "documents",
    operation_id = "jwks",
    responses((status = 200, description = "A JWK Set", body = inline(KeySet<Vec<String>>))),
)]
pub(crate) async fn jwks(app: web::Data<App>) -> HttpResponse {
    let keyring = app.directory.keyring();
    HttpResponse::Ok().insert_header(cacheable()).json(KeySet { keys: keyring.published(app.now()) })
}

fn cacheable() -> (actix_web::http::header::HeaderName, HeaderValue) {
    let value = format!("public, max-age={JWKS_MAX_AGE}");
    (CACHE_CONTROL, HeaderValue::try_from(value).expect("a number is ASCII"))
}
