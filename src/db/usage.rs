//! Rows of `usage`: what domains did on a day; and of `secret_uses`: when a secret was last used, and from where.
//!
//! Both come in batches, thousands of rows a second on a busy server. So a batch is one statement, whose rows are one JSON
//! value: both databases read that, and neither needs a statement per row.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde_json::json;

use super::schema::{domains, usage, usage_log, users};
use super::{Conn, batch};
use crate::error::Result;
use crate::id::{DomainId, UserId};
use crate::usage::{Count, Taken};

/// The order is the same everywhere, so that two nodes that add at once do not wait for each other in a circle. A domain that
/// is being deleted is passed by: who deletes an account waits for us, so we may not wait for them.
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

const LOG: [&str; 2] = [
    "INSERT INTO usage_log (bucket, counts) SELECT value ->> 0, value ->> 1 FROM json_each($1)",
    "INSERT INTO usage_log (bucket, counts) SELECT value ->> 0, value ->> 1 FROM jsonb_array_elements($1::JSONB)",
];

/// A use that another node wrote meanwhile stays if it is later.
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

/// Adds what was counted, and takes note of the secrets that were used. What is about a domain or a secret that is gone is
/// left out.
pub fn add(conn: &mut Conn, taken: &Taken) -> QueryResult<()> {
    let counts = taken.counts().map(|count| json!([count.domain.as_str(), count.day, count.kind, count.count]));
    run(conn, ADD_COUNTS, counts.collect())?;
    add_uses(conn, taken)
}

/// Keeps what was counted as it is, to be added by [`fold`]; and takes note of the secrets that were used.
///
/// Why: to add the counts of tens of thousands of domains a second is tens of thousands of places in the table, while one
/// after the other in a log they cost next to nothing. By the time that they are added, there are several of most domains.
pub fn log(conn: &mut Conn, taken: &Taken) -> QueryResult<()> {
    let mut buckets: HashMap<String, Vec<Logged>> = HashMap::new();
    for Count { domain, day, kind, count } in taken.counts() {
        buckets.entry(bucket(&domain)).or_default().push((domain.to_string(), day, kind.into_owned(), count));
    }
    let rows = buckets.iter().map(|(bucket, counts)| json!([bucket, json!(counts).to_string()]));
    run(conn, LOG, rows.collect())?;
    add_uses(conn, taken)
}

/// Adds the oldest of what was logged, of about so many domains; whether there is more.
pub fn fold(conn: &mut Conn, most: usize) -> QueryResult<bool> {
    let mut sums: HashMap<(String, i64, String), i64> = HashMap::new();
    let mut more = true;
    while more && sums.len() < most {
        let oldest = usage_log::table.order(usage_log::id).select(usage_log::bucket);
        let Some(bucket) = oldest.first::<String>(conn).optional()? else {
            more = false;
            break;
        };
        let whole = diesel::delete(usage_log::table.filter(usage_log::bucket.eq(bucket)));
        let logged: Vec<String> = whole.returning(usage_log::counts).get_results(conn)?;
        for (domain, day, kind, count) in logged.iter().flat_map(|counts| parse(counts)) {
            *sums.entry((domain, day, kind)).or_default() += count;
        }
    }
    run(conn, ADD_COUNTS, sums.iter().map(|((domain, day, kind), count)| json!([domain, day, kind, count])).collect())?;
    Ok(more)
}

/// What a row of the log has: domain, day, kind and count.
type Logged = (String, i64, String, i64);

fn parse(counts: &str) -> Vec<Logged> {
    serde_json::from_str(counts).unwrap_or_else(|error| {
        log::error!("usage that cannot be read is left out: {error}");
        Vec::new()
    })
}

/// The part of the log that a domain's counts are in: the last two characters of its random id.
fn bucket(domain: &DomainId) -> String {
    let id = domain.as_str();
    id[id.len() - 2..].to_owned()
}

fn add_uses(conn: &mut Conn, taken: &Taken) -> QueryResult<()> {
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

/// One count of a day.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = usage)]
pub struct Counted {
    /// Days since 1970.
    pub day: i64,
    /// See [`crate::usage::Kind`].
    pub kind: String,
    /// How many.
    pub count: i64,
}

/// What one of the tenant's domains did since that day.
pub fn list(conn: &mut Conn, tenant: UserId, domain: DomainId, since: i64) -> Result<Vec<Counted>> {
    // In one view of the database: what is logged now may be added the next moment.
    conn.in_snapshot(|conn| {
        let own = usage::table
            .inner_join(domains::table.on(domains::id.eq(usage::domain_id)))
            .filter(domains::user_id.eq(tenant).and(usage::domain_id.eq(domain)).and(usage::day.ge(since)));
        let added: Vec<Counted> = own.select(Counted::as_select()).load(conn)?;
        let logged = usage_log::table.filter(usage_log::bucket.eq(bucket(&domain))).select(usage_log::counts);
        let logged: Vec<String> = logged.load(conn)?;
        let logged = logged.iter().flat_map(|counts| parse(counts));
        let of_it = logged.filter(|(id, day, ..)| id == domain.as_str() && *day >= since);
        Ok(added.into_iter().chain(of_it.map(|(_, day, kind, count)| Counted { day, kind, count })).collect())
    })
}

/// Who did something of that kind, for the operator.
#[derive(Clone, Debug, Queryable)]
pub struct User {
    /// The domain.
    pub domain: DomainId,
    /// Its host.
    pub host: String,
    /// Its owner's name.
    pub username: String,
    /// The last day on which it did, in days since 1970.
    pub day: i64,
    /// How often on that day.
    pub count: i64,
}

/// Every domain that did something of that kind since that day, a row a day, latest first.
pub fn users_of(conn: &mut Conn, kind: &str, since: i64) -> QueryResult<Vec<User>> {
    usage::table
        .inner_join(domains::table.on(domains::id.eq(usage::domain_id)))
        .inner_join(users::table.on(users::id.eq(domains::user_id)))
        .filter(usage::kind.eq(kind).and(usage::day.ge(since)).and(users::ended.eq(false)))
        .order((usage::day.desc(), domains::host, domains::id))
        .select((domains::id, domains::host, users::username, usage::day, usage::count))
        .load(conn)
}

/// Forgets at most so many rows from before that day, and returns how many.
pub fn prune(conn: &mut Conn, before: i64, rows: i64) -> QueryResult<usize> {
    batch::delete_some::<BigInt, _>(conn, "usage", "day < $1", before, rows)
}
