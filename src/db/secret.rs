//! Rows of `secrets`: digests of client secrets, several per domain.

use diesel::prelude::*;

use super::schema::secrets;
use super::{Conn, domain};
use crate::id::{DomainId, SecretId};
use crate::secret::{ClientSecret, SecretDigest};

/// What the directory keeps of a client secret.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = secrets)]
pub struct Secret {
    /// Its number.
    pub id: SecretId,
    /// Whose it is.
    pub domain_id: DomainId,
    /// The key it is found by.
    pub digest: SecretDigest,
    /// Unix seconds from which it no longer works; `None` is never.
    pub expires_at: Option<i64>,
}

/// Adds a secret that works until it is retired.
pub fn insert(conn: &mut Conn, domain: DomainId, secret: &ClientSecret, now: i64) -> QueryResult<()> {
    diesel::insert_into(secrets::table)
        .values((
            secrets::domain_id.eq(domain),
            secrets::digest.eq(secret.digest()),
            secrets::hint.eq(secret.hint()),
            secrets::created_at.eq(now),
        ))
        .execute(conn)
        .map(drop)
}

/// The domain that a secret is of, whether or not it works still.
pub fn find(conn: &mut Conn, digest: SecretDigest) -> QueryResult<Option<DomainId>> {
    secrets::table.filter(secrets::digest.eq(digest)).select(secrets::domain_id).first(conn).optional()
}

/// Adds a new secret and retires the others: `grace` seconds from now, or, with 0, at once, which also ends
/// every token that was issued before. A deadline that is nearer stays.
pub fn rotate(conn: &mut Conn, domain: DomainId, new: &ClientSecret, grace: i64, now: i64) -> QueryResult<()> {
    let others = secrets::table.filter(secrets::domain_id.eq(domain));
    if grace == 0 {
        diesel::delete(others).execute(conn)?;
        domain::raise_generation(conn, domain)?;
    } else {
        let deadline = now + grace;
        let later = secrets::expires_at.is_null().or(secrets::expires_at.gt(deadline));
        diesel::update(others.filter(later)).set(secrets::expires_at.eq(deadline)).execute(conn)?;
    }
    insert(conn, domain, new, now)
}
