//! Checks at the start: the database is whole, of a kind that Gatebird can use, and grants the needed privileges.

use diesel::QueryableByName;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};

use super::Conn;
use super::connection::{Access, establish};
use super::errors::{Refusal, refused};
use crate::config::Database;
use crate::exit::Exit;

/// Files larger than this are not checked at the start, because the check reads the whole file.
pub(super) const MAX_CHECKED_AT_START: i64 = 64 << 20;

/// Refuses a damaged SQLite file before anything is written to it. Files larger than `max_size` bytes are not checked.
pub(super) fn check_file(conn: &mut Conn, database: &Database, max_size: i64) -> Result<(), Exit> {
    let (Conn::Sqlite(conn), Database::Sqlite(path)) = (conn, database) else {
        return Ok(());
    };
    if std::fs::metadata(path).map_or(0, |file| file.len() as i64) > max_size {
        return Ok(());
    }
    let finding: String = sql::<Text>("PRAGMA quick_check(1)").get_result(conn).map_err(refused(database))?;
    if finding == "ok" { Ok(()) } else { Err(Refusal::Damaged.exit(database, &finding)) }
}

/// Refuses a PostgreSQL server that is too old, has another encoding than UTF8, or is behind a pooler that changes
/// sessions.
pub(super) fn check_server(conn: &mut Conn, database: &Database) -> Result<(), Exit> {
    if let Conn::Sqlite(_) = conn {
        return Ok(());
    }
    let server = sql::<(Text, Bool)>(
        "SELECT current_setting('server_encoding'), current_setting('server_version_num')::bigint < 120000",
    );
    let (encoding, is_old): (String, bool) = server.get_result(conn).map_err(refused(database))?;
    if is_old {
        return Err(Exit::config("PostgreSQL 12 or newer is required"));
    }
    if encoding != "UTF8" {
        return Err(Exit::config(format!(
            "the database has the encoding {encoding}, but names and posts need UTF8: create it with ENCODING 'UTF8' TEMPLATE \
             template0"
        )));
    }
    let backend = |conn: &mut Conn| {
        let query = "SELECT pid || ' ' || backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        sql::<Text>(query).get_result::<String>(conn).map_err(refused(database))
    };
    // While a session is open, no other session can have its backend.
    let mut other = establish(database, Access::Sync).map_err(refused(database))?;
    if backend(conn)? == backend(&mut other)? { Err(Refusal::Pooled.exit(database, "")) } else { Ok(()) }
}

#[derive(QueryableByName)]
struct State {
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Bool)]
    may_create: bool,
    #[diesel(sql_type = Bool)]
    is_standby: bool,
    #[diesel(sql_type = Bool)]
    is_read_only: bool,
}

const STATE: &str = "SELECT current_user::text AS role,
    coalesce(current_schema()::text, '(none)') AS schema,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only') = 'on' AS is_read_only";

/// Missing privileges on the tables and sequences of Gatebird. They have the schema and the owner of the table of
/// migrations, which itself is only read.
const MISSING: &str = "SELECT needed.privilege || ' on ' || class.relname
    FROM pg_class AS migrations
    JOIN pg_class AS class ON class.relnamespace = migrations.relnamespace AND class.relowner = migrations.relowner
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE']) AS needed (privilege)
    WHERE migrations.oid = to_regclass('__diesel_schema_migrations')
    AND CASE
        WHEN class.oid = migrations.oid THEN needed.privilege = 'SELECT' AND NOT has_table_privilege(class.oid, 'SELECT')
        WHEN class.relkind = 'r' THEN needed.privilege <> 'USAGE' AND NOT has_table_privilege(class.oid, needed.privilege)
        WHEN class.relkind = 'S' THEN needed.privilege = 'USAGE' AND NOT has_sequence_privilege(class.oid, 'USAGE')
        ELSE false
    END
    ORDER BY class.relname, needed.privilege";

/// Maximum number of missing privileges that the message names.
const MAX_NAMED: usize = 6;

/// Refuses a database whose rows cannot be changed.
pub(super) fn check_rights(conn: &mut Conn, database: &Database) -> Result<(), Exit> {
    if let Conn::Sqlite(conn) = conn {
        // The statement changes nothing. Failing because the file is locked is no refusal.
        return match conn.batch_execute("DELETE FROM __diesel_schema_migrations WHERE false") {
            Err(error) if Refusal::of(&error.to_string()) == Refusal::ReadOnly => Err(refused(database)(error)),
            _ => Ok(()),
        };
    }
    let state = writable(conn, database)?;
    let mut missing: Vec<String> = sql::<Text>(MISSING).load(conn).map_err(refused(database))?;
    if missing.is_empty() {
        return Ok(());
    }
    let State { role, schema, .. } = state;
    let more = if missing.len() > MAX_NAMED { ", ..." } else { "" };
    missing.truncate(MAX_NAMED);
    Err(Exit::no_permission(format!(
        "the role {role} lacks privileges: {}{more}; the owner can run: GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES \
         IN SCHEMA {schema} TO {role}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};",
        missing.join(", ")
    )))
}

/// Refuses a database in which tables cannot be created.
pub(super) fn check_creation(conn: &mut Conn, database: &Database) -> Result<(), Exit> {
    if let Conn::Sqlite(_) = conn {
        return Ok(());
    }
    match writable(conn, database)? {
        State { may_create: true, .. } => Ok(()),
        State { role, schema, .. } => Err(Exit::no_permission(format!(
            "the database must be migrated, but the role {role} lacks CREATE on the schema {schema}; run gatebird migrate as \
             a role that has it"
        ))),
    }
}

/// Refuses a PostgreSQL server or database that is read-only.
fn writable(conn: &mut Conn, database: &Database) -> Result<State, Exit> {
    let state: State = sql_query(STATE).get_result(conn).map_err(refused(database))?;
    match state {
        State { is_standby: true, .. } => {
            Err(Exit::no_permission("the database is a read-only standby; name the primary in DATABASE_URL"))
        }
        State { is_read_only: true, .. } => Err(Exit::no_permission(
            "the database is read-only (default_transaction_read_only); name a writable one in DATABASE_URL",
        )),
        state => Ok(state),
    }
}
