//! Unsafe settings are refused at the start: one line with the fault and the remedy, the code of sysexits, and at once.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use crate::binary::{Child, Outcome, bare, gatebird, run, text};
use crate::harness::{Database, JWT_SECRET, PASSWORD};

/// Checks that a start ends within a second, with this code and one line that has those words.
#[track_caller]
fn refused(start: impl Fn() -> Outcome, code: i32, words: &[&str]) {
    // The fastest of a few runs, because this machine may be busy with other tests.
    let runs = (0..5).map(|_| start());
    let mut slow = Vec::new();
    for outcome in runs {
        assert_eq!(outcome.code, Some(code), "{words:?} {outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{words:?} {outcome:?}");
        assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{words:?} {outcome:?}");
        assert!(outcome.stdout.is_empty(), "{words:?} {outcome:?}");
        assert!(!outcome.stderr.contains("c4nary"), "a secret is shown: {outcome:?}");
        if outcome.took < Duration::from_secs(1) {
            return;
        }
        slow.push(outcome.took);
    }
    panic!("{words:?} took {slow:?}");
}

#[track_caller]
fn start_refused(database: &Database, settings: &[(&str, &str)], code: i32, words: &[&str]) {
    refused(|| run(&mut gatebird(database, &[], settings), ""), code, words);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o777
}

#[test]
fn start_up__unsafe_settings_are_refused() {
    let database = Database::sqlite();
    let urls: &[(&str, i32, &[&str])] = &[
        ("postgres://gatebird:c4nary@db.example.com/db", 78, &["DATABASE_URL", "DATABASE_PLAINTEXT"]),
        ("postgresql://gatebird:c4nary@10.0.0.5/db", 78, &["DATABASE_URL", "encryption"]),
        ("postgres://gatebird:c4nary@localhost/db?host=10.0.0.5", 78, &["DATABASE_URL"]),
        ("postgres://gatebird:c4nary@localhost/db?hostaddr=10.0.0.5", 78, &["DATABASE_URL"]),
        ("postgres://gatebird:c4nary@localhost,db.example.com/db", 78, &["DATABASE_URL"]),
        ("postgres://gatebird:c4nary@127.0.0.1:1/db", 69, &["DATABASE_URL"]),
        ("postgres:///db?host=/nowhere&user=gatebird&password=c4nary", 69, &["DATABASE_URL"]),
        ("mysql://gatebird:c4nary@localhost/db", 78, &["DATABASE_URL", "sqlite://", "postgres://"]),
        ("postgres://gatebird:c4nary@[::1/db", 78, &["DATABASE_URL"]),
        ("gatebird.db", 78, &["DATABASE_URL"]),
        ("sqlite::memory:", 78, &["DATABASE_URL"]),
        ("sqlite://:memory:", 78, &["DATABASE_URL"]),
    ];
    for (url, code, words) in urls {
        start_refused(&database, &[("DATABASE_URL", url)], *code, words);
    }
    // libpq quotes the part of a URL that it cannot parse.
    for url in ["u:c4nary%zz@127.0.0.1:1/db", "u:c4nary%00@127.0.0.1:1/db", "u@127.0.0.1:1/db?c4nary"] {
        let outcome = run(&mut gatebird(&database, &[], &[("DATABASE_URL", &format!("postgres://{url}"))]), "");
        assert!(matches!(outcome.code, Some(69 | 78)), "{outcome:?}");
        assert!(outcome.stderr.lines().count() == 1 && !outcome.stderr.contains("c4nary"), "{outcome:?}");
    }
    let cases: &[(&str, &str, &[&str])] = &[
        ("JWT_SECRET", "c4nary", &["JWT_SECRET", "32", "openssl rand"]),
        ("JWT_SECRET", "c4nary-of-31-bytes-kJ8s0dP2mQ7x", &["JWT_SECRET", "32"]),
        ("JWT_SECRET", "your-256-bit-secret-c4nary-your-256-bit-secret", &["JWT_SECRET", "known"]),
        ("JWT_SECRET", "nodebirdsecretnodebirdsecretnodebirdsecret", &["JWT_SECRET", "known"]),
        ("JWT_SECRET", "a-string-secret-at-least-256-bits-long", &["JWT_SECRET", "known"]),
        ("JWT_SECRET", "replace-me-with-at-least-32-random-bytes", &["JWT_SECRET", "known"]),
        ("JWT_SECRET", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &["JWT_SECRET"]),
        ("JWT_SECRET_PREVIOUS", "c4nary", &["JWT_SECRET_PREVIOUS", "32"]),
        ("JWT_SECRET_PREVIOUS", "secretkeysecretkeysecretkeysecretkey", &["JWT_SECRET_PREVIOUS", "known"]),
        ("JWT_ALGORITHM", "none", &["JWT_ALGORITHM", "HS256"]),
        ("BCRYPT_COST", "3", &["BCRYPT_COST", "4", "16"]),
        ("TOKEN_TTL", "0s", &["TOKEN_TTL"]),
        ("EXPIRED_TOKEN_STATUS", "200", &["EXPIRED_TOKEN_STATUS", "419", "401"]),
        ("TRUSTED_PROXIES", "everybody", &["TRUSTED_PROXIES"]),
        ("METRICS_ADDR", "9002", &["METRICS_ADDR"]),
        ("ACCESS_LOG", "yes", &["ACCESS_LOG"]),
    ];
    for (key, value, words) in cases {
        start_refused(&database, &[(key, value)], 78, words);
    }
    let local = ("DATABASE_URL", "postgres://localhost/db");
    start_refused(&database, &[local, ("JWT_SECRET", "")], 78, &["JWT_SECRET", "openssl rand"]);
    assert!(!database.dir.path().join("data").exists(), "a refused start creates no file");
}

