//! Operations on the SQLite file of a server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use diesel::RunQueryDsl;
use diesel_migrations::{FileBasedMigrations, MigrationHarness};

use super::*;
use crate::harness::check_all;
use crate::programs;

/// A name, and what is done to the file, given a backup.
type Way = (&'static str, fn(&PathBuf, &PathBuf));

pub(super) fn copy_over(copy: &PathBuf, file: &PathBuf) {
    fs::copy(copy, file).expect("copied");
}

pub(super) fn log(database: &Database) -> PathBuf {
    path(database).with_file_name("gatebird.db-wal")
}

/// A restart is no restoration: sessions survive it, however the process ended.
#[test]
fn restart__on_the_same_file_keeps_every_token() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (user, _, token) = child.client.tenant("alice");
    child.kill();
    let child = Child::start(&database, &[]);
    child.client.get("/v1/test", &token).expect(200);
    stop(child);
    // Writes of the command line belong to the same epoch.
    run(&mut gatebird(&database, &["user", "add", "bob"], &[]), PASSWORD).good();
    let child = Child::start(&database, &[]);
    child.client.get("/v1/me", &user.token).expect(200);
    run(&mut gatebird(&database, &["user", "add", "carol"], &[]), PASSWORD).good();
    child.kill();
    run(&mut gatebird(&database, &["user", "list"], &[]), "").good();
    let child = Child::start(&database, &[]);
    child.client.get("/v1/me", &user.token).expect(200);
    assert!(!child.stderr().contains("restored"), "{}", child.stderr());
    let witness = path(&database).with_file_name("gatebird.db.witness");
    assert_eq!(fs::metadata(witness).expect("the identity file").permissions().mode() & 0o777, 0o600);
}

/// A remaining log would be replayed over a backup that is put in place of the file.
#[test]
fn clean_stop__leaves_no_log() {
    for name in ["INT", "TERM"] {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        child.client.tenant("alice");
        assert!(log(&database).exists());
        signal(name, child.pid());
        assert_eq!(child.wait(Duration::from_secs(10)).code, Some(0));
        assert!(!log(&database).exists(), "after SIG{name}");
    }
}

/// SIGKILL leaves the log, and the backup is put in place of the file in one of several ways.
#[test]
fn foreign_log__is_not_replayed_over_a_backup() {
    let ways: [Way; 4] = [
        ("copied over", |copy, file| copy_over(copy, file)),
        ("moved over", |copy, file| fs::rename(copy, file).expect("moved")),
        ("copied with its times", |copy, file| {
            assert!(Command::new("cp").arg("-p").args([copy, file]).status().expect("cp").success());
        }),
        ("made anew", |copy, file| {
            fs::remove_file(file).expect("removed");
            fs::copy(copy, file).expect("copied");
        }),
    ];
    check_all(ways, |(way, put)| {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        let (_, domain, token) = child.client.tenant("alice");
        let copy = back_up(&database);
        child.client.tenant("mallory");
        child.kill();
        put(&copy, &path(&database));
        let restored = fs::read(path(&database)).expect("a file");
        for args in [&[][..], &["user", "list"], &["migrate"]] {
            let outcome = run(&mut gatebird(&database, args, &[]), "");
            assert_eq!(outcome.code, Some(65), "{way} {args:?} {outcome:?}");
            assert!(
                outcome.stderr.contains("gatebird.db-wal") && outcome.stderr.contains("gatebird restore"),
                "{outcome:?}"
            );
        }
        assert_eq!(fs::read(path(&database)).expect("a file"), restored, "{way}: the file is unchanged");
        // The documented remedy.
        fs::remove_file(log(&database)).expect("the log");
        let child = Child::start(&database, &[]);
        refused(&child.client, &[&token]);
        child.client.sign_in("mallory", PASSWORD).refused(401, "credentials");
        assert_still_works(&child.client, &domain);
    });
}

/// The whole folder, including the witness, is replaced by a copy.
#[test]
fn restored_folder__is_noticed_by_the_witness() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (_, domain, _) = child.client.tenant("alice");
    stop(child);
    let (data, copy) = (database.dir.path().join("data"), database.dir.path().join("copy"));
    let shell = |line: &str| assert!(Command::new("sh").args(["-ec", line]).status().expect("sh").success(), "{line}");
    shell(&format!("cp -a {} {}", data.display(), copy.display()));
    for restore in ["rm -r DATA; cp -a COPY DATA", "cp -a COPY/. DATA/"] {
        let child = Child::start(&database, &[]);
        let (user, _, token) = child.client.tenant("mallory");
        stop(child);
        shell(&restore.replace("DATA", &data.to_string_lossy()).replace("COPY", &copy.to_string_lossy()));
        let child = Child::start(&database, &[]);
        refused(&child.client, &[&user.token, &token]);
        assert_still_works(&child.client, &domain);
        stop(child);
    }
}

