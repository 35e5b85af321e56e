//! Rows of `usage`, which count what a domain does in a day, and of `secret_uses`, which record when and from where a
//! secret was last used.
//!
//! A busy server writes thousands of rows a second. So each batch is one statement with all rows in one JSON value,
//! which both databases can read.

use diesel::prelude::*;
use diesel::sql_types::Text;
use serde_json::json;

use super::Conn;
use super::schema::{domains, usage, users};
use crate::error::Result;
use crate::id::{DomainId, UserId};
use crate::usage::Taken;

/// Rows are added in one order everywhere, so that two nodes cannot deadlock. A locked domain is skipped: the deletion
/// of its account waits for this transaction, so this transaction must not wait for the deletion.
const ADD_COUNTS: [&str; 2] = [
    "INSERT INTO usage (domain_id, day, kind, count)
     SELECT domains.id, row.value ->> 1, row.value ->> 2, row.value ->> 3
     FROM json_each($1) AS row JOIN domains ON domains.id = row.value ->> 0 WHERE TRUE
     ON CONFLICT (domain_id, day, kind) DO UPDATE SET count = usage.count + excluded.count",
    "INSERT INTO usage (domain_id, day, kind, count)
     SELECT domains.id, (value ->> 1)::BIGINT, value ->> 2, (value ->> 3)::BIGINT
     FROM jsonb_array_elements($1::JSONB) JOIN domains ON domains.id = value ->> 0 ORDER BY 1, 2, 3
     FOR KEY SHARE OF domains SKIP LOCKED
     ON CONFLICT (domain_id, day, kind) DO UPDATE SET count = usage.count + excluded.count",
];

/// A later use that another node has written is kept.
const ADD_USES: [&str; 2] = [
    "INSERT INTO secret_uses (secret_id, used_at, used_from)
     SELECT secrets.id, row.value ->> 1, row.value ->> 2
     FROM json_each($1) AS row JOIN secrets ON secrets.id = row.value ->> 0 WHERE TRUE
     ON CONFLICT (secret_id) DO UPDATE SET used_at = excluded.used_at, used_from = excluded.used_from
     WHERE secret_uses.used_at <= excluded.used_at",
    "INSERT INTO secret_uses (secret_id, used_at, used_from)
     SELECT secrets.id, (value ->> 1)::BIGINT, value ->> 2
     FROM jsonb_array_elements($1::JSONB) JOIN secrets ON secrets.id = (value ->> 0)::BIGINT ORDER BY 1
     FOR KEY SHARE OF secrets SKIP LOCKED
     ON CONFLICT (secret_id) DO UPDATE SET used_at = excluded.used_at, used_from = excluded.used_from
     WHERE secret_uses.used_at <= excluded.used_at",
];

/// Adds counts, and records uses of secrets. Counts and uses of deleted domains and secrets are dropped.
pub fn add(conn: &mut Conn, taken: &Taken) -> QueryResult<()> {
    let counts = taken.counts().map(|count| json!([count.domain.as_str(), count.day, count.kind, count.count]));
    run(conn, ADD_COUNTS, counts.collect())?;
    let uses = taken.uses().map(|(secret, used)| json!([secret.get(), used.at, used.from]));
    run(conn, ADD_USES, uses.collect())
}

fn run(conn: &mut Conn, [on_sqlite, on_postgres]: [&str; 2], rows: Vec<serde_json::Value>) -> QueryResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows = serde_json::Value::Array(rows).to_string();
    match conn {
        Conn::Sqlite(conn) => diesel::sql_query(on_sqlite).bind::<Text, _>(rows).execute(conn),
        Conn::Postgres(conn) => diesel::sql_query(on_postgres).bind::<Text, _>(rows).execute(conn),
    }
    .map(drop)
}

/// A count of one kind on one day.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = usage)]
pub struct DailyCount {
    /// Days since 1970-01-01.
    pub day: i64,
    /// See [`crate::usage::Kind`].
    pub kind: String,
    /// The count of the day.
    pub count: i64,
}

/// Returns the counts of one of the tenant's domains since the day `since`.
pub fn list(conn: &mut Conn, tenant: UserId, domain: DomainId, since: i64) -> Result<Vec<DailyCount>> {
    let own = usage::table
        .inner_join(domains::table.on(domains::id.eq(usage::domain_id)))
        .filter(domains::user_id.eq(tenant).and(usage::domain_id.eq(domain)).and(usage::day.ge(since)));
    Ok(own.select(DailyCount::as_select()).load(conn)?)
}

/// A domain with a count of one kind on one day, for the operator.
#[derive(Clone, Debug, Queryable)]
pub struct DomainUsage {
    /// The domain's id.
    pub domain: DomainId,
    /// The domain's host.
    pub host: String,
    /// The owner's name.
    pub username: String,
    /// Days since 1970-01-01.
    pub day: i64,
    /// The count of the day.
    pub count: i64,
}

/// Returns every domain with a count of that kind since the day `since`, one row per domain and day, latest day first.
pub fn domains_with(conn: &mut Conn, kind: &str, since: i64) -> QueryResult<Vec<DomainUsage>> {
    usage::table
        .inner_join(domains::table.on(domains::id.eq(usage::domain_id)))
        .inner_join(users::table.on(users::id.eq(domains::user_id)))
        .filter(usage::kind.eq(kind).and(usage::day.ge(since)).and(users::ended.eq(false)))
        .order((usage::day.desc(), domains::host, domains::id))
        .select((domains::id, domains::host, users::username, usage::day, usage::count))
        .load(conn)
}
