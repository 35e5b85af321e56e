//! Rows of `domains`. A function that takes the tenant treats other tenants' rows as absent.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql};
use diesel::dsl::{Eq, Filter};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use super::schema::{deleted_domains, domains, users};
use super::{Conn, columns};
use crate::host::Host;
use crate::id::{DomainId, UserId};
use crate::plan::Plan;
use crate::token::client_keys::ClientKeys;

/// A stored domain.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = domains)]
pub struct DomainRow {
    /// Also its `client_id`.
    pub id: DomainId,
    /// The owner.
    pub user_id: UserId,
    /// As [`Host`] writes it.
    pub host: String,
    /// The plan, which sets the limit.
    pub plan: Plan,
    /// Rises with each change that revokes the domain's tokens, such as a suspension.
    pub generation: i64,
    /// A suspended domain gets no tokens.
    pub suspended: bool,
    /// Unix seconds.
    pub created_at: i64,
    /// The scopes that the domain is limited to, separated by spaces; `None` if it has no limit of its own.
    pub scopes: Option<String>,
    /// The audiences that the domain is limited to, separated by spaces; `None` if it has no limit of its own.
    pub audiences: Option<String>,
    /// The JWK Set of a domain that authenticates with `private_key_jwt` instead of a secret.
    #[diesel(deserialize_as = StoredKeys)]
    pub jwks: Option<ClientKeys>,
    /// When the host was verified, in Unix seconds.
    pub verified_at: Option<i64>,
    /// Another domain has verified the host, so this one gets no tokens.
    pub superseded: bool,
    /// Neither verified nor used for long: the domain gets no tokens until its owner changes it. See
    /// [`super::dormancy`].
    pub dormant: bool,
}

/// A JWK Set as its column holds it.
pub struct StoredKeys(Option<String>);

impl<DB: Backend> Queryable<Nullable<Text>, DB> for StoredKeys
where
    String: FromSql<Text, DB>,
{
    type Row = Option<String>;

    fn build(text: Option<String>) -> deserialize::Result<StoredKeys> {
        Ok(StoredKeys(text))
    }
}

impl TryFrom<StoredKeys> for Option<ClientKeys> {
    type Error = String;

    fn try_from(StoredKeys(text): StoredKeys) -> Result<Option<ClientKeys>, String> {
        text.as_deref().map(ClientKeys::from_json).transpose()
    }
}

/// A domain to insert.
#[derive(Debug)]
pub struct NewDomain {
    /// The parsed host.
    pub host: Host,
    /// The plan, which sets the limit.
    pub plan: Plan,
    /// See [`DomainRow::scopes`].
    pub scopes: Option<String>,
    /// See [`DomainRow::audiences`].
    pub audiences: Option<String>,
    /// See [`DomainRow::jwks`].
    pub jwks: Option<ClientKeys>,
}

/// Registers a domain. Fails with a unique violation if the tenant has the host already.
pub fn insert(conn: &mut Conn, tenant: UserId, new: &NewDomain, now: i64) -> QueryResult<DomainRow> {
    diesel::insert_into(domains::table)
        .values((
            domains::id.eq(DomainId::random()),
            domains::user_id.eq(tenant),
            domains::host.eq(new.host.as_str()),
            domains::plan.eq(new.plan),
            domains::created_at.eq(now),
            domains::scopes.eq(&new.scopes),
            domains::audiences.eq(&new.audiences),
            domains::jwks.eq(new.jwks.as_ref().map(ClientKeys::as_json)),
            domains::jwks_since.eq(new.jwks.as_ref().map(|_| now)),
        ))
        .returning(columns::<DomainRow>())
        .get_result(conn)
}

/// Returns the tenant's domains in order of registration.
pub fn list(conn: &mut Conn, tenant: UserId) -> QueryResult<Vec<DomainRow>> {
    of_tenant(tenant).order(domains::number).select(DomainRow::as_select()).load(conn)
}

/// Returns the number of the tenant's domains.
pub fn count(conn: &mut Conn, tenant: UserId) -> QueryResult<i64> {
    of_tenant(tenant).count().get_result(conn)
}

/// The domains of a tenant.
fn of_tenant(tenant: UserId) -> Filter<domains::table, Eq<domains::user_id, UserId>> {
    domains::table.filter(domains::user_id.eq(tenant))
}

/// Returns one of the tenant's domains.
pub fn find(conn: &mut Conn, tenant: UserId, id: DomainId) -> QueryResult<Option<DomainRow>> {
    of_tenant(tenant).filter(domains::id.eq(id)).select(DomainRow::as_select()).first(conn).optional()
}