/// Beside the running server.
#[test]
fn lost_file__refuses_changes_at_once() {
    let ways: [Way; 4] = [
        ("moved", |_, file| fs::rename(file, file.with_file_name("elsewhere.db")).expect("moved")),
        ("deleted", |_, file| fs::remove_file(file).expect("removed")),
        ("replaced by a file that is moved there", |copy, file| fs::rename(copy, file).expect("moved")),
        ("replaced by a file that is copied there", |copy, file| copy_over(copy, file)),
    ];
    check_all(ways, |(way, lose)| {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        let client = &child.client;
        let (user, domain, token) = client.tenant("alice");
        client.get("/readyz", "").expect(200);
        let copy = back_up(&database);
        lose(&copy, &path(&database));
        let body = json!({"host": "late.example.com", "type": "free"});
        client.post("/v1/domains", &user.token, body).refused(503, "busy");
        client.post("/v1/posts", &token, json!({"content": "late"})).refused(503, "busy");
        let ready = client.get("/readyz", "").expect(503);
        assert_eq!(ready["payload"]["database"], "lost", "{way}");
        // Tokens are issued and verified from memory.
        client.get("/v1/test", &text(&client.exchange(&domain.secret).expect(200)["token"])).expect(200);
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(child.stderr().matches("was moved, deleted or replaced").count(), 1, "{way}: {}", child.stderr());
        if way == "moved" {
            fs::rename(path(&database).with_file_name("elsewhere.db"), path(&database)).expect("moved back");
            within(PROMISED, "it is ready again", || client.get("/readyz", "").status == 200);
            client.post("/v1/posts", &token, json!({"content": "back"})).expect(201);
        }
        // The new file is not overwritten at the end.
        let contents = fs::read(path(&database)).ok();
        signal("INT", child.pid());
        assert_eq!(child.wait(Duration::from_secs(10)).code, Some(0), "{way}");
        assert!(way == "moved" || fs::read(path(&database)).ok() == contents, "{way}: the file was changed");
    });
}

/// A long log is moved into the file while the server runs. Other programs may do that, too.
#[test]
fn log__is_moved_into_the_file_when_it_is_long() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (user, _, token) = child.client.tenant("alice");
    let mut conn = SqliteConnection::establish(&path(&database).to_string_lossy()).expect("a database");
    conn.batch_execute(
        "PRAGMA wal_autocheckpoint = 0;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO posts (user_id, content, created_at, updated_at)
             SELECT users.id, hex(randomblob(1000)), 1, 1 FROM n, users",
    )
    .expect("posts are inserted");
    let size = |path: PathBuf| fs::metadata(path).expect("a file").len();
    within(PROMISED, "the posts are in the file", || size(path(&database)) > 5_000_000);
    conn.batch_execute("DELETE FROM posts; PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint by another program");
    drop(conn);
    std::thread::sleep(Duration::from_secs(1));
    child.client.get("/readyz", "").expect(200);
    post(&child.client, &token, "after");
    child.kill();
    let child = Child::start(&database, &[]);
    child.client.get("/v1/me", &user.token).expect(200);
}

#[test]
fn log__starts_anew_under_steady_writes() {
    let database = Arc::new(Database::sqlite());
    let gate = Gate::on(Arc::clone(&database), &[]);
    gate.sign_up("alice");
    let log = log(&database);
    let insert = "INSERT INTO posts (user_id, content, created_at, updated_at) SELECT id, hex(randomblob(16000)), 1, 1 FROM users";
    let mut written = 0;
    let mut longest = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while written < 64 << 20 {
        assert!(Instant::now() < deadline, "{written} bytes were written in time");
        gate.app.db.write_now(|conn| Ok(diesel::sql_query(insert).execute(conn)?)).expect("a post");
        written += 32_000;
        longest = longest.max(fs::metadata(&log).expect("a log").len());
    }
    assert!(longest < 32 << 20, "the log had {longest} bytes after {written} were written");
}

/// Maintenance by an operator, and the checkpoint that moves it from the log into the file.
const MAINTENANCE: [&str; 4] = [
    "VACUUM; PRAGMA wal_checkpoint(PASSIVE)",
    "ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)",
    "CREATE INDEX by_content ON posts (content); PRAGMA wal_checkpoint(PASSIVE)",
    "VACUUM; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)",
];

/// The file is still the server's own.
#[test]
fn maintenance__beside_a_running_server() {
    check_all(MAINTENANCE.into_iter().enumerate(), |(number, statements)| {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        let (user, _, token) = child.client.tenant("alice");
        post(&child.client, &token, "before");
        database.execute(statements);
        post(&child.client, &token, "after");
        child.client.get("/readyz", "").expect(200);
        std::thread::sleep(Duration::from_secs(1));
        child.client.get("/readyz", "").expect(200);
        child.client.tenant("bob");
        assert!(!child.stderr().contains("replaced"), "{statements} {}", child.stderr());
        match number % 2 {
            0 => child.kill(),
            _ => stop(child),
        }
        let child = Child::start(&database, &[]);
        child.client.get("/v1/me", &user.token).expect(200);
        child.client.get("/v1/test", &token).expect(200);
        child.client.sign_in("bob", PASSWORD).expect(200);
    });
}

