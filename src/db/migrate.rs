//! The two embedded migration trees, one per database, with the same names.

use diesel::QueryableByName;
use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::migration::{MigrationSource, MigrationVersion};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::Conn;
use crate::exit::Exit;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// Nodes that start at once migrate one after another; any number will do that nobody else uses.
const ADVISORY_LOCK: i64 = 0x6761_7465_6269_7264;

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = BigInt)]
    server: i64,
}

/// Brings the schema up to this binary's version.
///
/// # Errors
/// 65 when the schema is newer than the binary or a migration fails, 69 when the database does not answer.
pub fn run(conn: &mut Conn) -> Result<Vec<String>, Exit> {
    match conn {
        Conn::Sqlite(conn) => apply(conn, SQLITE),
        Conn::Postgres(conn) => {
            let away = |error| Exit::unavailable(format!("the database does not answer: {error}"));
            let version: Version = diesel::sql_query("SELECT current_setting('server_version_num')::bigint AS server")
                .get_result(conn)
                .map_err(away)?;
            if version.server < 120_000 {
                return Err(Exit::config("PostgreSQL 12 or newer is needed"));
            }
            conn.batch_execute("SET statement_timeout = 0").map_err(away)?;
            conn.batch_execute(&format!("SELECT pg_advisory_lock({ADVISORY_LOCK})")).map_err(away)?;
            let applied = apply(conn, POSTGRES);
            // The connection is closed next; that would give the lock back too.
            conn.batch_execute(&format!("SELECT pg_advisory_unlock({ADVISORY_LOCK})")).map_err(away)?;
            applied
        }
    }
}

fn apply<DB: Backend>(conn: &mut impl MigrationHarness<DB>, source: EmbeddedMigrations) -> Result<Vec<String>, Exit> {
    let failed = |error| Exit::data(format!("cannot migrate the database: {error}"));
    let known = MigrationSource::<DB>::migrations(&source).map_err(failed)?;
    let known: Vec<MigrationVersion<'_>> =
        known.iter().map(|migration| migration.name().version().as_owned()).collect();
    let applied = conn.applied_migrations().map_err(failed)?;
    if let Some(newer) = applied.iter().find(|version| !known.contains(version)) {
        return Err(Exit::data(format!(
            "the database has migration {newer}, which this gatebird does not know: it was used by a newer version; run that one"
        )));
    }
    let applied = conn.run_pending_migrations(source).map_err(failed)?;
    Ok(applied.iter().map(ToString::to_string).collect())
}
