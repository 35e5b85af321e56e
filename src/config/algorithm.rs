//! The signature algorithms of tokens.

use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::sql_types::Text;

use crate::column::stored;

/// A signature algorithm of tokens (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum Algorithm {
    /// HMAC with SHA-256. The key that verifies can also sign, so only this service's nodes may have it.
    Hs256,
    /// ECDSA on P-256 with SHA-256. Supported by every verifier.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSA PKCS#1 v1.5 with SHA-256 and a key of 2048 bits.
    Rs256,
}

impl Algorithm {
    /// The algorithms with a public key, the recommended one first.
    pub const PUBLIC: [Algorithm; 3] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];

    /// The value of `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
            Algorithm::Rs256 => "RS256",
        }
    }

    /// Whether `name` is a name of the algorithm. EdDSA is also called `Ed25519` (RFC 9864), and some libraries know
    /// only that name.
    pub fn has_name(self, name: &str) -> bool {
        name == self.name() || self == Algorithm::EdDsa && name == "Ed25519"
    }

    /// Parses the name of an algorithm with a public key.
    pub fn parse_public(name: &str) -> Option<Algorithm> {
        Algorithm::PUBLIC.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(crate) fn to_jsonwebtoken(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

stored!(Algorithm: Text, |algorithm| algorithm.name(), |name| {
    Algorithm::parse_public(&name).ok_or_else(|| {
        format!("a signing key has the algorithm {name:?}, which this gatebird does not know").into()
    })
});
