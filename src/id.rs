//! Identifiers as types, so that a post's number cannot be taken for a user's. They come from a database row or a
//! parsed public form, never from a plain number.

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};

use data_encoding::HEXLOWER;
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::{BigInt, Binary, Text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The only characters of public ids and secrets after their prefix. URL encoding does not change them.
pub(crate) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Fills `into` with uniformly random base62 characters.
pub(crate) fn random_base62(into: &mut [u8]) {
    let mut filled = 0;
    while filled < into.len() {
        let mut random = [0_u8; 64];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
        // 248 is the largest multiple of 62 in a byte. The remainder of a larger byte would favour the first
        // characters.
        for byte in random.into_iter().filter(|byte| *byte < 248) {
            if filled < into.len() {
                into[filled] = BASE62[usize::from(byte % 62)];
                filled += 1;
            }
        }
    }
}

/// Parses a number of a path or query: canonical decimal, without a sign or leading zeros.
pub(crate) fn number(text: &str) -> Option<i64> {
    let number: i64 = text.parse().ok()?;
    (number >= 0 && number.to_string() == text).then_some(number)
}

/// A user's number. The user is the tenant: all data belongs to one user. Only a database row or an extractor gives
/// one, so a handler cannot make one from client input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = BigInt)]
pub struct UserId(i64);

impl UserId {
    /// The number, as in the `id` claim and in JSON.
    pub fn get(self) -> i64 {
        self.0
    }

    /// A random number of 16 digits, from 2^52 to 2^53, which JavaScript represents exactly. A sequence could give the
    /// same number to two people after a restore of the database.
    pub(crate) fn random() -> UserId {
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
        UserId(i64::from_ne_bytes(random) & ((1 << 52) - 1) | 1 << 52)
    }
}

/// The subject of a user token: `usr_` and the user's number.
impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "usr_{}", self.0)
    }
}

/// A post's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow, ToSchema)]
#[diesel(sql_type = BigInt)]
#[schema(minimum = 1)]
pub struct PostId(i64);

impl PostId {
    /// Parses the canonical decimal form.
    pub fn parse(text: &str) -> Option<PostId> {
        number(text).filter(|number| *number > 0).map(PostId)
    }

    /// The number, as in JSON.
    pub fn get(self) -> i64 {
        self.0
    }
}

macro_rules! number_in_sql {
    ($id:ty) => {
        impl<DB: Backend> ToSql<BigInt, DB> for $id
        where
            i64: ToSql<BigInt, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.0.to_sql(out)
            }
        }
        impl<DB: Backend> FromSql<BigInt, DB> for $id
        where
            i64: FromSql<BigInt, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                i64::from_sql(bytes).map(Self)
            }
        }
    };
}
number_in_sql!(UserId);
number_in_sql!(PostId);

const DOMAIN_PREFIX: &str = "dom_";
const DOMAIN_LENGTH: usize = 26;

/// A domain's public id and OAuth 2.0 `client_id`: `dom_` and 22 random base62 characters (130 bits). It is stored
/// inline, because every token contains it twice.
#[derive(Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow, ToSchema)]
#[diesel(sql_type = Text)]
#[schema(value_type = String, pattern = "^dom_[0-9A-Za-z]{22}$")]
pub struct DomainId([u8; DOMAIN_LENGTH]);

/// Hashes eight of the random characters, since each request looks up a domain.
impl Hash for DomainId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let random = self.0[DOMAIN_PREFIX.len()..].first_chunk().copied().unwrap_or_default();
        state.write_u64(u64::from_ne_bytes(random));
    }
}

impl DomainId {
    /// A new random id.
    pub fn random() -> DomainId {
        let mut id = [0; DOMAIN_LENGTH];
        id[..DOMAIN_PREFIX.len()].copy_from_slice(DOMAIN_PREFIX.as_bytes());
        random_base62(&mut id[DOMAIN_PREFIX.len()..]);
        DomainId(id)
    }

