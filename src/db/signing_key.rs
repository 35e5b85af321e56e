//! Rows of `signing_keys`: sealed private keys with the times at which they sign.

use diesel::prelude::*;

use super::Conn;
use super::schema::signing_keys;
use crate::config::Algorithm;
use crate::token::keyring::KeyTimes;

/// A stored key.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys)]
pub struct SigningKey {
    /// The RFC 7638 thumbprint.
    pub kid: String,
    /// The algorithm of the key.
    pub algorithm: Algorithm,
    /// The private key. See [`crate::token::seal`].
    pub sealed: Vec<u8>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds. The key signs from then on, until a key with a later time does.
    pub signs_from: i64,
    /// Unix seconds. Set if no key follows because JWT_ALGORITHM became HS256.
    pub signs_until: Option<i64>,
}

impl SigningKey {
    /// Returns when the key signs.
    pub fn times(&self) -> KeyTimes {
        KeyTimes { signs_from: self.signs_from, signs_until: self.signs_until }
    }
}

/// Returns all keys in the order in which they sign.
pub fn list(conn: &mut Conn) -> QueryResult<Vec<SigningKey>> {
    signing_keys::table.order((signing_keys::signs_from, signing_keys::kid)).select(SigningKey::as_select()).load(conn)
}

/// Inserts a key.
pub fn insert(conn: &mut Conn, key: &SigningKey) -> QueryResult<()> {
    diesel::insert_into(signing_keys::table).values(key).execute(conn).map(drop)
}

/// Deletes a key, which invalidates its tokens. Returns `false` if there is none.
pub fn delete(conn: &mut Conn, kid: &str) -> QueryResult<bool> {
    diesel::delete(signing_keys::table.find(kid)).execute(conn).map(|rows| rows > 0)
}

/// Stores a key that was sealed again.
pub fn set_sealed(conn: &mut Conn, kid: &str, sealed: &[u8]) -> QueryResult<()> {
    diesel::update(signing_keys::table.find(kid)).set(signing_keys::sealed.eq(sealed)).execute(conn).map(drop)
}

/// Sets the time from which a key signs, in Unix seconds.
pub fn set_signs_from(conn: &mut Conn, kid: &str, signs_from: i64) -> QueryResult<()> {
    diesel::update(signing_keys::table.find(kid)).set(signing_keys::signs_from.eq(signs_from)).execute(conn).map(drop)
}

/// Ends the signing of every key that has no end yet.
pub fn end_signing(conn: &mut Conn, now: i64) -> QueryResult<()> {
    diesel::update(signing_keys::table.filter(signing_keys::signs_until.is_null()))
        .set(signing_keys::signs_until.eq(now))
        .execute(conn)
        .map(drop)
}
