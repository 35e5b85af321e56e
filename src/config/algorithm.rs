//! The algorithms that tokens can be signed with, as settings, headers and rows name them.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;

/// How tokens are signed (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
pub enum Algorithm {
    /// HMAC with SHA-256. Whoever verifies could sign, so its key is for our own nodes only.
    Hs256,
    /// ECDSA on P-256 with SHA-256, which every verifier knows.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSA PKCS#1 v1.5 with SHA-256 and 2048 bits.
    Rs256,
}

impl Algorithm {
    /// Those with a public half, in the order in which we recommend them.
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

    /// Whether that is a name of it: RFC 9864 calls `Ed25519` what `EdDSA` stands for here, and some libraries know the new
    /// name only.
    pub fn goes_by(self, name: &str) -> bool {
        name == self.name() || self == Algorithm::EdDsa && name == "Ed25519"
    }

    /// The one of that name with a public half.
    pub fn parse_public(name: &str) -> Option<Algorithm> {
        Algorithm::PUBLIC.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The same to the library that verifies.
    pub(crate) fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

impl<DB: Backend> ToSql<Text, DB> for Algorithm
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.name().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Text, DB> for Algorithm
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let text = String::from_sql(bytes)?;
        Algorithm::parse_public(&text).ok_or_else(|| format!("not an algorithm of a kept key: {text:?}").into())
    }
}