#[test]
fn start_up__all_invalid_settings_are_reported_together() {
    let database = Database::sqlite();
    let bad = [("PORT", "x"), ("TOKEN_TTL", "1y"), ("LIMIT_FREE", "many"), ("JWT_SECRET", "c4nary"), ("SIGNUP", "no")];
    let outcome = run(&mut gatebird(&database, &[], &bad), "");
    assert_eq!(outcome.code, Some(78), "{outcome:?}");
    let keys: Vec<_> = outcome.stderr.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(keys, ["PORT", "JWT_SECRET", "TOKEN_TTL", "LIMIT_FREE", "SIGNUP"], "{outcome:?}");
    assert!(!outcome.stderr.contains("c4nary"), "{outcome:?}");
}

#[test]
fn start_up__setting_that_is_not_utf8_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let database = Database::sqlite();
    for key in ["PORT", "TRUSTED_PROXIES", "SIGNUP", "JWT_SECRET"] {
        let value = [JWT_SECRET.as_bytes(), b"\xff\xfe"].concat();
        let start = || run(gatebird(&database, &["check-config"], &[]).env(key, OsStr::from_bytes(&value)), "");
        refused(start, 78, &[key]);
    }
}

#[test]
fn start_up__first_start_creates_private_files() {
    let database = Database::sqlite();
    let dir = database.dir.path();
    // A new installation: no database, no secret, a relative path.
    let newcomer = [("DATABASE_URL", ""), ("JWT_SECRET", "")];
    let child = Child::start(&database, &newcomer);
    assert!(child.stdout().contains("data/gatebird.db"), "{}", child.stdout());
    let (user, domain, token) = child.client.tenant("alice");
    assert_eq!(mode(&dir.join("data")), 0o700);
    for file in fs::read_dir(dir.join("data")).expect("a folder").map(|entry| entry.expect("a file").path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let secret = fs::read_to_string(dir.join("data/jwt_secret")).expect("a secret");
    assert!(secret.len() >= 32);
    assert!(dir.join("data/gatebird.db").exists());
    child.kill();

    let child = Child::start(&database, &newcomer);
    child.client.get("/v1/test", &token).expect(200);
    child.client.get("/v1/me", &user.token).expect(200);
    child.client.exchange(&domain.secret).expect(200);
    assert_eq!(fs::read_to_string(dir.join("data/jwt_secret")).expect("a secret"), secret);
    child.kill();

    // Another installation generates another secret.
    let other = Database::sqlite();
    let child = Child::start(&other, &newcomer);
    child.client.get("/v1/test", &token).refused(401, "invalid");
    assert_ne!(fs::read_to_string(other.dir.path().join("data/jwt_secret")).expect("a secret"), secret);
}

#[test]
fn stored_secret__readable_by_others_is_refused() {
    let database = Database::sqlite();
    let path = database.dir.path().join("data/jwt_secret");
    fs::create_dir(database.dir.path().join("data")).expect("a folder");
    fs::write(&path, JWT_SECRET).expect("a file");
    for loose in [0o644, 0o640, 0o620, 0o604, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(loose)).expect("a writable file");
        start_refused(&database, &[("JWT_SECRET", "")], 78, &["chmod 600", "jwt_secret"]);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a writable file");
    for known in ["", "short", "your-256-bit-secret-your-256-bit-secret"] {
        fs::write(&path, known).expect("a writable file");
        start_refused(&database, &[("JWT_SECRET", "")], 78, &["jwt_secret"]);
    }
    fs::write(&path, format!("{JWT_SECRET}\n")).expect("a writable file");
    drop(Child::start(&database, &[("JWT_SECRET", "")]));
}

#[test]
fn schema_version__other_versions_are_refused() {
    // Of a later version, and of an earlier one.
    for version in ["99990101000000", "20010101000000"] {
        let database = Database::new();
        run(&mut gatebird(&database, &["migrate"], &[]), "").good();
        database.execute(&format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}')"));
        for args in [&[][..], &["migrate"], &["user", "list"]] {
            refused(|| run(&mut gatebird(&database, args, &[]), ""), 65, &[version, "another version", "newer"]);
        }
    }
}

#[test]
fn signing_key__of_a_newer_version_is_refused() {
    let database = Database::new();
    run(&mut gatebird(&database, &["migrate"], &[]), "").good();
    let sealed = if database.is_postgres() { "''" } else { "x''" };
    let key = format!(
        "INSERT INTO signing_keys (kid, algorithm, sealed, created_at, signs_from) VALUES ('key', 'ES999', {sealed}, 0, 0)"
    );
    database.execute(&key);
    start_refused(&database, &[], 65, &["ES999", "newer"]);
}

#[test]
fn database_file__in_use_is_refused_under_any_name() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (_, _, token) = child.client.tenant("alice");
    let dir = database.dir.path();
    symlink(dir.join("data"), dir.join("other")).expect("a link");
    symlink(dir.join("data/gatebird.db"), dir.join("link.db")).expect("a link");
    for path in ["data/gatebird.db", "./data/../data/gatebird.db", "other/gatebird.db", "link.db"] {
        let url = format!("sqlite://{path}");
        start_refused(&database, &[("DATABASE_URL", &url)], 73, &["gatebird", "in use"]);
    }
    child.client.get("/v1/test", &token).expect(200);
    child.client.tenant("bob");
    // The lock belongs to the process: nothing needs cleaning up after a crash.
    child.kill();
    Child::start(&database, &[]).client.get("/v1/test", &token).expect(200);
}

