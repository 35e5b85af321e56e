//! The OpenAPI schemas of public keys, which [`ClientKeys`](crate::token::client_keys::ClientKeys) parses.
#![expect(dead_code, reason = "describes JSON")]

use utoipa::ToSchema;

/// A JWK Set of public keys (RFC 7517). Each `kid` must be unique. A key must not have private members. `key_ops`, if
/// present, must contain `verify`.
#[derive(ToSchema)]
pub(super) struct PublicKeys {
    #[schema(min_items = 1, max_items = 4)]
    keys: Vec<PublicKey>,
}

/// The stored JWK Set of a domain.
#[derive(ToSchema)]
pub(super) struct PresentKeys {
    #[schema(max_items = 4)]
    keys: Vec<PublicKey>,
}

/// A public key.
#[derive(ToSchema)]
#[serde(untagged)]
enum PublicKey {
    Ec(EcPublicKey),
    Okp(OkpPublicKey),
    Rsa(RsaPublicKey),
}

/// A key on the curve P-256, for ES256.
#[derive(ToSchema)]
struct EcPublicKey {
    #[schema(pattern = "^EC$")]
    kty: String,
    #[schema(pattern = "^P-256$")]
    crv: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{43}$")]
    x: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{43}$")]
    y: String,
    #[schema(nullable = false, pattern = "^[!-~]{1,128}$")]
    kid: Option<String>,
    #[schema(nullable = false, pattern = "^ES256$")]
    alg: Option<String>,
    #[serde(rename = "use")]
    #[schema(nullable = false, pattern = "^sig$")]
    usage: Option<String>,
}

/// A key on the curve Ed25519, for EdDSA.
#[derive(ToSchema)]
struct OkpPublicKey {
    #[schema(pattern = "^OKP$")]
    kty: String,
    #[schema(pattern = "^Ed25519$")]
    crv: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{43}$")]
    x: String,
    #[schema(nullable = false, pattern = "^[!-~]{1,128}$")]
    kid: Option<String>,
    #[schema(nullable = false, pattern = "^(EdDSA|Ed25519)$")]
    alg: Option<String>,
    #[serde(rename = "use")]
    #[schema(nullable = false, pattern = "^sig$")]
    usage: Option<String>,
}

/// An RSA key of 2048 to 4096 bits, for RS256.
#[derive(ToSchema)]
struct RsaPublicKey {
    #[schema(pattern = "^RSA$")]
    kty: String,
    #[schema(pattern = "^[A-Za-z0-9_-]{342,683}$")]
    n: String,
    #[schema(pattern = "^AQAB$")]
    e: String,
    #[schema(nullable = false, pattern = "^[!-~]{1,128}$")]
    kid: Option<String>,
    #[schema(nullable = false, pattern = "^RS256$")]
    alg: Option<String>,
    #[serde(rename = "use")]
    #[schema(nullable = false, pattern = "^sig$")]
    usage: Option<String>,
}
