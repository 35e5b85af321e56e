//! Rows of `users`: people, who are the tenants.
//!
//! The row of a deleted account stays and reserves its number and its name. The functions of this module find accounts
//! that exist only.

use std::collections::{HashMap, HashSet};
use std::iter::repeat_with;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use diesel::dsl::{Eq, Filter, not, sql};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::Text;

use super::schema::{removals, users};
use super::{Conn, columns};
use crate::id::UserId;
use crate::name::Name;

/// The columns of an existing account that the directory keeps.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = users)]
pub struct Tenant {
    /// Also the `id` claim.
    pub id: UserId,
    /// With the letter case that the user chose.
    #[diesel(deserialize_as = String)]
    pub username: Name,
    /// The display name.
    #[diesel(deserialize_as = String)]
    pub nick: Name,
    /// Rises with each change that revokes the user's tokens, such as a new password or a suspension.
    pub generation: i64,
    /// A suspended user gets no tokens and cannot sign in.
    pub suspended: bool,
}

/// An existing account with the hash of its password.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
pub struct UserRow {
    /// The part of the account that the directory keeps.
    #[diesel(embed)]
    pub tenant: Tenant,
    /// See [`crate::password`].
    pub password_hash: String,
    /// Unix seconds.
    pub created_at: i64,
}

/// An account to insert.
#[derive(Insertable)]
#[diesel(table_name = users)]
pub struct NewUser {
    /// With the letter case that the user chose.
    pub username: String,
    /// The form of the name that must be unique, without letter case.
    pub username_key: String,
    /// The display name.
    pub nick: String,
    /// See [`crate::password`].
    pub password_hash: String,
    /// Unix seconds.
    pub created_at: i64,
}

/// The accounts that exist.
fn accounts() -> Filter<users::table, Eq<users::ended, bool>> {
    users::table.filter(users::ended.eq(false))
}

/// One account, if it exists.
fn account(id: UserId) -> Filter<Filter<users::table, Eq<users::ended, bool>>, Eq<users::id, UserId>> {
    accounts().filter(users::id.eq(id))
}

/// Returns the `username_key` of a deleted account, which reserves the name without revealing it. It is no key of any
/// name, because names have no `#`.
pub fn reserved_key(username_key: &str) -> String {
    format!("#{}", STANDARD.encode(digest(&SHA256, username_key.as_bytes())))
}

/// Returns `count` random numbers that no user has.
pub(super) fn unused_ids(conn: &mut Conn, count: usize) -> QueryResult<Vec<UserId>> {
    loop {
        let ids: HashSet<UserId> = repeat_with(UserId::random).take(count).collect();
        let used: i64 = users::table.filter(users::id.eq_any(&ids)).count().get_result(conn)?;
        if ids.len() == count && used == 0 {
            return Ok(ids.into_iter().collect());
        }
    }
}

/// Inserts a user. Fails with a unique violation if another user has the name or a deleted account had it.
pub fn insert(conn: &mut Conn, user: &NewUser) -> QueryResult<Tenant> {
    let reserved = users::table.filter(users::username_key.eq(reserved_key(&user.username_key)));
    if reserved.select(users::id).first::<UserId>(conn).optional()?.is_some() {
        let reserved = "the username was that of a deleted account".to_owned();
        return Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, Box::new(reserved)));
    }
    let ids = unused_ids(conn, 1)?;
    diesel::insert_into(users::table)
        .values((
            users::id.eq(ids[0]),
            users::username.eq(&user.username),
            users::username_key.eq(&user.username_key),
            users::nick.eq(&user.nick),
            users::password_hash.eq(&user.password_hash),
            users::created_at.eq(user.created_at),
        ))
        .returning(columns::<Tenant>())
        .get_result(conn)
}

/// Returns the account with that `username_key`.
pub fn find_by_name(conn: &mut Conn, username_key: &str) -> QueryResult<Option<UserRow>> {
    accounts().filter(users::username_key.eq(username_key)).select(UserRow::as_select()).first(conn).optional()
}

/// Returns the highest bcrypt cost of the stored password hashes; 0 if there is no account.
pub fn max_hash_cost(conn: &mut Conn) -> QueryResult<u32> {
    // The expression of the index `users_hash_cost`, which makes this one lookup.
    let cost = || sql::<Text>("substr(replace(password_hash, 'gb1', ''), 5, 2)");
    let existing = users::table.filter(not(users::ended));
    let highest: Option<String> = existing.select(cost()).order(cost().desc()).first(conn).optional()?;
    Ok(highest.and_then(|cost| cost.parse().ok()).unwrap_or_default())
}

