//! Databases that refuse: invalid URLs, missing rights, versions, full disks and poolers. The exit code tells them
//! apart; 65 means damage or a newer version only.

mod rights;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::audit::actions::{command_of, offered_commands};
use crate::binary::{Child, Outcome, bare, gatebird, run};
use crate::harness::{Database, JWT_SECRET, PASSWORD, Value};
use crate::programs;

#[track_caller]
fn assert_failed(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{words:?} {outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{words:?} {outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} in {outcome:?}");
    }
    assert!(!outcome.stderr.contains("c4nary"), "a secret is shown: {outcome:?}");
}

#[test]
fn postgres_url__error_is_named_without_the_password() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let check = |url: &str| {
        let environment = [("DATABASE_URL", url), ("JWT_SECRET", JWT_SECRET)];
        run(bare(dir.path(), &["check-config"]).envs(environment), "")
    };
    let encoded = &["percent-encode"][..];
    for (url, words) in [
        ("postgres://u:c4nary@localhost/db?sslmode=require", &["sslmode", "TLS"][..]),
        ("postgres://u:c4nary@localhost/db?sslmode=verify-full", &["sslmode", "TLS"]),
        ("postgres://u:c4nary@localhost/db?sslmode=verify-ca&connect_timeout=2", &["sslmode", "TLS"]),
        ("postgres://u:c4nary@localhost/db?channel_binding=require", &["channel_binding", "TLS"]),
        ("postgres://u:c4nary@localhost/db?sslrootcert=system", &["sslrootcert", "TLS"]),
        ("postgres://u:c4nary@localhost/db?sslnegotiation=direct", &["sslnegotiation", "TLS"]),
        ("postgres://u:c4nary@localhost/db?gssencmode=require", &["gssencmode"]),
        ("postgres://u:c4nary@localhost/db?schema=public", &["schema", "search_path"]),
        ("postgres://u:c4nary@localhost/db?currentSchema=public", &["currentSchema"]),
        ("postgres://u:c4nary@localhost/db?pgbouncer=true", &["pgbouncer"]),
        ("postgres://u:c4nary@localhost/db?connection_limit=5", &["connection_limit"]),
        ("postgres://u:c4nary@localhost/db?c4nary", &["parameter"]),
        ("postgres://u:c4n@c4nary@localhost/db", encoded),
        ("postgres://u:c4nary@x@localhost:5432/db", encoded),
        ("postgres://u:12/c4nary@localhost/db", encoded),
        ("postgres://u:c4nary/12@localhost/db", encoded),
        ("postgres://u:12?c4nary=1@localhost/db", encoded),
        ("postgres://u:12#c4nary@localhost/db", encoded),
        ("postgres://u:c4nary%zz@localhost/db", encoded),
        ("postgres://u:c4nary%@localhost/db", encoded),
        ("postgres://u:c4nary%00@localhost/db", encoded),
        ("postgres://u:c4nary x@localhost/db", encoded),
        ("postgres://u@localhost:c4nary/db", &["port"]),
        ("postgres://u@localhost:5432,127.0.0.1:99999/db", &["port"]),
        ("postgres://u:c4nary@localhost:5432,db.example.com:5433/db", &["encryption"]),
        ("postgres://u:c4nary@localhost/db?host=localhost,10.0.0.5", &["encryption"]),
        ("postgres://u:c4nary@[::1/db", &["DATABASE_URL"]),
    ] {
        let outcome = check(url);
        assert_failed(&outcome, 78, words);
        assert!(outcome.stderr.starts_with("DATABASE_URL ") && outcome.stderr.contains("environment"), "{outcome:?}");
    }
    for (url, shown) in [
        ("postgres://u:c4nary@localhost:5432,127.0.0.1:5433/db", "postgres://u:***@localhost:5432,127.0.0.1:5433/db"),
        ("postgres://u:c4nary@[::1]:5432/db?sslmode=prefer", "postgres://u:***@[::1]:5432/db?sslmode=prefer"),
        ("postgres://u:c4%40nary%2F@localhost/db", "postgres://u:***@localhost/db"),
        (
            "postgres:///db?host=/run/postgresql&user=u&password=c4nary",
            "postgres:///db?host=/run/postgresql&user=u&password=***",
        ),
        (
            "postgres:///db?sslpassword=c4nary&application_name=gate",
            "postgres:///db?sslpassword=***&application_name=gate",
        ),
        ("postgres://%2Frun%2Fpostgresql/db", "postgres://%2Frun%2Fpostgresql/db"),
        (
            "postgres://u:c4nary@localhost/db?options=-csearch_path%3Dx",
            "postgres://u:***@localhost/db?options=-csearch_path%3Dx",
        ),
        (
            "postgresql://localhost?target_session_attrs=read-write",
            "postgresql://localhost?target_session_attrs=read-write",
        ),
    ] {
        let shown_now = check(url).good();
        let line = shown_now.lines().find(|line| line.starts_with("DATABASE_URL ")).expect("it exists");
        assert!(line.contains(shown) && !shown_now.contains("c4nary"), "{line}");
    }
}

