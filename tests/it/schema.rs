//! Both migration trees make the same schema, which is the one of `src/db/schema.rs`; and the triggers count the
//! changes of the directory's tables, which every node's memory relies on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use gatebird::config::Algorithm;
use gatebird::db::domain::DomainRow;
use gatebird::db::schema::{
    audit, audit_archive, audit_head, challenges, deleted_domains, domains, imports, known_networks, post_hashtags,
    posts, removals, revision, revision_stamps, revocations, secret_uses, secrets, signing_keys, supersedings,
    tombstones, trusted_time, usage, used_assertions, users, verified_hosts,
};
use gatebird::db::used_assertion::UsedAssertion;
use gatebird::db::{Conn, Db};
use gatebird::error::Error;
use gatebird::id::{DomainId, TokenId};
use gatebird::secret::SecretDigest;

use crate::harness::{Database, config, needs_postgres};

/// What `table!` does not state: foreign keys, unique columns and indexes.
const CONSTRAINTS: &[&str] = &[
    "audit INDEX (tenant, id)",
    "challenges FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
    "challenges INDEX (expires_at)",
    "domains FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
    "domains INDEX (host, superseded)",
    "domains INDEX (revision)",
    "domains UNIQUE (user_id, host)",
    "known_networks FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
    "known_networks INDEX (seen_at)",
    "post_hashtags FOREIGN KEY (post_id) REFERENCES posts(id) ON DELETE CASCADE",
    "post_hashtags INDEX (post_id)",
    "posts FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
    "posts INDEX (user_id, id)",
    "revocations INDEX (expires_at)",
    "revocations INDEX (revision)",
    "secret_uses FOREIGN KEY (secret_id) REFERENCES secrets(id) ON DELETE CASCADE",
    "secrets FOREIGN KEY (domain_id) REFERENCES domains(id) ON DELETE CASCADE",
    "secrets INDEX (domain_id)",
    "secrets INDEX (revision)",
    "secrets UNIQUE (digest)",
    "signing_keys INDEX (revision)",
    "usage INDEX (day)",
    "used_assertions INDEX (expires_at)",
    "used_assertions INDEX (revision)",
    "users INDEX (revision)",
    "users UNIQUE (username_key)",
    "verified_hosts FOREIGN KEY (domain_id) REFERENCES domains(id) ON DELETE CASCADE",
    "verified_hosts INDEX (checked_at)",
];

/// The schema of a SQLite file, a line for each column and constraint.
const OF_SQLITE: &str = "
WITH tables AS (
    SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_\\_%' ESCAPE '\\'
), indexes AS (
    SELECT t.name AS tab, i.origin AS origin, i.\"unique\" AS only_one,
        (SELECT group_concat(name, ', ') FROM (SELECT c.name FROM pragma_index_info(i.name) c ORDER BY c.seqno)) AS columns
    FROM tables t, pragma_index_list(t.name) i WHERE NOT i.partial
)
SELECT t.name || '.' || c.name || CASE c.type
        WHEN 'INTEGER' THEN CASE instr(t.sql, 'CHECK (' || c.name || ' IN (FALSE, TRUE))') WHEN 0 THEN ' BigInt' ELSE ' Bool' END
        WHEN 'TEXT' THEN ' Text' WHEN 'BLOB' THEN ' Binary' ELSE c.type END
    || CASE c.\"notnull\" WHEN 1 THEN '' ELSE ' null' END AS line
    FROM tables t, pragma_table_info(t.name) c
UNION ALL
SELECT t.name || ' PRIMARY KEY (' || (SELECT group_concat(name, ', ') FROM
    (SELECT c.name FROM pragma_table_info(t.name) c WHERE c.pk > 0 ORDER BY c.pk)) || ')' FROM tables t
UNION ALL
SELECT tab || ' UNIQUE (' || columns || ')' FROM indexes WHERE only_one AND origin <> 'pk'
UNION ALL
SELECT tab || ' INDEX (' || columns || ')' FROM indexes WHERE NOT only_one
UNION ALL
SELECT t.name || ' FOREIGN KEY (' || k.\"from\" || ') REFERENCES ' || k.\"table\" || '(' || k.\"to\" || ') ON DELETE ' || k.on_delete
    FROM tables t, pragma_foreign_key_list(t.name) k";

