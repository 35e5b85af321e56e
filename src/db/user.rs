//! Rows of `users`: people, who are the tenants.

use std::collections::{HashMap, HashSet};
use std::iter::repeat_with;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_types::Text;

use super::schema::{removals, users};
use super::{Conn, columns};
use crate::id::UserId;
use crate::name::Name;

/// What the directory keeps of a user.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = users)]
pub struct Tenant {
    /// The tenant.
    pub id: UserId,
    /// As it was chosen, with its capitals.
    #[diesel(deserialize_as = String)]
    pub username: Name,
    /// How the user wants to be called.
    #[diesel(deserialize_as = String)]
    pub nick: Name,
    /// Rises with what ends earlier tokens: a password change, a suspension.
    pub generation: i64,
    /// No token and no sign-in while this holds.
    pub suspended: bool,
    /// The account was deleted; its row only reserves its number and its name.
    pub ended: bool,
}

/// A user with the password's hash, for checking it.
#[derive(Queryable, Selectable)]
#[diesel(table_name = users)]
pub struct User {
    /// The part that is not secret.
    #[diesel(embed)]
    pub tenant: Tenant,
    /// See [`crate::password`].
    pub password_hash: String,
    /// Unix seconds.
    pub created_at: i64,
}

/// A user to be made.
#[derive(Insertable)]
#[diesel(table_name = users)]
pub struct NewUser {
    /// As chosen.
    pub username: String,
    /// The name under which it is unique, without regard to case.
    pub username_key: String,
    /// How the user wants to be called.
    pub nick: String,
    /// See [`crate::password`].
    pub password_hash: String,
    /// Unix seconds.
    pub created_at: i64,
}

/// The `username_key` of a deleted account. It reserves the name, does not reveal it, and is no key of a name, because a
/// name has no `#`.
pub fn reserved_key(username_key: &str) -> String {
    format!("#{}", STANDARD.encode(digest(&SHA256, username_key.as_bytes())))
}

/// Random numbers that no user has.
pub(super) fn unused_ids(conn: &mut Conn, count: usize) -> QueryResult<Vec<UserId>> {
    loop {
        let ids: HashSet<UserId> = repeat_with(UserId::random).take(count).collect();
        let used: i64 = users::table.filter(users::id.eq_any(&ids)).count().get_result(conn)?;
        if ids.len() == count && used == 0 {
            return Ok(ids.into_iter().collect());
        }
    }
}