#[test]
fn postgres_url__unreachable_hosts_are_reported_without_the_password() {
    let database = Database::sqlite();
    for url in [
        "postgres://u:c4nary@127.0.0.1:1,localhost:2/db",
        "postgres://u:c4n%40c4nary@127.0.0.1:1/db",
        "postgres:///db?host=/nowhere&password=c4nary",
    ] {
        assert_failed(&run(&mut gatebird(&database, &[], &[("DATABASE_URL", url)]), ""), 69, &["DATABASE_URL"]);
    }
}

/// Reverts the last migration, as if the database were of the previous version.
fn revert_last_migration(database: &Database) -> String {
    let tree = if database.is_postgres() { "postgres" } else { "sqlite" };
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(tree);
    let names = fs::read_dir(&tree).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let last = names.max().expect("a migration").into_string().expect("UTF-8");
    let down = fs::read_to_string(tree.join(&last).join("down.sql")).expect("down.sql");
    database.execute(&down);
    database.execute(
        "DELETE FROM __diesel_schema_migrations
         WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)",
    );
    last
}

/// Commands that open the database and must leave its schema unchanged.
const COMMANDS: &[&str] = &[
    "user list",
    "user add bob",
    "user suspend alice",
    "user resume alice",
    "user password alice",
    "domain list",
    "domain add shop.example.com --user alice",
    "domain suspend dom_0000000000000000000000",
    "domain resume dom_0000000000000000000000",
    "domain unverify dom_0000000000000000000000",
    "domain plan dom_0000000000000000000000 premium",
    "domain allow dom_0000000000000000000000 --all",
    "domain rotate dom_0000000000000000000000",
    "key list",
    "key rotate",
    "key retire kid",
    "key replace-all",
    "version-use",
    "audit list",
    "audit verify",
    "audit archive --before 2000-01-01 archive.jsonl",
    "audit export",
    "restore --after",
    "import domains /dev/null",
    "import nodebird /dev/null",
];

/// The commands that migrate, and the one that opens no database.
const OTHER_COMMANDS: [&str; 3] = ["serve", "migrate", "check-config"];

#[test]
fn migrations__applied_only_by_serve_and_migrate() {
    let database = Database::new();
    run(&mut gatebird(&database, &["migrate"], &[]), "").good();
    let last = revert_last_migration(&database);
    let listed: BTreeSet<String> = COMMANDS.iter().chain(&OTHER_COMMANDS).map(|command| command_of(command)).collect();
    assert_eq!(listed, offered_commands(), "left: listed here; right: offered");
    for command in COMMANDS {
        let args: Vec<&str> = command.split(' ').collect();
        let outcome = run(&mut gatebird(&database, &args, &[]), PASSWORD);
        assert_failed(&outcome, 78, &["older", "gatebird migrate"]);
    }
    let applied = run(&mut gatebird(&database, &["migrate", "--json"], &[]), "").json();
    let applied: Vec<&str> =
        applied["applied"].as_array().expect("an array").iter().filter_map(Value::as_str).collect();
    assert!(applied.len() == 1 && last.replace('-', "").starts_with(&applied[0][..8]), "{applied:?}: {last}");
    run(&mut gatebird(&database, &["user", "add", "alice"], &[]), PASSWORD).good();
    revert_last_migration(&database);
    Child::start(&database, &[]).client.tenant("alice");
}

#[test]
fn migrations__reading_command_creates_no_tables() {
    let database = Database::new();
    let file = database.dir.path().join("data/gatebird.db");
    fs::create_dir(database.dir.path().join("data")).expect("a folder");
    if !database.is_postgres() {
        fs::write(&file, "").expect("a file");
    }
    for args in [&["user", "list"], &["audit", "verify"], &["key", "list"]] {
        let outcome = run(&mut gatebird(&database, args, &[]), "");
        assert!(matches!(outcome.code, Some(69 | 78)) && outcome.stderr.lines().count() == 1, "{outcome:?}");
    }
    if !database.is_postgres() {
        assert_eq!(fs::metadata(&file).expect("a file").len(), 0, "no file is created");
    }
    let applied = run(&mut gatebird(&database, &["migrate", "--json"], &[]), "").json();
    assert!(applied["applied"].as_array().is_some_and(|applied| applied.len() == 1), "{applied}");
}

/// A first start whose files cannot exceed that many bytes.
fn first_start(limit: &str, folder: &Path) -> Outcome {
    let binary = bare(folder, &[]).get_program().to_owned();
    let mut command = Command::new("sh");
    let script = format!("trap '' XFSZ; exec prlimit --fsize={limit}: \"$0\"");
    command.args(["-c", &script, &binary.to_string_lossy()]).env_clear().env("PATH", programs::path());
    command.current_dir(folder).env("PORT", "0").env("METRICS_ADDR", "off");
    run(&mut command, "")
}

#[test]
fn disk_full__first_start_leaves_no_damage() {
    if !programs::installed(&["prlimit"]) {
        return;
    }
    for limit in ["10", "4000", "4096", "20000", "70000", "150000", "250000"] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let outcome = first_start(limit, dir.path());
        assert_eq!(outcome.code, Some(73), "{limit}: {outcome:?}");
        assert!(outcome.stderr.contains("gatebird.db") || outcome.stderr.contains("jwt_secret"), "{outcome:?}");
        // With enough space it starts.
        let mut command = bare(dir.path(), &[]);
        drop(Child::spawn(command.env("PORT", "0").env("METRICS_ADDR", "off"), "").wait_until_serving());
    }
}
