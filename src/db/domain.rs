//! Rows of `domains`. An owner's functions take the tenant and behave as if other tenants' rows did not exist.

use diesel::prelude::*;

use super::schema::{deleted_domains, domains, users};
use super::{Conn, columns};
use crate::host::Host;
use crate::id::{DomainId, UserId};
use crate::plan::Plan;
use crate::token::client_keys::ClientKeys;

/// A registered domain.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = domains)]
pub struct Domain {
    /// Its public id, which is its `client_id`.
    pub id: DomainId,
    /// The tenant.
    pub user_id: UserId,
    /// As [`Host`] writes it.
    pub host: String,
    /// What it may use.
    pub plan: Plan,
    /// Rises with what ends earlier tokens: a secret retired at once, a suspension.
    pub generation: i64,
    /// No token while this holds.
    pub suspended: bool,
    /// Unix seconds.
    pub created_at: i64,
    /// Separated by spaces; `None` is every scope that there is.
    pub scopes: Option<String>,
    /// Separated by spaces; `None` is every audience that there is.
    pub audiences: Option<String>,
    /// The JWK Set of a domain that proves itself by a key instead of a secret.
    pub jwks: Option<ClientKeys>,
    /// Unix seconds at which control of the host was proven.
    pub proven_at: Option<i64>,
    /// Somebody else has proven that host: no token while this holds.
    pub ousted: bool,
    /// Neither verified nor used for long: no token until it is changed. See [`super::dormancy`].
    pub dormant: bool,
}

/// A domain to be registered.
#[derive(Debug)]
pub struct NewDomain {
    /// Its host.
    pub host: Host,
    /// What it may use.
    pub plan: Plan,
    /// See [`Domain::scopes`].
    pub scopes: Option<String>,
    /// See [`Domain::audiences`].
    pub audiences: Option<String>,
    /// See [`Domain::jwks`].
    pub jwks: Option<ClientKeys>,
}

/// Registers a domain; a host that the tenant has already is a unique violation.
pub fn insert(conn: &mut Conn, tenant: UserId, new: &NewDomain, now: i64) -> QueryResult<Domain> {
    diesel::insert_into(domains::table)
        .values((
            domains::id.eq(DomainId::random()),
            domains::user_id.eq(tenant),
            domains::host.eq(new.host.as_str()),
            domains::plan.eq(new.plan),
            domains::created_at.eq(now),
            domains::scopes.eq(&new.scopes),
            domains::audiences.eq(&new.audiences),
            domains::jwks.eq(&new.jwks),
            domains::jwks_since.eq(new.jwks.as_ref().map(|_| now)),
        ))
        .returning(columns::<Domain>())
        .get_result(conn)
}

/// The tenant's domains in order of registration.
pub fn list(conn: &mut Conn, tenant: UserId) -> QueryResult<Vec<Domain>> {
    domains::table.filter(domains::user_id.eq(tenant)).order(domains::number).select(Domain::as_select()).load(conn)
}

/// How many domains the tenant has.
pub fn count(conn: &mut Conn, tenant: UserId) -> QueryResult<i64> {
    domains::table.filter(domains::user_id.eq(tenant)).count().get_result(conn)
}

/// One of the tenant's domains.
pub fn find(conn: &mut Conn, tenant: UserId, id: DomainId) -> QueryResult<Option<Domain>> {
    domains::table
        .filter(domains::id.eq(id).and(domains::user_id.eq(tenant)))
        .select(Domain::as_select())
        .first(conn)
        .optional()
}

/// The tenant's domain of that host.
pub fn find_by_host(conn: &mut Conn, tenant: UserId, host: &Host) -> QueryResult<Option<Domain>> {
    domains::table
        .filter(domains::user_id.eq(tenant).and(domains::host.eq(host.as_str())))
        .select(Domain::as_select())
        .first(conn)
        .optional()
}

/// Changes the plan of one of the tenant's domains.
pub fn set_plan(conn: &mut Conn, tenant: UserId, id: DomainId, plan: Plan) -> QueryResult<Option<Domain>> {
    diesel::update(domains::table.filter(domains::id.eq(id).and(domains::user_id.eq(tenant))))
        .set(domains::plan.eq(plan))
        .returning(columns::<Domain>())
        .get_result(conn)
        .optional()
}