/// Makes the user. A name that is taken, or that a deleted account had, is a unique violation.
pub fn insert(conn: &mut Conn, user: &NewUser) -> QueryResult<Tenant> {
    if find_by_name(conn, &reserved_key(&user.username_key))?.is_some() {
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

/// Finds a user by the key of the name.
pub fn find_by_name(conn: &mut Conn, username_key: &str) -> QueryResult<Option<User>> {
    users::table.filter(users::username_key.eq(username_key)).select(User::as_select()).first(conn).optional()
}

/// The bcrypt cost of the dearest hash of a password that an account has; 0 where there is no account.
pub fn dearest_hash(conn: &mut Conn) -> QueryResult<u32> {
    #[derive(QueryableByName)]
    struct Cost {
        #[diesel(sql_type = Text)]
        cost: String,
    }
    // As the index `users_hash_cost` has it, which makes this one look-up.
    const COST: &str = "substr(replace(password_hash, 'gb1', ''), 5, 2)";
    let dearest = format!("SELECT {COST} AS cost FROM users WHERE NOT ended ORDER BY {COST} DESC LIMIT 1");
    let dearest: Option<Cost> = diesel::sql_query(dearest).get_result(conn).optional()?;
    Ok(dearest.and_then(|dearest| dearest.cost.parse().ok()).unwrap_or_default())
}

/// The users of these keys of names, by them.
pub fn ids_by_name<'a>(
    conn: &mut Conn,
    keys: impl IntoIterator<Item = &'a String>,
) -> QueryResult<HashMap<String, UserId>> {
    let named = users::table.filter(users::username_key.eq_any(keys)).select((users::username_key, users::id));
    Ok(named.load(conn)?.into_iter().collect())
}

/// All accounts by their public ids, with the Unix seconds at which they were made.
pub fn by_public_id(conn: &mut Conn) -> QueryResult<HashMap<String, (UserId, i64)>> {
    let rows: Vec<(UserId, i64)> =
        users::table.filter(users::ended.eq(false)).select((users::id, users::created_at)).load(conn)?;
    Ok(rows.into_iter().map(|row| (row.0.to_string(), row)).collect())
}

/// The user behind a proof; `None` when it was deleted a moment ago.
pub fn find(conn: &mut Conn, id: UserId) -> QueryResult<Option<User>> {
    users::table.find(id).select(User::as_select()).first(conn).optional()
}

/// How many accounts there are.
pub fn count_all(conn: &mut Conn) -> QueryResult<usize> {
    users::table.filter(users::ended.eq(false)).count().get_result(conn).map(|count: i64| count as usize)
}

/// Whether there is any account.
pub fn any(conn: &mut Conn) -> QueryResult<bool> {
    users::table
        .filter(users::ended.eq(false))
        .select(users::id)
        .first::<UserId>(conn)
        .optional()
        .map(|found| found.is_some())
}

/// All accounts in order of their making, for the operator.
pub fn list(conn: &mut Conn) -> QueryResult<Vec<User>> {
    users::table
        .filter(users::ended.eq(false))
        .order((users::created_at, users::id))
        .select(User::as_select())
        .load(conn)
}

/// What a token says of its user: who, and of which generation.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The user.
    pub id: UserId,
    /// The generation at which the token was issued.
    pub generation: i64,
}

/// Whether a user's token still holds, by the database: exact within a transaction that has the lock on the revision.
pub fn still_stands(conn: &mut Conn, standing: Standing) -> QueryResult<bool> {
    let user = users::table.find(standing.id).select((users::generation, users::suspended));
    let found: Option<(i64, bool)> = user.first(conn).optional()?;
    Ok(found.is_some_and(|(generation, suspended)| standing.generation >= generation && !suspended))
}

/// Stores another hash of the same password, unless the password was changed since `checked` was read.
pub fn set_hash(conn: &mut Conn, id: UserId, checked: &str, hash: &str) -> QueryResult<()> {
    let user = users::table.filter(users::id.eq(id).and(users::password_hash.eq(checked)));
    diesel::update(user).set(users::password_hash.eq(hash)).execute(conn).map(drop)
}

/// Stores the hash of a new password and ends every earlier token of the user and of the user's domains; `false`
/// when the password was changed since `checked` was read.
pub fn set_password(conn: &mut Conn, id: UserId, checked: &str, hash: &str) -> QueryResult<bool> {
    diesel::update(users::table.filter(users::id.eq(id).and(users::password_hash.eq(checked))))
        .set((users::password_hash.eq(hash), users::generation.eq(users::generation + 1)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Ends every earlier token of the user and of the user's domains.
pub fn end_tokens(conn: &mut Conn, id: UserId) -> QueryResult<()> {
    diesel::update(users::table.find(id)).set(users::generation.eq(users::generation + 1)).execute(conn).map(drop)
}

/// Suspends or resumes; a suspension ends every earlier token for good.
pub fn set_suspended(conn: &mut Conn, id: UserId, suspended: bool) -> QueryResult<()> {
    let rise = i64::from(suspended);
    diesel::update(users::table.find(id))
        .set((users::suspended.eq(suspended), users::generation.eq(users::generation + rise)))
        .execute(conn)
        .map(drop)
}

/// Ends an account: every token is refused, and its number and name stay reserved. Its data is left to
/// [`super::removal`], so that this is short whatever the account owns. `false` when the password was changed since `checked`
/// was read.
pub fn end(conn: &mut Conn, id: UserId, checked: &str, now: i64) -> QueryResult<bool> {
    let user = users::table.filter(users::id.eq(id).and(users::password_hash.eq(checked)));
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
