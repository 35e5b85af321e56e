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

/// A type of key: the patterns of `kty` and `alg`, and its own members with their patterns.
macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $kty:tt, $alg:tt, { $($member:ident: $pattern:tt),* }) => {
        $(#[$doc])*
        #[derive(ToSchema)]
        struct $name {
            #[schema(pattern = $kty)]
            kty: String,
            $(
                #[schema(pattern = $pattern)]
                $member: String,
            )*
            #[schema(nullable = false, pattern = "^[!-~]{1,128}$")]
            kid: Option<String>,
            #[schema(nullable = false, pattern = $alg)]
            alg: Option<String>,
            #[serde(rename = "use")]
            #[schema(nullable = false, pattern = "^sig$")]
            usage: Option<String>,
        }
    };
}

public_key! {
    /// A key on the curve P-256, for ES256.
    EcPublicKey, "^EC$", "^ES256$", { crv: "^P-256$", x: "^[A-Za-z0-9_-]{43}$", y: "^[A-Za-z0-9_-]{43}$" }
}
public_key! {
    /// A key on the curve Ed25519, for EdDSA.
    OkpPublicKey, "^OKP$", "^(EdDSA|Ed25519)$", { crv: "^Ed25519$", x: "^[A-Za-z0-9_-]{43}$" }
}
public_key! {
    /// An RSA key of 2048 to 4096 bits, for RS256.
    RsaPublicKey, "^RSA$", "^RS256$", { n: "^[A-Za-z0-9_-]{342,683}$", e: "^AQAB$" }
}