/// A closed database with some hundred pages of users and posts.
fn filled() -> Database {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (_, _, token) = child.client.tenant("alice");
    drop(child);
    let path = database.url.trim_start_matches("sqlite://");
    let mut conn = SqliteConnection::establish(path).expect("a database");
    conn.batch_execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO posts (user_id, content, created_at, updated_at) SELECT users.id, 'post number ' || i || ' ' || hex(randomblob(40)), 1, 1 FROM n, users;
         PRAGMA wal_checkpoint(TRUNCATE)",
    )
    .expect("posts are inserted");
    drop(conn);
    let child = Child::start(&database, &[]);
    child.client.get("/v1/posts/my", &token).expect(200);
    drop(child);
    let mut conn = SqliteConnection::establish(path).expect("a database");
    conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").expect("no other connection");
    database
}

#[test]
fn database_file__damaged_is_refused() {
    let good = filled();
    let path = good.dir.path().join("data/gatebird.db");
    let bytes = fs::read(&path).expect("a file");
    assert!(bytes.len() > 100_000, "the file has a middle");
    let middle = bytes.len() / 2 / 4096 * 4096;
    let overwritten = |from: usize, length: usize| {
        let mut bytes = bytes.clone();
        bytes[from..from + length].fill(0x5a);
        bytes
    };
    let cases = [
        ("garbage", b"this is no database, whatever it is called. ".repeat(1000)),
        ("the header", overwritten(0, 100)),
        ("the first page", overwritten(100, 3996)),
        ("pages in the middle", overwritten(middle, 8 * 4096)),
        ("the end is missing", bytes[..middle].to_vec()),
    ];
    for (what, damaged) in cases {
        fs::write(&path, &damaged).expect("a writable file");
        for end in ["-wal", "-shm"] {
            drop(fs::remove_file(path.with_file_name(format!("gatebird.db{end}"))));
        }
        start_refused(&good, &[], 65, &["damaged", "backup"]);
        refused(|| run(&mut gatebird(&good, &["user", "list"], &[]), ""), 65, &["damaged"]);
        assert_eq!(fs::read(&path).expect("a file"), damaged, "{what}: the file is unchanged");
    }
    fs::write(&path, &bytes).expect("a writable file");
    drop(Child::start(&good, &[]));
}

