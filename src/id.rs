//! Identifiers as types, so that a post's number cannot be taken for a user's. They come from a database row or a
//! parsed public form, never from a plain number.

use std::cell::RefCell;
use std::fmt;
use std::hash::{Hash, Hasher};

use data_encoding::HEXLOWER;
use diesel::deserialize::FromSqlRow;
use diesel::expression::AsExpression;
use diesel::sql_types::{BigInt, Binary, Text};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::column::stored;

/// The only characters of public ids and secrets after their prefix. URL encoding does not change them.
pub(crate) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Returns random bytes of the system.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    bytes
}

/// Fills `into` with uniformly random base62 characters.
pub(crate) fn random_base62(into: &mut [u8]) {
    let mut filled = 0;
    while filled < into.len() {
        // 248 is the largest multiple of 62 in a byte. The remainder of a larger byte would favour the first
        // characters.
        for byte in random_bytes::<64>().into_iter().filter(|byte| *byte < 248) {
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
        UserId(i64::from_ne_bytes(random_bytes()) & ((1 << 52) - 1) | 1 << 52)
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

stored!(UserId: BigInt, |id| &id.0, |number| Ok(UserId(number)));
stored!(PostId: BigInt, |id| &id.0, |number| Ok(PostId(number)));
stored!(SecretId: BigInt, |id| &id.0, |number| Ok(SecretId(number)));
stored!(DomainId: Text, DomainId::as_str, |text| {
    DomainId::parse(&text).ok_or_else(|| format!("not a domain id: {text:?}").into())
});
stored!(TokenId: Binary, |id| &id.0, |bytes| Ok(TokenId(sixteen(bytes)?)));
stored!(Stamp: Binary, |stamp| &stamp.0, |bytes| Ok(Stamp(sixteen(bytes)?)));

fn sixteen(bytes: Vec<u8>) -> Result<[u8; 16], &'static str> {
    bytes.try_into().map_err(|_| "an id or a stamp has 16 bytes")
}

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
                batch.extend(random_bytes::<{ 64 * 16 }>().as_chunks().0.iter().copied().map(TokenId));
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
        Stamp(random_bytes())
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
