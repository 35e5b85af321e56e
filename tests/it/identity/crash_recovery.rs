//! A killed server starts again without help, whichever process moved the write-ahead log into the file, before or
//! after, and however far.
//!
//! The log belongs to the file in each of these interleavings. The witness may be older than the file in all of them,
//! because the server updates it only within half a second, and no other process updates it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::sqlite_file::{copy_over, log};
use super::*;
use crate::programs;

/// Stops the server, runs `what` and kills the server, so that it cannot notice.
fn kill_after(child: Child, what: impl FnOnce()) {
    signal("STOP", child.pid());
    what();
    child.kill();
}

/// Runs statements in the shell of SQLite and kills it before it can close the database.
fn killed_sqlite3(database: &Database, statements: &str) {
    let mut shell = Command::new("sqlite3");
    let shell = shell.arg(path(database)).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().expect("sqlite3");
    let mut input = shell.stdin.take().expect("a pipe");
    writeln!(input, "{statements}; SELECT 'done';").expect("statements");
    let lines = BufReader::new(shell.stdout.take().expect("a pipe")).lines();
    let done = lines.map(|line| line.expect("a line")).any(|line| line == "done");
    assert!(done, "{statements}");
    shell.kill().expect("it can be killed");
    shell.wait().expect("a child of this process");
}

/// Copies the first page that a checkpoint would copy.
fn begin_checkpoint(database: &Database) {
    let log = fs::read(log(database)).expect("a log");
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    let size = number(&log[8..12]) as usize;
    let frames: Vec<&[u8]> = log[32..].chunks_exact(24 + size).filter(|frame| frame[8..16] == log[16..24]).collect();
    let first = frames.iter().map(|frame| number(&frame[..4])).min().expect("a frame");
    let last = frames.iter().rfind(|frame| number(&frame[..4]) == first).expect("its frame");
    let file = fs::OpenOptions::new().write(true).open(path(database)).expect("a file");
    let place = u64::from(first - 1) * size as u64;
    std::os::unix::fs::FileExt::write_all_at(&file, &last[24..], place).expect("written");
}

/// An action of another process.
type Step = fn(&Database);

const WRITE: &str = "UPDATE users SET nick = nick || '.'";

#[test]
fn killed_server__starts_after_a_checkpoint_of_another_process() {
    let ways: [(&str, Step); 6] = [
        ("complete", |database| database.execute("PRAGMA wal_checkpoint(PASSIVE)")),
        ("complete, and the WAL is truncated", |database| database.execute("PRAGMA wal_checkpoint(TRUNCATE)")),
        ("complete, and the WAL restarts", |database| {
            database.execute(&format!("PRAGMA wal_checkpoint(RESTART); {WRITE}"));
        }),
        ("complete, and the WAL is truncated and restarts", |database| {
            database.execute(&format!("PRAGMA wal_checkpoint(TRUNCATE); {WRITE}"));
        }),
        ("complete, and the WAL continues", |database| {
            database.execute(&format!("PRAGMA wal_checkpoint(PASSIVE); {WRITE}"));
        }),
        ("incomplete", begin_checkpoint),
    ];
    for (way, checkpoint) in ways {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        let (user, _, token) = child.client.tenant("alice");
        post(&child.client, &token, "kept");
        kill_after(child, || checkpoint(&database));
        run(&mut gatebird(&database, &["user", "list"], &[]), "").good();
        let child = Child::start(&database, &[]);
        assert!(!child.stderr().contains("restored"), "{way}: {}", child.stderr());
        child.client.get("/v1/me", &user.token).expect(200);
        child.client.get("/v1/test", &token).expect(200);
    }
}

/// A later command is killed as well, or its process ends while the last connection closes.
#[test]
fn killed_command__leaves_a_log_that_belongs_to_the_file() {
    if !programs::installed(&["sqlite3"]) {
        return;
    }
    let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
    let last: [&dyn Fn(&Database); 4] = [
        &|database| killed_sqlite3(database, checkpoint),
        &|database| killed_sqlite3(database, WRITE),
        &|database| killed_sqlite3(database, &format!("{checkpoint}; {WRITE}")),
        &begin_checkpoint,
    ];
    for kill in last {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        let (user, _, token) = child.client.tenant("alice");
        post(&child.client, &token, "kept");
        child.kill();
        kill(&database);
        assert!(fs::metadata(log(&database)).is_ok_and(|log| log.len() > 0));
        let child = Child::start(&database, &[]);
        child.client.get("/v1/me", &user.token).expect(200);
    }
}

/// After a manual restoration, the log is the backup's.
#[test]
fn restored_file__a_later_log_belongs_to_it() {
    if !programs::installed(&["sqlite3"]) {
        return;
    }
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (_, domain, token) = child.client.tenant("alice");
    let copy = back_up(&database);
    child.kill();
    fs::remove_file(log(&database)).expect("the log");
    copy_over(&copy, &path(&database));
    killed_sqlite3(&database, &format!("PRAGMA journal_mode = WAL; {WRITE}"));
    assert!(fs::metadata(log(&database)).is_ok_and(|log| log.len() > 0));
    let child = Child::start(&database, &[]);
    refused(&child.client, &[&token]);
    assert_still_works(&child.client, &domain);
}

/// A plain copy of the file without its log has the same mark and counters as the file.
#[test]
fn foreign_log__is_not_replayed_over_a_plain_copy() {
    for (way, then) in [("copied", ""), ("copied", "PRAGMA wal_checkpoint(PASSIVE)"), ("moved", "")] {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        child.client.tenant("alice");
        let copy = database.dir.path().join("copy.db");
        copy_over(&path(&database), &copy);
        child.client.tenant("mallory");
        if !then.is_empty() {
            database.execute(then);
        }
        child.kill();
        match way {
            "moved" => fs::rename(&copy, path(&database)).expect("moved"),
            _ => copy_over(&copy, &path(&database)),
        }
        assert_eq!(run(&mut gatebird(&database, &[], &[]), "").code, Some(65), "{way} {then}");
    }
}

/// Commits, checkpoints of another process and SIGKILL in any order.
#[test]
fn killed_server__starts_again_and_again() {
    let database = Database::sqlite();
    let mut child = Child::start(&database, &[]);
    let (user, _, token) = child.client.tenant("alice");
    for cycle in 0..12_u64 {
        let (client, token) = (child.client.clone(), token.clone());
        let deadline = Instant::now() + Duration::from_millis(20 + cycle * 67 % 150);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    drop(client.try_call("POST", "/v1/posts", &token, &json!({"content": "more"})));
                }
            });
            scope.spawn(|| {
                let mode = ["PASSIVE", "TRUNCATE", "RESTART"][cycle as usize % 3];
                while Instant::now() < deadline {
                    database.execute(&format!("PRAGMA busy_timeout = 1000; PRAGMA wal_checkpoint({mode})"));
                }
            });
        });
        child.kill();
        if cycle % 2 == 0 {
            run(&mut gatebird(&database, &["user", "list"], &[]), "").good();
        }
        child = Child::start(&database, &[]);
        child.client.get("/v1/me", &user.token).expect(200);
    }
}