#[test]
fn database_file__cannot_be_created() {
    let database = Database::sqlite();
    fs::write(database.dir.path().join("file"), "").expect("a file");
    fs::create_dir(database.dir.path().join("folder")).expect("a folder");
    for path in ["file/gatebird.db", "file/deeper/gatebird.db", "/proc/gatebird.db", "/dev/null/gatebird.db"] {
        let url = format!("sqlite://{path}");
        start_refused(
            &database,
            &[("DATABASE_URL", &url)],
            73,
            &["cannot", path.rsplit_once('/').expect("a folder").0],
        );
        refused(|| run(&mut gatebird(&database, &["migrate"], &[("DATABASE_URL", &url)]), ""), 73, &["DATABASE_URL"]);
    }
    let outcome = run(&mut gatebird(&database, &[], &[("DATABASE_URL", "sqlite://folder")]), "");
    assert!(matches!(outcome.code, Some(69 | 73)) && outcome.stderr.lines().count() == 1, "{outcome:?}");
}

#[test]
fn port_in_use__is_refused() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let database = Database::new();
    let port = address.port().to_string();
    start_refused(&database, &[("PORT", &port)], 73, &[&address.to_string(), "PORT"]);
    let address = address.to_string();
    start_refused(&database, &[("METRICS_ADDR", &address)], 73, &[&address, "METRICS_ADDR"]);
    // Not an address of this machine (RFC 5737).
    start_refused(&database, &[("HOST", "192.0.2.1")], 73, &["192.0.2.1", "HOST"]);
}

#[test]
fn env_file__configures_the_server() {
    let database = Database::new();
    let file = format!(
        "PORT=0\nMETRICS_ADDR=off\nBCRYPT_COST=4\nJWT_SECRET={JWT_SECRET}\nDATABASE_URL='{}'\nTOKEN_TTL=7m\nSIGNUP=closed\n",
        database.url
    );
    fs::write(database.dir.path().join(".env"), file).expect("a file");
    let environment = [("SIGNUP", "open")];
    let child = Child::spawn(bare(database.dir.path(), &["serve"]).envs(environment), "").wait_until_serving();
    let (_, domain, token) = child.client.tenant("alice");
    assert_eq!(child.client.exchange(&domain.secret).expect(200)["expiresIn"], 420);
    assert!(!text(&child.client.sign_in("alice", PASSWORD).expect(200)["token"]).is_empty());
    drop(child);
    // Signed with the secret in the file.
    Child::start(&database, &[]).client.get("/v1/test", &token).expect(200);
}