/// Replaces the keys of one of the tenant's domains; `ends_tokens` as when a secret is retired at once.
pub fn set_jwks(
    conn: &mut Conn,
    tenant: UserId,
    id: DomainId,
    jwks: &ClientKeys,
    ends_tokens: bool,
    now: i64,
) -> QueryResult<Option<Domain>> {
    let generation = domains::generation + i64::from(ends_tokens);
    diesel::update(domains::table.filter(domains::id.eq(id).and(domains::user_id.eq(tenant))))
        .set((domains::jwks.eq(jwks), domains::jwks_since.eq(now), domains::generation.eq(generation)))
        .returning(columns::<Domain>())
        .get_result(conn)
        .optional()
}

/// The tenant's domains whose keys were set at that time or later, at most so many.
pub fn with_keys_since(conn: &mut Conn, tenant: UserId, since: i64, rows: i64) -> QueryResult<Vec<DomainId>> {
    let own = domains::table.filter(domains::user_id.eq(tenant).and(domains::jwks_since.ge(since)));
    own.limit(rows).select(domains::id).load(conn)
}

/// Removes the keys of a domain, and ends the tokens that it got by them. It gets tokens again once its owner sets others.
pub fn remove_keys(conn: &mut Conn, id: DomainId) -> QueryResult<()> {
    let none = (
        domains::jwks.eq(ClientKeys::none()),
        domains::jwks_since.eq(None::<i64>),
        domains::generation.eq(domains::generation + 1),
    );
    diesel::update(domains::table.find(id)).set(none).execute(conn).map(drop)
}

/// Deletes one of the tenant's domains with its secrets; whether there was one. Its usage is removed afterwards.
pub fn delete(conn: &mut Conn, tenant: UserId, id: DomainId) -> QueryResult<bool> {
    let own = domains::table.filter(domains::id.eq(id).and(domains::user_id.eq(tenant)));
    let is_deleted = diesel::delete(own).execute(conn)? > 0;
    if is_deleted {
        diesel::insert_into(deleted_domains::table).values(deleted_domains::domain_id.eq(id)).execute(conn)?;
    }
    Ok(is_deleted)
}

/// Every domain with its owner's name, for the operator.
pub fn list_all(conn: &mut Conn) -> QueryResult<Vec<(Domain, String)>> {
    domains::table
        .inner_join(users::table)
        .filter(users::ended.eq(false))
        .order(domains::number)
        .select((Domain::as_select(), users::username))
        .load(conn)
}

/// How many there are that are not dormant.
pub fn count_all(conn: &mut Conn) -> QueryResult<usize> {
    domains::table.filter(domains::dormant.eq(false)).count().get_result(conn).map(|count: i64| count as usize)
}

/// Any domain, for the operator.
pub fn find_any(conn: &mut Conn, id: DomainId) -> QueryResult<Option<Domain>> {
    domains::table.find(id).select(Domain::as_select()).first(conn).optional()
}

/// Suspends or resumes; a suspension ends every earlier token for good.
pub fn set_suspended(conn: &mut Conn, id: DomainId, suspended: bool) -> QueryResult<()> {
    let rise = i64::from(suspended);
    diesel::update(domains::table.find(id))
        .set((domains::suspended.eq(suspended), domains::generation.eq(domains::generation + rise)))
        .execute(conn)
        .map(drop)
}

/// Sets what a domain may ask for.
pub fn set_allowed(conn: &mut Conn, id: DomainId, scopes: Option<&str>, audiences: Option<&str>) -> QueryResult<()> {
    diesel::update(domains::table.find(id))
        .set((domains::scopes.eq(scopes), domains::audiences.eq(audiences)))
        .execute(conn)
        .map(drop)
}

/// Ends every earlier token of the domain.
pub fn raise_generation(conn: &mut Conn, id: DomainId) -> QueryResult<()> {
    diesel::update(domains::table.find(id)).set(domains::generation.eq(domains::generation + 1)).execute(conn).map(drop)
}