/// The same for the current schema of PostgreSQL.
const OF_POSTGRES: &str = "
SELECT c.table_name || '.' || c.column_name || CASE c.data_type
        WHEN 'bigint' THEN ' BigInt' WHEN 'text' THEN ' Text' WHEN 'bytea' THEN ' Binary'
        WHEN 'boolean' THEN ' Bool' ELSE c.data_type END
    || CASE c.is_nullable WHEN 'NO' THEN '' ELSE ' null' END AS line
    FROM information_schema.columns c
    WHERE c.table_schema = current_schema() AND c.table_name NOT LIKE '\\_\\_%'
UNION ALL
SELECT t.relname || ' ' || pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid
    WHERE t.relnamespace = current_schema()::regnamespace AND k.contype IN ('p', 'u', 'f') AND t.relname NOT LIKE '\\_\\_%'
UNION ALL
SELECT t.relname || ' INDEX ' || substring(pg_get_indexdef(i.indexrelid) FROM '\\(.*\\)')
    FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
    WHERE t.relnamespace = current_schema()::regnamespace AND i.indpred IS NULL
        AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))";

#[derive(QueryableByName)]
struct CatalogueLine {
    #[diesel(sql_type = Text)]
    line: String,
}

/// The schema of Diesel and the constraints, in the same lines.
fn expected() -> BTreeSet<String> {
    let source = fs::read_to_string(root().join("src/db/schema.rs")).expect("src/db/schema.rs");
    let mut lines: BTreeSet<String> = CONSTRAINTS.iter().map(ToString::to_string).collect();
    for block in source.split("diesel::table! {").skip(1) {
        let mut rows = block.lines().map(str::trim).filter(|row| !row.is_empty());
        let (table, key) =
            rows.next().and_then(|head| head.strip_suffix(" {")?.split_once(' ')).expect("a table's head");
        lines.insert(format!("{table} PRIMARY KEY {key}"));
        for (column, kind) in rows.map_while(|row| row.strip_suffix(',')?.split_once(" -> ")) {
            let line = match kind.strip_prefix("Nullable<").and_then(|kind| kind.strip_suffix('>')) {
                Some(kind) => format!("{table}.{column} {kind} null"),
                None => format!("{table}.{column} {kind}"),
            };
            lines.insert(line);
        }
    }
    lines
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

fn migrations(tree: &str) -> PathBuf {
    root().join("migrations").join(tree)
}

fn lines<C: diesel::connection::LoadConnection>(conn: &mut C, query: &str) -> BTreeSet<String>
where
    diesel::query_builder::SqlQuery: for<'a> diesel::query_dsl::LoadQuery<'a, C, CatalogueLine>,
{
    let lines: Vec<CatalogueLine> = diesel::sql_query(query).load(conn).expect("the catalogue answers");
    let count = lines.len();
    let lines: BTreeSet<String> = lines.into_iter().map(|line| line.line).collect();
    assert_eq!(lines.len(), count, "a constraint is listed twice");
    lines
}

/// The statement for that database. Bytes are `X'31'` in SQLite; in PostgreSQL that would be bits.
fn in_dialect(statement: &str, on_postgres: bool) -> String {
    if on_postgres { statement.replace("X'", "'\\x") } else { statement.to_owned() }
}

/// Reverts all migrations and applies them again, with data in the tables.
fn revert_and_reapply<C>(conn: &mut C, tree: &str, catalogue: &str)
where
    C: diesel::connection::LoadConnection + MigrationHarness<C::Backend>,
    C::Backend: diesel::backend::Backend,
    FileBasedMigrations: diesel::migration::MigrationSource<C::Backend>,
    diesel::query_builder::SqlQuery: for<'a> diesel::query_dsl::LoadQuery<'a, C, CatalogueLine>,
{
    let source = || FileBasedMigrations::from_path(migrations(tree)).expect("the migrations");
    assert_eq!(lines(conn, catalogue), expected());
    assert!(!conn.has_pending_migration(source()).expect("the list of migrations"), "the binary embeds an older tree");
    let data = in_dialect(SOME_DATA, tree == "postgres");
    conn.batch_execute(&data).expect("some data");
    conn.batch_execute("DELETE FROM domains WHERE id = 'dom_2'").expect("a deletion");
    conn.revert_all_migrations(source()).expect("the migrations are reverted");
    assert_eq!(lines(conn, catalogue), BTreeSet::new());
    conn.run_pending_migrations(source()).expect("the migrations are applied");
    assert_eq!(lines(conn, catalogue), expected());
    conn.batch_execute(&data).expect("some data again");
}

/// Two users, the first with two domains, three secrets and a post with a hashtag; a signing key, a revoked token and a
/// used assertion.
const SOME_DATA: &str = "
INSERT INTO users (username, username_key, nick, password_hash, created_at) VALUES ('A', 'a', 'a', '', 0);
INSERT INTO users (username, username_key, nick, password_hash, created_at) VALUES ('B', 'b', 'b', '', 0);
INSERT INTO domains (id, user_id, host, plan, created_at) VALUES ('dom_1', 1, 'one.example', 'free', 0);
INSERT INTO domains (id, user_id, host, plan, created_at) VALUES ('dom_2', 1, 'two.example', 'free', 0);
INSERT INTO secrets (domain_id, digest, hint, created_at) VALUES ('dom_1', X'31', '', 0);
INSERT INTO secrets (domain_id, digest, hint, created_at) VALUES ('dom_1', X'32', '', 0);
INSERT INTO secrets (domain_id, digest, hint, created_at) VALUES ('dom_2', X'33', '', 0);
INSERT INTO posts (user_id, content, created_at, updated_at) VALUES (1, '#x', 0, 0);
INSERT INTO post_hashtags (user_id, title, post_id) VALUES (1, 'x', 1);
INSERT INTO signing_keys (kid, algorithm, sealed, created_at, signs_from) VALUES ('key_1', 'ES256', X'', 0, 0);
INSERT INTO revocations (jti, expires_at) VALUES (X'31', 0);
INSERT INTO used_assertions (fingerprint, tenant, expires_at) VALUES (X'31', 1, 0);
INSERT INTO challenges (user_id, host, token, expires_at) VALUES (1, 'one.example', '', 0);
INSERT INTO verified_hosts (domain_id, method, token, checked_at) VALUES ('dom_1', 'dns', '', 0);
INSERT INTO secret_uses (secret_id, used_at) VALUES (1, 0);
INSERT INTO usage (domain_id, day, kind, count) VALUES ('dom_1', 0, 'tokens', 1);
INSERT INTO known_networks (user_id, network, seen_at) VALUES (1, '192.0.2.1', 0);
INSERT INTO removals (user_id, ended_at) VALUES (2, 0);
INSERT INTO deleted_domains (domain_id) VALUES ('dom_0');
INSERT INTO supersedings (host) VALUES ('one.example');
INSERT INTO imports (source, number, target) VALUES ('x', '1', 'usr_1');";

#[test]
fn migrations__both_trees_have_the_same() {
    let names = |tree: &str| {
        let folder = fs::read_dir(migrations(tree)).expect("a migration tree");
        let folders = folder.map(|entry| entry.expect("an entry").path());
        folders
            .map(|path| {
                for file in ["up.sql", "down.sql"] {
                    assert!(path.join(file).is_file(), "{} has no {file}", path.display());
                }
                path.file_name().expect("a name").to_owned()
            })
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(names("sqlite"), names("postgres"));
    assert!(!names("sqlite").is_empty());
}

#[test]
fn migrations__sqlite_schema_matches_the_source() {
    let database = Database::sqlite();
    Db::migrate(&config(&database, &[]).database).expect("migrated");
    let path = database.url.strip_prefix("sqlite://").expect("a path");
    let mut conn = SqliteConnection::establish(path).expect("the file opens");
    revert_and_reapply(&mut conn, "sqlite", OF_SQLITE);
    let not_strict = "SELECT name AS line FROM pragma_table_list
        WHERE schema = 'main' AND type = 'table' AND NOT strict AND name NOT LIKE 'sqlite%' AND name NOT LIKE '\\_\\_%' ESCAPE '\\'";
    assert_eq!(lines(&mut conn, not_strict), BTreeSet::new());
}

/// Only on PostgreSQL.
#[test]
fn migrations__postgres_schema_matches_the_source() {
    let Some(base) = needs_postgres() else {
        return;
    };
    let database = Database::in_schema(&base);
    let secret = ("JWT_SECRET".to_owned(), crate::harness::JWT_SECRET.to_owned());
    Db::migrate(&config(&database, &[secret]).database).expect("migrated");
    let mut conn = PgConnection::establish(&database.url).expect("PostgreSQL answers");
    revert_and_reapply(&mut conn, "postgres", OF_POSTGRES);
}

#[test]
fn schema__every_column_is_readable() {
    let database = Database::new();
    let db = database.open();
    db.write_now(|conn| Ok(conn.batch_execute(&in_dialect(SOME_DATA, database.is_postgres()))?)).expect("some data");
    db.read_now(|conn| {
        type User = (i64, String, String, String, String, i64, bool, bool, i64, i64);
        type Domain = (
            String,
            i64,
            i64,
            String,
            String,
            Option<String>,
            Option<String>,
            Option<String>,
            Option<i64>,
            Option<i64>,
            bool,
            i64,
            bool,
            bool,
            Option<i64>,
            i64,
            i64,
        );
        type Secret = (i64, String, Vec<u8>, String, Option<i64>, bool, i64, Option<String>, Option<String>, i64);
        type SigningKey = (String, String, Vec<u8>, i64, i64, Option<i64>, i64);
        type Tombstone = (i64, Option<i64>, Option<String>, Option<Vec<u8>>, Option<String>, i64);
        assert_eq!(users::table.load::<User>(conn)?.len(), 2);
        assert_eq!(domains::table.load::<Domain>(conn)?.len(), 2);
        assert_eq!(secrets::table.load::<Secret>(conn)?.len(), 3);
        assert_eq!(signing_keys::table.load::<SigningKey>(conn)?.len(), 1);
        assert_eq!(revocations::table.load::<(Vec<u8>, i64, i64)>(conn)?, [(b"1".to_vec(), 0, 9)]);
        assert_eq!(used_assertions::table.load::<(Vec<u8>, i64, i64, i64)>(conn)?, [(b"1".to_vec(), 1, 0, 10)]);
        assert_eq!(tombstones::table.load::<Tombstone>(conn)?.len(), 0);
        assert_eq!(
            revision::table
                .select((revision::id, revision::value, revision::forgotten))
                .load::<(i64, i64, i64)>(conn)?,
            [(1, 10, 0)]
        );
        assert_eq!(revision_stamps::table.load::<(i64, i64)>(conn)?.len(), 11);
        assert_eq!(posts::table.load::<(i64, i64, String, Option<String>, i64, i64)>(conn)?.len(), 1);
        assert_eq!(post_hashtags::table.load::<(i64, String, i64)>(conn)?, [(1, "x".to_owned(), 1)]);
        type Audit = (i64, i64, String, Option<String>, Option<i64>, String, String, Option<String>, Vec<u8>);
        assert_eq!(audit::table.load::<Audit>(conn)?.len(), 0);
        assert_eq!(audit_head::table.load::<(i64, i64, Vec<u8>)>(conn)?, [(1, 0, Vec::new())]);
        assert_eq!(challenges::table.load::<(i64, String, String, i64)>(conn)?.len(), 1);
        assert_eq!(known_networks::table.load::<(i64, String, i64)>(conn)?.len(), 1);
        assert_eq!(removals::table.load::<(i64, i64)>(conn)?, [(2, 0)]);
        assert_eq!(deleted_domains::table.select(deleted_domains::domain_id).load::<String>(conn)?, ["dom_0"]);
        assert_eq!(supersedings::table.select(supersedings::host).load::<String>(conn)?, ["one.example"]);
        assert_eq!(verified_hosts::table.load::<(String, String, String, i64, Option<i64>)>(conn)?.len(), 1);
        assert_eq!(secret_uses::table.load::<(i64, i64, Option<String>, Option<i64>)>(conn)?.len(), 1);
        assert_eq!(usage::table.load::<(String, i64, String, i64)>(conn)?.len(), 1);
        assert_eq!(audit_archive::table.load::<(i64, i64, Vec<u8>)>(conn)?, [(1, 0, Vec::new())]);
        assert_eq!(trusted_time::table.load::<(i64, i64)>(conn)?, [(1, 0)]);
        assert_eq!(imports::table.load::<(String, String, String)>(conn)?.len(), 1);
        Ok(())
    })
    .expect("every table");
}

/// A value that no Gatebird writes is an error, and not another value.
#[test]
fn column__value_of_another_form_is_refused() {
    let database = Database::new();
    let db = database.open();
    let id = DomainId::random();
    let data = format!(
        "{SOME_DATA}
        UPDATE signing_keys SET algorithm = 'XS256';
        INSERT INTO domains (id, user_id, host, plan, jwks, created_at) VALUES ('{id}', 2, 'keys.example', 'free', '{{}}', 0);"
    );
    db.write_now(|conn| Ok(conn.batch_execute(&in_dialect(&data, database.is_postgres()))?)).expect("some data");
    type Read = fn(&mut Conn) -> QueryResult<usize>;
    let reads: [(&str, Read); 6] = [
        ("not a domain id", |conn| Ok(usage::table.select(usage::domain_id).load::<DomainId>(conn)?.len())),
        ("a digest has 32 bytes", |conn| Ok(secrets::table.select(secrets::digest).load::<SecretDigest>(conn)?.len())),
        ("16 bytes", |conn| Ok(revocations::table.select(revocations::jti).load::<TokenId>(conn)?.len())),
        ("a fingerprint has 16 bytes", |conn| {
            Ok(used_assertions::table.select(UsedAssertion::as_select()).load(conn)?.len())
        }),
        ("XS256", |conn| Ok(signing_keys::table.select(signing_keys::algorithm).load::<Algorithm>(conn)?.len())),
        ("not one to four public keys", |conn| {
            let with_keys = domains::table.filter(domains::jwks.is_not_null());
            Ok(with_keys.select(DomainRow::as_select()).load(conn)?.len())
        }),
    ];
    for (words, read) in reads {
        let error = db.read_now(|conn| Ok(read(conn)?)).expect_err(words);
        assert!(matches!(&error, Error::Internal(cause) if cause.contains(words)), "{words}: {error:?}");
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Consecutive statements on [`SOME_DATA`], by how much each raises the counter, and the rows or tombstones that then
/// have the new revisions.
#[rustfmt::skip]
const CHANGES: &[(&str, i64, &str)] = &[
    ("UPDATE users SET nick = 'x' WHERE id = 1",                             1, "users WHERE id = 1"),
    ("UPDATE users SET suspended = TRUE",                                    2, "users"),
    ("UPDATE users SET nick = nick WHERE id = 2",                            1, "users WHERE id = 2"),
    ("UPDATE users SET nick = 'x' WHERE id = 99",                            0, ""),
    ("UPDATE domains SET plan = 'premium' WHERE id = 'dom_1'",               1, "domains WHERE id = 'dom_1'"),
    ("UPDATE domains SET generation = generation + 1",                       2, "domains"),
    ("UPDATE secrets SET expires_at = 5 WHERE domain_id = 'dom_1'",          2, "secrets WHERE domain_id = 'dom_1'"),
    ("UPDATE secrets SET expires_at = NULL",                                 3, "secrets"),
    ("UPDATE signing_keys SET signs_until = 5",                              1, "signing_keys"),
    ("INSERT INTO posts (user_id, content, created_at, updated_at) VALUES (1, 'y', 0, 0)", 0, ""),
    ("INSERT INTO post_hashtags (user_id, title, post_id) VALUES (1, 'y', 2)", 0, ""),
    ("UPDATE posts SET content = 'z'",                                       0, ""),
    ("DELETE FROM posts WHERE id = 2",                                       0, ""),
    ("INSERT INTO users (username, username_key, nick, password_hash, created_at) VALUES ('C', 'c', 'c', '', 0)", 1, "users WHERE username_key = 'c'"),
    ("INSERT INTO domains (id, user_id, host, plan, created_at) VALUES ('dom_3', 2, 'one.example', 'free', 0)", 1, "domains WHERE id = 'dom_3'"),
    ("INSERT INTO secrets (domain_id, digest, hint, created_at) VALUES ('dom_3', X'34', '', 0)", 1, "secrets WHERE domain_id = 'dom_3'"),
    ("DELETE FROM secrets WHERE domain_id = 'dom_3'",                        1, "tombstones WHERE secret_digest IS NOT NULL"),
    ("DELETE FROM domains WHERE id = 'dom_3'",                               1, "tombstones WHERE domain_id = 'dom_3'"),
    ("DELETE FROM users WHERE username_key = 'c'",                           1, "tombstones WHERE user_id IS NOT NULL"),
    ("INSERT INTO signing_keys (kid, algorithm, sealed, created_at, signs_from) VALUES ('key_2', 'RS256', X'', 0, 0)", 1, "signing_keys WHERE kid = 'key_2'"),
    ("DELETE FROM signing_keys WHERE kid = 'key_2'",                         1, "tombstones WHERE kid = 'key_2'"),
    ("DELETE FROM signing_keys WHERE kid = 'key_2'",                         0, ""),
    ("INSERT INTO revocations (jti, expires_at) VALUES (X'32', 0)",            1, "revocations WHERE jti = X'32'"),
    // An expired revocation concerns no node.
    ("DELETE FROM revocations WHERE jti = X'32'",                              0, ""),
    ("INSERT INTO used_assertions (fingerprint, tenant, expires_at) VALUES (X'32', 1, 0)", 1, "used_assertions WHERE fingerprint = X'32'"),
    ("DELETE FROM used_assertions WHERE fingerprint = X'32'",                  0, ""),
    // Cascades: a domain with its two secrets, then a user with the other domain, its secret and the post.
    ("DELETE FROM domains WHERE id = 'dom_1'",                               3, "tombstones"),
    ("DELETE FROM users WHERE id = 1",                                       3, "tombstones"),
    ("DELETE FROM users WHERE id = 1",                                       0, ""),
];

#[test]
fn revision_triggers__count_and_stamp_every_directory_change() {
    let database = Database::new();
    let db = database.open();
    let number = |query: &str| {
        let row: Number = db.read_now(|conn| Ok(diesel::sql_query(query).get_result(conn)?)).expect("a number");
        row.number
    };
    let counter = || number("SELECT value AS number FROM revision");
    let here = |statement: &str| in_dialect(statement, database.is_postgres());
    let run = |statement: &str| {
        db.change_now(|conn| Ok(conn.batch_execute(&here(statement))?), |_| Ok(())).expect("a change");
    };
    run(SOME_DATA);
    assert_eq!(counter(), 10, "two users, two domains, three secrets, a signing key, a revocation, a used assertion");
    for (statement, rise, carriers) in CHANGES {
        let before = counter();
        run(statement);
        assert_eq!(counter() - before, *rise, "{statement}");
        if *rise > 0 {
            let filter = if carriers.contains("WHERE") { "AND" } else { "WHERE" };
            // No two rows share a revision, so as many rows as the counter rose have all its new values.
            let carriers = here(carriers);
            let stamped = number(&format!("SELECT count(*) AS number FROM {carriers} {filter} revision > {before}"));
            assert_eq!(stamped, *rise, "{statement}: rows of {carriers} with a new revision");
            let latest = number(&format!("SELECT max(revision) AS number FROM {carriers}"));
            assert_eq!(latest, before + rise, "{statement}: the last revision of {carriers}");
        }
    }
    let kinds =
        "SELECT count(kid) * 1000 + count(user_id) * 100 + count(domain_id) * 10 + count(secret_digest) AS number
        FROM tombstones";
    assert_eq!(number(kinds), 1234, "tombstones of a signing key, two users, three domains, four secrets");
    assert_eq!(number("SELECT count(*) AS number FROM tombstones"), 10, "one of each and of nothing else");
    assert_eq!(number("SELECT count(*) AS number FROM posts"), 0);
    assert_eq!(number("SELECT count(*) AS number FROM post_hashtags"), 0);
}

#[test]
fn revision_triggers__rollback_is_not_counted() {
    let database = Database::new();
    let db = database.open();
    let broken = in_dialect(SOME_DATA, database.is_postgres()) + " SELECT * FROM nothing";
    let broken = |conn: &mut gatebird::db::Conn| Ok(conn.batch_execute(&broken)?);
    assert!(db.write_now(broken).is_err());
    let counter: i64 = db.read_now(|conn| Ok(revision::table.select(revision::value).first(conn)?)).expect("a number");
    assert_eq!(counter, 0);
}

/// A new value in a column of words needs no migration.
#[test]
fn schema__unknown_enum_values_need_no_migration() {
    let database = Database::new();
    let db = database.open();
    let run = |statement: &str| {
        let statement = in_dialect(statement, database.is_postgres());
        db.write_now(|conn| Ok(conn.batch_execute(&statement)?))
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    };
    run(SOME_DATA);
    for statement in [
        "UPDATE domains SET plan = 'enterprise'",
        "INSERT INTO signing_keys (kid, algorithm, sealed, created_at, signs_from) VALUES ('key_2', 'ES999', X'', 0, 0)",
        "UPDATE verified_hosts SET method = 'mail'",
        "UPDATE usage SET kind = 'invoices'",
        "INSERT INTO audit (id, at, actor, action, target, hash) VALUES (1, 0, 'robot', 'domain.sold', '', X'')",
    ] {
        run(statement);
    }
}

/// Statements that the constraints of both databases refuse.
#[test]
fn schema__constraints_refuse_duplicates_and_orphans() {
    let database = Database::new();
    let db = database.open();
    db.write_now(|conn| Ok(conn.batch_execute(&in_dialect(SOME_DATA, database.is_postgres()))?)).expect("some data");
    for statement in [
        "INSERT INTO revision (id, value, forgotten, epoch) SELECT 2, value, forgotten, epoch FROM revision",
        "INSERT INTO users (username, username_key, nick, password_hash, created_at) VALUES ('a', 'a', 'x', '', 0)",
        "INSERT INTO domains (id, user_id, host, plan, created_at) VALUES ('dom_4', 1, 'one.example', 'free', 0)",
        "INSERT INTO domains (id, user_id, host, plan, created_at) VALUES ('dom_1', 2, 'new.example', 'free', 0)",
        "INSERT INTO domains (id, user_id, host, plan, created_at) VALUES ('dom_5', 99, 'new.example', 'free', 0)",
        "INSERT INTO secrets (domain_id, digest, hint, created_at) VALUES ('dom_2', X'31', '', 0)",
        "INSERT INTO secrets (domain_id, digest, hint, created_at) VALUES ('dom_9', X'39', '', 0)",
        "INSERT INTO posts (user_id, content, created_at, updated_at) VALUES (99, 'x', 0, 0)",
        "INSERT INTO post_hashtags (user_id, title, post_id) VALUES (1, 'x', 1)",
        "INSERT INTO post_hashtags (user_id, title, post_id) VALUES (1, 'x', 99)",
        "INSERT INTO signing_keys (kid, algorithm, sealed, created_at, signs_from) VALUES ('key_1', 'ES256', X'', 0, 0)",
        "INSERT INTO revocations (jti, expires_at) VALUES (X'31', 5)",
        "UPDATE domains SET verified_at = 1; INSERT INTO domains (id, user_id, host, plan, created_at, verified_at) VALUES ('dom_6', 2, 'two.example', 'free', 0, 1)",
        "INSERT INTO used_assertions (fingerprint, tenant, expires_at) VALUES (X'31', 2, 5)",
    ] {
        let statement = in_dialect(statement, database.is_postgres());
        let result = db.write_now(|conn| Ok(conn.batch_execute(&statement)?));
        assert!(result.is_err(), "taken: {statement}");
    }
}

/// A token names its user by id, so an id must never be used again.
#[test]
fn schema__user_ids_are_never_reused() {
    let database = Database::new();
    let db = database.open();
    let last = "SELECT max(id) AS number FROM users";
    let last = || {
        let row: Number = db.read_now(|conn| Ok(diesel::sql_query(last).get_result(conn)?)).expect("a number");
        row.number
    };
    db.write_now(|conn| Ok(conn.batch_execute(&in_dialect(SOME_DATA, database.is_postgres()))?)).expect("some data");
    let before = last();
    let again = "DELETE FROM users;
        INSERT INTO users (username, username_key, nick, password_hash, created_at) VALUES ('A', 'a', 'a', '', 0)";
    db.write_now(|conn| Ok(conn.batch_execute(again)?)).expect("a deletion and a new user");
    assert!(last() > before);
}
