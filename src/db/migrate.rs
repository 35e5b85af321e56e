//! The two embedded migration trees, one per database, with the same names.
//!
//! A column that holds one of several words, such as a plan or an algorithm, has no `CHECK` that lists them: a new word then
//! needs no migration. The SQLite tables are `STRICT`, so that no column holds a value of another type.

use diesel::QueryableByName;
use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel::sqlite::Sqlite;
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
/// 65 when another version has migrated the database, 69 or 78 when the policy forbids what is needed, 77 when the database
/// does.
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
        rights::check(conn, database)?;
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
        Conn::Sqlite(conn) => apply(conn, sqlite).map_err(refused(database))?,
        Conn::Postgres(conn) => {
            conn.batch_execute("SET statement_timeout = 0").map_err(refused(database))?;
            conn.batch_execute(&format!("SELECT pg_advisory_lock({ADVISORY_LOCK})")).map_err(refused(database))?;
            let applied = apply(conn, postgres).map_err(refused(database));
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
        let made = run(conn, &database, Policy::Make).expect("made");
        assert!(made.is_new && made.applied.len() == 1, "{:?}", made.applied);
        let user =
            "INSERT INTO users (username, username_key, nick, password_hash, created_at) VALUES ('a', 'a', 'a', '', 0)";
        conn.batch_execute(user).expect("a user");

        for policy in [Policy::Keep, Policy::Make] {
            let exit = run_from(conn, &database, policy, later(), POSTGRES).err().expect("the database is older");
            assert!(exit.code == 78 && exit.line.contains("older"), "{exit}");
        }
        let upgraded = run_from(conn, &database, Policy::Migrate, later(), POSTGRES).expect("upgraded");
        assert_eq!((upgraded.is_new, upgraded.applied), (false, vec!["99990101000000".to_owned()]));
        assert_eq!(users::table.count().get_result(conn), Ok(1_i64));
        let again = run_from(conn, &database, Policy::Keep, later(), POSTGRES).expect("the same version");
        assert!(!again.is_new && again.applied.is_empty());

        for policy in [Policy::Keep, Policy::Make, Policy::Migrate] {
            let exit = run(conn, &database, policy).err().expect("the database is newer");
            assert!(exit.code == 65 && exit.line.contains("99990101000000"), "{exit}");
        }
    }
}
