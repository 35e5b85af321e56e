//! The two embedded migration trees, one per database, with the same names.
//!
//! A column that holds one of several words, such as a plan or an algorithm, has no `CHECK` that lists them: a new word then
//! needs no migration. The SQLite tables are `STRICT`, so that no column holds a value of another type.

use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::errors::refused;
use super::{Conn, checks};
use crate::config::Database;
use crate::exit::Exit;

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
/// The lock by which nodes that start at the same time migrate one after another. The number is arbitrary.
const ADVISORY_LOCK: i64 = 0x6761_7465_6269_7264;

/// What a process may do to a database that is not of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Migrate any database to this version, as a server does.
    Migrate,
    /// Create the tables of an empty database, as a command that adds data does.
    Create,
    /// Nothing.
    Keep,
}

/// The result of a migration.
pub(super) struct Migrated {
    /// The versions of the applied migrations.
    pub(super) applied: Vec<String>,
    /// Whether the database had no tables before.
    pub(super) is_new: bool,
}

/// Migrates the schema to this version as far as the policy allows.
///
/// # Errors
/// Exit code 65 if another version has migrated the database, 69 or 78 if the policy forbids what is needed, 77 if a
/// privilege is missing.
pub(super) fn run(conn: &mut Conn, database: &Database, policy: Policy) -> Result<Migrated, Exit> {
    run_from(conn, database, policy, SQLITE, POSTGRES)
}

fn run_from(
    conn: &mut Conn,
    database: &Database,
    policy: Policy,
    sqlite: impl MigrationSource<Sqlite>,
    postgres: impl MigrationSource<Pg>,
) -> Result<Migrated, Exit> {
    let is_new = !has_tables(conn).map_err(refused(database))?;
    if !is_new && policy != Policy::Keep {
        checks::check_rights(conn, database)?;
    }
    let applied = if is_new { Vec::new() } else { versions(conn).map_err(refused(database))? };
    let known = match conn {
        Conn::Sqlite(_) => names(&sqlite),
        Conn::Postgres(_) => names(&postgres),
    };
    if let Some(unknown) = applied.iter().find(|version| !known.contains(version)) {
        return Err(Exit::data(format!(
            "the database has migration {unknown}, which this gatebird does not know: another version, probably a newer one, \
             has migrated it; run that version"
        )));
    }
    if known.len() == applied.len() {
        return Ok(Migrated { applied: Vec::new(), is_new });
    }
    match policy {
        Policy::Migrate => {}
        Policy::Create if is_new => {}
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
    checks::check_creation(conn, database)?;
    let applied = match conn {
        Conn::Sqlite(conn) => apply(conn, sqlite).map_err(refused(database))?,
        Conn::Postgres(conn) => {
            conn.batch_execute("SET statement_timeout = 0").map_err(refused(database))?;
            conn.batch_execute(&format!("SELECT pg_advisory_lock({ADVISORY_LOCK})")).map_err(refused(database))?;
            let applied = apply(conn, postgres).map_err(refused(database));
            // Closing the connection would release the lock too.
            conn.batch_execute(&format!("SELECT pg_advisory_unlock({ADVISORY_LOCK})")).map_err(refused(database))?;
            applied?
        }
    };
    Ok(Migrated { applied, is_new })
}

/// Returns whether the database has Gatebird's tables.
pub(super) fn has_tables(conn: &mut Conn) -> QueryResult<bool> {
    let query = match conn {
        Conn::Sqlite(_) => "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '__diesel_schema_migrations')",
        Conn::Postgres(_) => "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL",
    };
    sql::<Bool>(query).get_result(conn)
}

/// Reads the versions without `diesel_migrations`, which would first try to create the table.
fn versions(conn: &mut Conn) -> QueryResult<Vec<String>> {
    sql::<Text>("SELECT version FROM __diesel_schema_migrations").load(conn)
}

fn names<DB: Backend>(source: &impl MigrationSource<DB>) -> Vec<String> {
    let known = source.migrations().expect("embedded migrations are well-formed");
    known.iter().map(|migration| migration.name().version().to_string()).collect()
}

fn apply<DB: Backend>(
    conn: &mut impl MigrationHarness<DB>,
    source: impl MigrationSource<DB>,
) -> diesel::migration::Result<Vec<String>> {
    Ok(conn.run_pending_migrations(source)?.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
#[expect(non_snake_case, reason = "a test is named `feature__condition`")]
mod tests {
    use std::fs;
    use std::path::Path;

    use diesel_migrations::FileBasedMigrations;

    use super::super::connection::{Access, establish};
    use super::super::schema::users;
    use super::*;

    /// Writes the migrations of a later version: this version's, and one more.
    fn write_later(folder: &Path) {
        for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite")).expect("a folder") {
            let entry = entry.expect("a migration");
            let copy = folder.join(entry.file_name());
            fs::create_dir_all(&copy).expect("a folder");
            fs::copy(entry.path().join("up.sql"), copy.join("up.sql")).expect("a copy");
        }
        let last = folder.join("9999-01-01-000000_notes");
        fs::create_dir(&last).expect("a folder");
        fs::write(last.join("up.sql"), "ALTER TABLE users ADD COLUMN note TEXT").expect("a file");
    }

    #[test]
    fn migrate__an_upgrade_keeps_the_rows_and_shuts_out_the_earlier_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Database::Sqlite(folder.path().join("gatebird.db"));
        let migrations = folder.path().join("later");
        write_later(&migrations);
        let later = || FileBasedMigrations::from_path(&migrations).expect("migrations");
        let conn = &mut establish(&database, Access::Write).expect("a connection");
        let created = run(conn, &database, Policy::Create).expect("created");
        assert!(created.is_new && created.applied.len() == 1, "{:?}", created.applied);
        let user =
            "INSERT INTO users (username, username_key, nick, password_hash, created_at) VALUES ('a', 'a', 'a', '', 0)";
        conn.batch_execute(user).expect("a user");

        for policy in [Policy::Keep, Policy::Create] {
            let exit = run_from(conn, &database, policy, later(), POSTGRES).err().expect("the database is older");
            assert!(exit.code == 78 && exit.line.contains("older"), "{exit}");
        }
        let upgraded = run_from(conn, &database, Policy::Migrate, later(), POSTGRES).expect("upgraded");
        assert_eq!((upgraded.is_new, upgraded.applied), (false, vec!["99990101000000".to_owned()]));
        assert_eq!(users::table.count().get_result(conn), Ok(1_i64));
        let again = run_from(conn, &database, Policy::Keep, later(), POSTGRES).expect("the same version");
        assert!(!again.is_new && again.applied.is_empty());

        for policy in [Policy::Keep, Policy::Create, Policy::Migrate] {
            let exit = run(conn, &database, policy).err().expect("the database is newer");
            assert!(exit.code == 65 && exit.line.contains("99990101000000"), "{exit}");
        }
    }
}