/// Returns the tenant's domain with that host.
pub fn find_by_host(conn: &mut Conn, tenant: UserId, host: &Host) -> QueryResult<Option<DomainRow>> {
    of_tenant(tenant).filter(domains::host.eq(host.as_str())).select(DomainRow::as_select()).first(conn).optional()
}

/// Changes the plan of one of the tenant's domains.
pub fn set_plan(conn: &mut Conn, tenant: UserId, id: DomainId, plan: Plan) -> QueryResult<Option<DomainRow>> {
    diesel::update(of_tenant(tenant).filter(domains::id.eq(id)))
        .set(domains::plan.eq(plan))
        .returning(columns::<DomainRow>())
        .get_result(conn)
        .optional()
}

/// Replaces the public keys of one of the tenant's domains. `ends_tokens` revokes the tokens that it has.
pub fn set_jwks(
    conn: &mut Conn,
    tenant: UserId,
    id: DomainId,
    jwks: &ClientKeys,
    ends_tokens: bool,
    now: i64,
) -> QueryResult<Option<DomainRow>> {
    let generation = domains::generation + i64::from(ends_tokens);
    diesel::update(of_tenant(tenant).filter(domains::id.eq(id)))
        .set((domains::jwks.eq(jwks.as_json()), domains::jwks_since.eq(now), domains::generation.eq(generation)))
        .returning(columns::<DomainRow>())
        .get_result(conn)
        .optional()
}

/// Returns at most `rows` of the tenant's domains whose public keys were set at `since` or later.
pub fn with_keys_since(conn: &mut Conn, tenant: UserId, since: i64, rows: i64) -> QueryResult<Vec<DomainId>> {
    of_tenant(tenant).filter(domains::jwks_since.ge(since)).limit(rows).select(domains::id).load(conn)
}

/// Removes the public keys of a domain and revokes its tokens. The domain gets tokens again once its owner sets other
/// keys.
pub fn remove_keys(conn: &mut Conn, id: DomainId) -> QueryResult<()> {
    let keys = ClientKeys::none();
    let none = (
        domains::jwks.eq(keys.as_json()),
        domains::jwks_since.eq(None::<i64>),
        domains::generation.eq(domains::generation + 1),
    );
    diesel::update(domains::table.find(id)).set(none).execute(conn).map(drop)
}

/// Deletes one of the tenant's domains with its secrets. Returns `false` if there is none. The usage is removed later.
pub fn delete(conn: &mut Conn, tenant: UserId, id: DomainId) -> QueryResult<bool> {
    let is_deleted = diesel::delete(of_tenant(tenant).filter(domains::id.eq(id))).execute(conn)? > 0;
    if is_deleted {
        diesel::insert_into(deleted_domains::table).values(deleted_domains::domain_id.eq(id)).execute(conn)?;
    }
    Ok(is_deleted)
}

/// Returns every domain with its owner's name, for the operator.
pub fn list_all(conn: &mut Conn) -> QueryResult<Vec<(DomainRow, String)>> {
    domains::table
        .inner_join(users::table)
        .filter(users::ended.eq(false))
        .order(domains::number)
        .select((DomainRow::as_select(), users::username))
        .load(conn)
}

/// Returns the number of domains that are not dormant.
pub fn count_all(conn: &mut Conn) -> QueryResult<usize> {
    domains::table.filter(domains::dormant.eq(false)).count().get_result(conn).map(|count: i64| count as usize)
}

/// Returns a domain of any tenant, for the operator.
pub fn find_any(conn: &mut Conn, id: DomainId) -> QueryResult<Option<DomainRow>> {
    domains::table.find(id).select(DomainRow::as_select()).first(conn).optional()
}

/// Suspends or resumes a domain. Suspending revokes all its tokens, also after it is resumed.
pub fn set_suspended(conn: &mut Conn, id: DomainId, suspended: bool) -> QueryResult<()> {
    let rise = i64::from(suspended);
    diesel::update(domains::table.find(id))
        .set((domains::suspended.eq(suspended), domains::generation.eq(domains::generation + rise)))
        .execute(conn)
        .map(drop)
}

/// Sets the scopes and audiences that a domain is limited to.
pub fn set_allowed(conn: &mut Conn, id: DomainId, scopes: Option<&str>, audiences: Option<&str>) -> QueryResult<()> {
    diesel::update(domains::table.find(id))
        .set((domains::scopes.eq(scopes), domains::audiences.eq(audiences)))
        .execute(conn)
        .map(drop)
}

/// Revokes all tokens of a domain.
pub fn raise_generation(conn: &mut Conn, id: DomainId) -> QueryResult<()> {
    diesel::update(domains::table.find(id)).set(domains::generation.eq(domains::generation + 1)).execute(conn).map(drop)
}