/// Neither maintenance nor an upgrade ends sessions.
#[test]
fn maintenance__of_a_stopped_server() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (user, _, token) = child.client.tenant("alice");
    stop(child);
    for statements in MAINTENANCE {
        database.execute(statements);
        run(&mut gatebird(&database, &["user", "list"], &[]), "").good();
        let child = Child::start(&database, &[]);
        assert!(!child.stderr().contains("restored"), "{statements} {}", child.stderr());
        child.client.get("/v1/me", &user.token).expect(200);
        child.client.get("/v1/test", &token).expect(200);
        stop(child);
    }
}

/// An upgrade to a version with one more migration, and the way back.
#[test]
fn migrate__of_a_stopped_server_keeps_every_token() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (user, _, token) = child.client.tenant("alice");
    stop(child);
    let later = database.dir.path().join("later");
    let last = later.join("9999-01-01-000000_notes");
    fs::create_dir_all(&last).expect("a folder");
    let up = "CREATE TABLE notes (id INTEGER PRIMARY KEY) STRICT; ALTER TABLE users ADD COLUMN note TEXT; UPDATE users SET note = 'x'";
    fs::write(last.join("up.sql"), up).expect("a file");
    fs::write(last.join("down.sql"), "ALTER TABLE users DROP COLUMN note; DROP TABLE notes").expect("a file");
    let later = || FileBasedMigrations::from_path(&later).expect("migrations");
    let conn = || SqliteConnection::establish(&path(&database).to_string_lossy()).expect("a database");
    conn().run_pending_migrations(later()).expect("an upgrade");
    assert_eq!(run(&mut gatebird(&database, &[], &[]), "").code, Some(65));
    conn().revert_last_migration(later()).expect("the migration is reverted");
    assert_eq!(run(&mut gatebird(&database, &["migrate"], &[]), "").good(), "nothing to do\n");
    let child = Child::start(&database, &[]);
    child.client.get("/v1/me", &user.token).expect(200);
    child.client.get("/v1/test", &token).expect(200);
}

/// A copy has the mark of the original, so the mark alone does not identify the file.
#[test]
fn sqlite3_backup__copied_over_the_file_is_noticed() {
    if !programs::installed(&["sqlite3"]) {
        return;
    }
    for again in [false, true] {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        let (user, _, token) = child.client.tenant("alice");
        let copy = database.dir.path().join("copy.db");
        for _ in 0..if again { 5 } else { 1 } {
            let command = format!(".backup {}", copy.display());
            let outcome = Command::new("sqlite3").arg(path(&database)).arg(command).output().expect("sqlite3");
            assert!(outcome.status.success() && outcome.stderr.is_empty(), "{outcome:?}");
        }
        copy_over(&copy, &path(&database));
        child.client.post("/v1/posts", &token, json!({"content": "late"})).refused(503, "busy");
        child.client.get("/readyz", "").expect(503);
        child.kill();
        assert_eq!(run(&mut gatebird(&database, &[], &[]), "").code, Some(65));
        fs::rename(log(&database), database.dir.path().join("log")).expect("moved");
        let child = Child::start(&database, &[]);
        refused(&child.client, &[&user.token, &token]);
    }
}

/// Changes that are only in the log would be lost.
#[test]
fn lost_log__refuses_changes_at_once() {
    check_all(["-wal", "-shm"], |extension| {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        let client = &child.client;
        let (user, _, token) = client.tenant("alice");
        client.get("/readyz", "").expect(200);
        let lost = path(&database).with_file_name(format!("gatebird.db{extension}"));
        let kept = lost.with_file_name("kept");
        fs::rename(&lost, &kept).expect("moved");
        client.post("/v1/posts", &token, json!({"content": "late"})).refused(503, "busy");
        client
            .post("/v1/domains", &user.token, json!({"host": "late.example.com", "type": "free"}))
            .refused(503, "busy");
        assert_eq!(client.get("/readyz", "").expect(503)["payload"]["database"], "lost", "{extension}");
        // Another file in its place is not the server's.
        fs::copy(&kept, &lost).expect("copied");
        client.post("/v1/posts", &token, json!({"content": "late"})).refused(503, "busy");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(child.stderr().matches("was moved, deleted or replaced").count(), 1, "{}", child.stderr());
        fs::rename(&kept, &lost).expect("moved back");
        within(PROMISED, "it is ready again", || client.get("/readyz", "").status == 200);
        post(client, &token, "back");
        stop(child);
        let child = Child::start(&database, &[]);
        child.client.get("/v1/me", &user.token).expect(200);
    });
}