    /// Parses the public form.
    pub fn parse(text: &str) -> Option<DomainId> {
        let id: [u8; DOMAIN_LENGTH] = text.as_bytes().try_into().ok()?;
        let random = id.strip_prefix(DOMAIN_PREFIX.as_bytes())?;
        random.iter().all(u8::is_ascii_alphanumeric).then_some(DomainId(id))
    }

    /// The public form.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a domain id is ASCII")
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<DB: Backend> ToSql<Text, DB> for DomainId
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.as_str().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Text, DB> for DomainId
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let text = String::from_sql(bytes)?;
        DomainId::parse(&text).ok_or_else(|| format!("not a domain id: {text:?}").into())
    }
}

/// A client secret's number, unique among all domains. It does not depend on the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, AsExpression, FromSqlRow, ToSchema)]
#[diesel(sql_type = BigInt)]
#[schema(minimum = 1)]
pub struct SecretId(i64);

impl SecretId {
    /// Parses the canonical decimal form.
    pub fn parse(text: &str) -> Option<SecretId> {
        number(text).filter(|number| *number > 0).map(SecretId)
    }

    /// The number, as in JSON.
    pub fn get(self) -> i64 {
        self.0
    }
}
number_in_sql!(SecretId);

/// Ids as a database row would give them, for tests without a database.
#[cfg(test)]
pub(crate) fn of_row(user: i64, secret: i64) -> (UserId, SecretId) {
    (UserId(user), SecretId(secret))
}

/// A token's `jti`: 128 random bits, in the token as 32 hexadecimal digits. Revocations name this id and not the
/// token's bytes, because one token can have two valid encodings (an ECDSA signature can be negated).
#[derive(Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = Binary)]
pub struct TokenId([u8; 16]);

impl TokenId {
    /// A new random id.
    pub fn random() -> TokenId {
        thread_local!(static BATCH: RefCell<Vec<TokenId>> = const { RefCell::new(Vec::new()) });
        // One call for many ids: the call costs much more than its random bytes. An id is no secret, so it may stay in
        // memory.
        BATCH.with_borrow_mut(|batch| {
            if batch.is_empty() {
                let mut random = [0; 64 * 16];
                aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
                batch.extend(random.as_chunks().0.iter().copied().map(TokenId));
            }
            batch.pop().expect("the batch was just filled")
        })
    }

    /// Parses the form that [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<TokenId> {
        let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let mut id = [0; 16];
        HEXLOWER.decode_mut(digits, &mut id).ok()?;
        Some(TokenId(id))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEXLOWER.encode_mut_str(&self.0, &mut [0; 32]))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 16 random bytes that identify a state of a database: its epoch, or the mark in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, AsExpression, FromSqlRow, Serialize, Deserialize)]
#[diesel(sql_type = Binary)]
pub struct Stamp([u8; 16]);

impl Stamp {
    /// A new random stamp.
    pub fn random() -> Stamp {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
        Stamp(random)
    }

    /// The bytes as the database stores them.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The stamp as a random number of 62 bits.
    pub(crate) fn as_number(self) -> i64 {
        (u128::from_ne_bytes(self.0) >> 66) as i64
    }
}

macro_rules! bytes_in_sql {
    ($id:ident) => {
        impl<DB: Backend> ToSql<Binary, DB> for $id
        where
            [u8]: ToSql<Binary, DB>,
        {
            fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
                self.0.as_slice().to_sql(out)
            }
        }
        impl<DB: Backend> FromSql<Binary, DB> for $id
        where
            Vec<u8>: FromSql<Binary, DB>,
        {
            fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
                let bytes = Vec::<u8>::from_sql(bytes)?;
                bytes.try_into().map($id).map_err(|_| concat!(stringify!($id), " has 16 bytes").into())
            }
        }
    };
}
bytes_in_sql!(TokenId);
bytes_in_sql!(Stamp);
