//! Rows of `secrets`: digests of client secrets. A domain may have several secrets.

use diesel::prelude::*;

use super::audit::Actor;
use super::schema::{domains, secret_uses, secrets};
use super::{Conn, columns, domain, trusted_time};
use crate::id::{DomainId, SecretId, UserId};
use crate::secret::{ClientSecret, SecretDigest};

/// The columns of a client secret that the directory keeps.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = secrets)]
pub struct SecretRow {
    /// The number of the secret.
    pub id: SecretId,
    /// The domain of the secret.
    pub domain_id: DomainId,
    /// The digest by which the secret is found.
    pub digest: SecretDigest,
    /// Unix seconds; `None` if the secret does not expire.
    pub expires_at: Option<i64>,
    /// Whether its domain is dormant.
    pub dormant: bool,
}

/// The columns of a client secret that its owner may see.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = secrets)]
pub struct SecretDetails {
    /// The number of the secret.
    pub id: SecretId,
    /// The last four characters of the secret.
    pub hint: String,
    /// Unix seconds.
    pub created_at: i64,
    /// See [`SecretRow::expires_at`].
    pub expires_at: Option<i64>,
    /// The creator, as [`Who`](super::audit::Who) writes it; `None` for a secret from before creators were recorded.
    pub created_by: Option<String>,
    /// The creator's network address; `None` for the command line.
    pub created_from: Option<String>,
}

/// The last use of a secret.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = secret_uses)]
pub struct SecretUse {
    /// Unix seconds.
    pub used_at: i64,
    /// Network address.
    pub used_from: Option<String>,
    /// When a browser first sent the secret, in Unix seconds.
    pub leaked_at: Option<i64>,
}

/// Returns the secrets of one of the tenant's domains with their last use, the newest first.
pub fn list(conn: &mut Conn, tenant: UserId, domain: DomainId) -> QueryResult<Vec<(SecretDetails, Option<SecretUse>)>> {
    secrets::table
        .inner_join(domains::table)
        .left_join(secret_uses::table)
        .filter(domains::user_id.eq(tenant).and(secrets::domain_id.eq(domain)))
        .order(secrets::id.desc())
        .select((SecretDetails::as_select(), Option::<SecretUse>::as_select()))
        .load(conn)
}

/// Returns the number of a domain's secrets that have not expired at `now`.
pub fn count_live(conn: &mut Conn, domain: DomainId, now: i64) -> QueryResult<i64> {
    let live = secrets::expires_at.is_null().or(secrets::expires_at.gt(now));
    secrets::table.filter(secrets::domain_id.eq(domain)).filter(live).count().get_result(conn)
}

/// Adds a secret that does not expire.
pub fn insert(
    conn: &mut Conn,
    domain: DomainId,
    secret: &ClientSecret,
    maker: Actor,
    now: i64,
) -> QueryResult<SecretDetails> {
    diesel::insert_into(secrets::table)
        .values((
            secrets::domain_id.eq(domain),
            secrets::digest.eq(secret.digest()),
            secrets::hint.eq(secret.hint()),
            secrets::created_at.eq(now),
            secrets::created_by.eq(maker.who.to_string()),
            secrets::created_from.eq(maker.address.map(|address| address.to_string())),
        ))
        .returning(columns::<SecretDetails>())
        .get_result(conn)
}

/// Returns the domain of a secret, expired or not.
pub fn find(conn: &mut Conn, digest: SecretDigest) -> QueryResult<Option<DomainId>> {
    secrets::table.filter(secrets::digest.eq(digest)).select(secrets::domain_id).first(conn).optional()
}

/// Adds a secret and retires the others after `grace` seconds. An earlier expiry is kept.
///
/// With `grace` 0, the others are deleted at once and all tokens of the domain are revoked.
pub fn rotate(
    conn: &mut Conn,
    domain: DomainId,
    new: &ClientSecret,
    grace: i64,
    maker: Actor,
    now: i64,
) -> QueryResult<SecretDetails> {
    let others = secrets::table.filter(secrets::domain_id.eq(domain));
    if grace == 0 {
        diesel::delete(others).execute(conn)?;
        domain::raise_generation(conn, domain)?;
    } else {
        let deadline = now + grace;
        let later = secrets::expires_at.is_null().or(secrets::expires_at.gt(deadline));
        diesel::update(others.filter(later)).set(secrets::expires_at.eq(deadline)).execute(conn)?;
    }
    prune_expired(conn, domain, now)?;
    insert(conn, domain, new, maker, now)
}

/// Number of expired secrets per domain that are kept for the owner to see.
const MAX_EXPIRED: i64 = 20;
/// Maximum number of secrets that a rotation prunes.
const MAX_PRUNED: i64 = 100;

/// Deletes the expired secrets of a domain except the last [`MAX_EXPIRED`].
fn prune_expired(conn: &mut Conn, domain: DomainId, now: i64) -> QueryResult<()> {
    let now = trusted_time::earlier_of(conn, now)?;
    let over = secrets::table.filter(secrets::domain_id.eq(domain).and(secrets::expires_at.le(now)));
    let old = over.order((secrets::expires_at.desc(), secrets::id.desc())).offset(MAX_EXPIRED).limit(MAX_PRUNED);
    let old: Vec<SecretId> = old.select(secrets::id).load(conn)?;
    diesel::delete(secrets::table.filter(secrets::id.eq_any(old))).execute(conn).map(drop)
}

/// Deletes one secret of a domain and revokes all tokens of the domain. Returns `false` if there is none.
pub fn delete(conn: &mut Conn, domain: DomainId, id: SecretId) -> QueryResult<bool> {
    let one = secrets::table.filter(secrets::id.eq(id).and(secrets::domain_id.eq(domain)));
    let deleted = diesel::delete(one).execute(conn)? > 0;
    if deleted {
        domain::raise_generation(conn, domain)?;
    }
    Ok(deleted)
}

/// Returns at most `rows` secrets of the tenant's domains that were created at `since` or later.
pub fn made_since(conn: &mut Conn, tenant: UserId, since: i64, rows: i64) -> QueryResult<Vec<(SecretId, DomainId)>> {
    secrets::table
        .inner_join(domains::table)
        .filter(domains::user_id.eq(tenant).and(secrets::created_at.ge(since)))
        .limit(rows)
        .select((secrets::id, secrets::domain_id))
        .load(conn)
}

/// Records that a browser sent a secret. Returns `false` if the secret is gone, or if this was recorded before.
pub fn set_leaked(conn: &mut Conn, secret: SecretId, at: i64) -> QueryResult<bool> {
    let known = secrets::table.find(secret).count().get_result::<i64>(conn)? > 0;
    if !known {
        return Ok(false);
    }
    let row = secret_uses::table.find(secret);
    let flagged = diesel::update(row.filter(secret_uses::leaked_at.is_null()))
        .set(secret_uses::leaked_at.eq(at))
        .execute(conn)?;
    if flagged > 0 || row.count().get_result::<i64>(conn)? > 0 {
        return Ok(flagged > 0);
    }
    diesel::insert_into(secret_uses::table)
        .values((secret_uses::secret_id.eq(secret), secret_uses::used_at.eq(at), secret_uses::leaked_at.eq(at)))
        .execute(conn)
        .map(|_| true)
}