/// Returns the numbers of the accounts with these values of `username_key`, by `username_key`.
pub fn ids_by_name<'a>(
    conn: &mut Conn,
    keys: impl IntoIterator<Item = &'a String>,
) -> QueryResult<HashMap<String, UserId>> {
    let named = accounts().filter(users::username_key.eq_any(keys)).select((users::username_key, users::id));
    Ok(named.load(conn)?.into_iter().collect())
}

/// Returns the number and the time of creation (Unix seconds) of every account, by public id.
pub fn by_public_id(conn: &mut Conn) -> QueryResult<HashMap<String, (UserId, i64)>> {
    let rows: Vec<(UserId, i64)> = accounts().select((users::id, users::created_at)).load(conn)?;
    Ok(rows.into_iter().map(|row| (row.0.to_string(), row)).collect())
}

/// Returns the account with that number.
pub fn find(conn: &mut Conn, id: UserId) -> QueryResult<Option<UserRow>> {
    account(id).select(UserRow::as_select()).first(conn).optional()
}

/// Returns the number of accounts.
pub fn count_all(conn: &mut Conn) -> QueryResult<usize> {
    accounts().count().get_result(conn).map(|count: i64| count as usize)
}

/// Returns whether there is an account.
pub fn any(conn: &mut Conn) -> QueryResult<bool> {
    accounts().select(users::id).first::<UserId>(conn).optional().map(|found| found.is_some())
}

/// Returns all accounts in order of creation, for the operator.
pub fn list(conn: &mut Conn) -> QueryResult<Vec<UserRow>> {
    accounts().order((users::created_at, users::id)).select(UserRow::as_select()).load(conn)
}

/// Stores another hash of the same password, unless the password was changed since `checked` was read.
pub fn set_hash(conn: &mut Conn, id: UserId, checked: &str, hash: &str) -> QueryResult<()> {
    let user = account(id).filter(users::password_hash.eq(checked));
    diesel::update(user).set(users::password_hash.eq(hash)).execute(conn).map(drop)
}

/// Stores the hash of a new password, and revokes all tokens of the user and of the user's domains. Returns `false` if
/// the password was changed since `checked` was read.
pub fn set_password(conn: &mut Conn, id: UserId, checked: &str, hash: &str) -> QueryResult<bool> {
    diesel::update(account(id).filter(users::password_hash.eq(checked)))
        .set((users::password_hash.eq(hash), users::generation.eq(users::generation + 1)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Revokes all tokens of the user and of the user's domains.
pub fn end_tokens(conn: &mut Conn, id: UserId) -> QueryResult<()> {
    diesel::update(account(id)).set(users::generation.eq(users::generation + 1)).execute(conn).map(drop)
}

/// Suspends or resumes a user. Suspending revokes all tokens of the user and of the user's domains, also after the user
/// is resumed.
pub fn set_suspended(conn: &mut Conn, id: UserId, suspended: bool) -> QueryResult<()> {
    let rise = i64::from(suspended);
    diesel::update(account(id))
        .set((users::suspended.eq(suspended), users::generation.eq(users::generation + rise)))
        .execute(conn)
        .map(drop)
}

/// Deletes an account: all its tokens are revoked, and its number and name stay reserved. Returns `false` if the
/// password was changed since `checked` was read.
///
/// The account's other rows are left to [`super::removal`], so that the transaction is short whatever the account owns.
pub fn end(conn: &mut Conn, id: UserId, checked: &str, now: i64) -> QueryResult<bool> {
    let user = account(id).filter(users::password_hash.eq(checked));
    let Some(username_key) = user.select(users::username_key).first::<String>(conn).optional()? else {
        return Ok(false);
    };
    diesel::update(users::table.find(id))
        .set((
            users::username.eq(""),
            users::username_key.eq(reserved_key(&username_key)),
            users::nick.eq(""),
            users::password_hash.eq(""),
            users::generation.eq(users::generation + 1),
            users::suspended.eq(true),
            users::ended.eq(true),
        ))
        .execute(conn)?;
    diesel::insert_into(removals::table)
        .values((removals::user_id.eq(id), removals::ended_at.eq(now)))
        .execute(conn)?;
    Ok(true)
}
