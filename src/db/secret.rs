//! Rows of `secrets`: digests of client secrets, several per domain. An owner's functions take the tenant.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::audit::Actor;
use super::schema::{domains, secret_uses, secrets};
use super::{Conn, batch, columns, domain, trusted_time};
use crate::id::{DomainId, SecretId, UserId};
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
    /// Its domain is dormant.
    pub dormant: bool,
}

/// What an owner may see of a secret.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = secrets)]
pub struct Shown {
    /// Its number.
    pub id: SecretId,
    /// Its last characters.
    pub hint: String,
    /// Unix seconds.
    pub created_at: i64,
    /// See [`Secret::expires_at`].
    pub expires_at: Option<i64>,
    /// Who made it, as [`Who`](super::audit::Who) writes it; `None` of a secret from before this was noted.
    pub created_by: Option<String>,
    /// The network address that the request came from, if it was one.
    pub created_from: Option<String>,
}

/// When a secret was last used.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = secret_uses)]
pub struct Used {
    /// Unix seconds.
    pub used_at: i64,
    /// The network address.
    pub used_from: Option<String>,
    /// Unix seconds at which it first came from a browser.
    pub leaked_at: Option<i64>,
}

/// The secrets of one of the tenant's domains, the newest first, with their last use.
pub fn list(conn: &mut Conn, tenant: UserId, domain: DomainId) -> QueryResult<Vec<(Shown, Option<Used>)>> {
    secrets::table
        .inner_join(domains::table)
        .left_join(secret_uses::table)
        .filter(domains::user_id.eq(tenant).and(secrets::domain_id.eq(domain)))
        .order(secrets::id.desc())
        .select((Shown::as_select(), Option::<Used>::as_select()))
        .load(conn)
}

/// How many secrets of a domain still work at `now`.
pub fn count_live(conn: &mut Conn, domain: DomainId, now: i64) -> QueryResult<i64> {
    let live = secrets::expires_at.is_null().or(secrets::expires_at.gt(now));
    secrets::table.filter(secrets::domain_id.eq(domain)).filter(live).count().get_result(conn)
}

/// Adds a secret that works until it is retired.
pub fn insert(conn: &mut Conn, domain: DomainId, secret: &ClientSecret, maker: Actor, now: i64) -> QueryResult<Shown> {
    diesel::insert_into(secrets::table)
        .values((
            secrets::domain_id.eq(domain),
            secrets::digest.eq(secret.digest()),
            secrets::hint.eq(secret.hint()),
            secrets::created_at.eq(now),
            secrets::created_by.eq(maker.who.to_string()),
            secrets::created_from.eq(maker.address.map(|address| address.to_string())),
        ))
        .returning(columns::<Shown>())
        .get_result(conn)
}

/// The domain that a secret is of, whether or not it works still.
pub fn find(conn: &mut Conn, digest: SecretDigest) -> QueryResult<Option<DomainId>> {
    secrets::table.filter(secrets::digest.eq(digest)).select(secrets::domain_id).first(conn).optional()
}

/// Adds a new secret and retires the others: `grace` seconds from now, or, with 0, at once, which also ends
/// every token that was issued before. A deadline that is nearer stays.
pub fn rotate(
    conn: &mut Conn,
    domain: DomainId,
    new: &ClientSecret,
    grace: i64,
    maker: Actor,
    now: i64,
) -> QueryResult<Shown> {
    let others = secrets::table.filter(secrets::domain_id.eq(domain));
    if grace == 0 {
        diesel::delete(others).execute(conn)?;
        domain::raise_generation(conn, domain)?;
    } else {
        let deadline = now + grace;
        let later = secrets::expires_at.is_null().or(secrets::expires_at.gt(deadline));
        diesel::update(others.filter(later)).set(secrets::expires_at.eq(deadline)).execute(conn)?;
    }
    drop_over(conn, domain, now)?;
    insert(conn, domain, new, maker, now)
}

/// So many secrets of one domain that no longer work are shown.
const SHOWN: i64 = 20;
/// How many secrets a rotation deletes at most.
const AT_ONCE: i64 = 100;

/// Deletes those that no longer work but for the last ones, which the owner may still want to see.
fn drop_over(conn: &mut Conn, domain: DomainId, now: i64) -> QueryResult<()> {
    let now = trusted_time::at_most(conn, now)?;
    let over = secrets::table.filter(secrets::domain_id.eq(domain).and(secrets::expires_at.le(now)));
    let old = over.order((secrets::expires_at.desc(), secrets::id.desc())).offset(SHOWN).limit(AT_ONCE);
    let old: Vec<SecretId> = old.select(secrets::id).load(conn)?;
    diesel::delete(secrets::table.filter(secrets::id.eq_any(old))).execute(conn).map(drop)
}

/// Retires one secret of a domain at once, and with it every token that was issued before; whether there was such a one.
pub fn delete(conn: &mut Conn, domain: DomainId, id: SecretId) -> QueryResult<bool> {
    let one = secrets::table.filter(secrets::id.eq(id).and(secrets::domain_id.eq(domain)));
    let deleted = diesel::delete(one).execute(conn)? > 0;
    if deleted {
        domain::raise_generation(conn, domain)?;
    }
    Ok(deleted)
}

/// At most so many secrets of all domains of a user that were made at that time or later.
pub fn made_since(conn: &mut Conn, tenant: UserId, since: i64, rows: i64) -> QueryResult<Vec<(SecretId, DomainId)>> {
    secrets::table
        .inner_join(domains::table)
        .filter(domains::user_id.eq(tenant).and(secrets::created_at.ge(since)))
        .limit(rows)
        .select((secrets::id, secrets::domain_id))
        .load(conn)
}

/// Deletes at most so many of those that have not worked since `before`, and returns how many.
pub fn prune(conn: &mut Conn, before: i64, rows: i64) -> QueryResult<usize> {
    batch::delete_some::<BigInt, _>(conn, "secrets", "expires_at <= $1", before, rows)
}
