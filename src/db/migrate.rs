//! The two embedded migration trees, one per database, with the same names.

use diesel::QueryableByName;
use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::Conn;
use super::connection::refused;
use super::rights;
use crate::config::Database;
use crate::exit::Exit;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// Nodes that start at once migrate one after another; any number will do that nobody else uses.
const ADVISORY_LOCK: i64 = 0x6761_7465_6269_7264;

/// What a process does where the database is not of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Brings any database up to this version, as a server does.
    Migrate,
    /// Makes the tables of an empty database, as a command does that adds something.
    Make,
    /// Leaves it as it is.
    Keep,
}

/// What was done.
pub(super) struct Migrated {
    /// The names of the migrations that were applied.
    pub(super) applied: Vec<String>,
    /// The database had no tables before.
    pub(super) is_new: bool,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

/// Brings the schema up to this binary's version, as far as the policy goes.
///
/// # Errors
/// 65 when the schema is newer than the binary, 69 or 78 when the policy forbids what is needed, 77 when the database does.
pub(super) fn run(conn: &mut Conn, database: &Database, policy: Policy) -> Result<Migrated, Exit> {
    let is_new = !has_tables(conn).map_err(refused(database))?;
    if !is_new && policy != Policy::Keep {
        rights::check(conn, database)?;
    }
    let applied = if is_new { Vec::new() } else { versions(conn).map_err(refused(database))? };
    let known = match conn {
        Conn::Sqlite(_) => names::<diesel::sqlite::Sqlite>(SQLITE),
        Conn::Postgres(_) => names::<diesel::pg::Pg>(POSTGRES),
    };
    if let Some(newer) = applied.iter().find(|version| !known.contains(version)) {
        return Err(Exit::data(format!(
            "the database has migration {newer}, which this gatebird does not know: it was used by a newer version; run that one"
        )));
    }
    if known.len() == applied.len() {
        return Ok(Migrated { applied: Vec::new(), is_new });
    }
    match policy {
        Policy::Migrate => {}
        Policy::Make if is_new => {}
        _ if is_new => {
            return Err(Exit::unavailable(
                "the database has no tables yet; start the server, or run: gatebird migrate",
            ));
        }
        _ => {
            return Err(Exit::config(
                "the database is of an older version; start the server of this version, or run: gatebird migrate",
            ));
        }
    }
    rights::check_creation(conn, database)?;
    let applied = match conn {
        Conn::Sqlite(conn) => apply(conn, SQLITE).map_err(refused(database))?,
        Conn::Postgres(conn) => {
            conn.batch_execute("SET statement_timeout = 0").map_err(refused(database))?;
            conn.batch_execute(&format!("SELECT pg_advisory_lock({ADVISORY_LOCK})")).map_err(refused(database))?;
            let applied = apply(conn, POSTGRES).map_err(refused(database));
            // The connection is closed next; that would give the lock back too.
            conn.batch_execute(&format!("SELECT pg_advisory_unlock({ADVISORY_LOCK})")).map_err(refused(database))?;
            applied?
        }
    };
    Ok(Migrated { applied, is_new })
}

fn has_tables(conn: &mut Conn) -> QueryResult<bool> {
    let query = match conn {
        Conn::Sqlite(_) => {
            "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '__diesel_schema_migrations') AS found"
        }
        Conn::Postgres(_) => "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS found",
    };
    Ok(diesel::sql_query(query).get_result::<Found>(conn)?.found)
}

/// Reads the versions without the library, which would first try to make the table that it reads.
fn versions(conn: &mut Conn) -> QueryResult<Vec<String>> {
    let rows: Vec<Version> = diesel::sql_query("SELECT version FROM __diesel_schema_migrations").load(conn)?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

fn names<DB: Backend>(source: EmbeddedMigrations) -> Vec<String> {
    let known: Vec<Box<dyn Migration<DB>>> = source.migrations().expect("embedded migrations are well-formed");
    known.iter().map(|migration| migration.name().version().to_string()).collect()
}

fn apply<DB: Backend>(
    conn: &mut impl MigrationHarness<DB>,
    source: EmbeddedMigrations,
) -> diesel::migration::Result<Vec<String>> {
    Ok(conn.run_pending_migrations(source)?.iter().map(ToString::to_string).collect())
}
