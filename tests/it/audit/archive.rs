//! `gatebird audit archive`: the oldest rows move to a file, none is lost, and the chain is whole over files and
//! database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::binary::{Child, Outcome, gatebird, run, text};
use crate::harness::{Database, PASSWORD, Value, json};

fn cli(database: &Database, args: &[&str]) -> Outcome {
    run(&mut gatebird(database, &[&["audit"], args].concat(), &[]), "")
}

/// The ids in the output of an export, or in a file.
fn ids(lines: &str) -> Vec<i64> {
    let id = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_i64().expect("a number");
    lines.lines().map(id).collect()
}

fn stored_ids(database: &Database) -> Vec<i64> {
    ids(&cli(database, &["export"]).good())
}

/// A database with six rows of today.
fn database_with_six_rows() -> Database {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let (alice, _, _) = child.client.tenant("alice");
    for number in 0..3 {
        let body = json!({"host": format!("h{number}.example.com"), "type": "free"});
        child.client.post("/v1/domains", &alice.token, body).expect(201);
    }
    child.client.post("/v1/signup", "", json!({"username": "bob", "password": PASSWORD})).expect(201);
    drop(child);
    assert_eq!(stored_ids(&database), [1, 2, 3, 4, 5, 6]);
    database
}

const ALL: &str = "9999-12-31";

fn file(database: &Database, name: &str) -> PathBuf {
    database.dir.path().join(name)
}

fn archive(database: &Database, before: &str, file: &Path) -> Outcome {
    cli(database, &["archive", "--before", before, &file.display().to_string()])
}

fn verify(database: &Database, files: &[&Path]) -> Outcome {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    cli(database, &[&["verify"], &files.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat())
}

fn suspend(database: &Database, command: &str) {
    run(&mut gatebird(database, &["user", command, "bob"], &[]), "").good();
}

#[test]
fn audit_archive__oldest_rows_move_and_the_chain_continues() {
    let database = database_with_six_rows();
    let (first, second) = (file(&database, "1.jsonl"), file(&database, "2.jsonl"));
    let before = cli(&database, &["export"]).good();
    let noted = cli(&database, &["verify", "--json"]).json()["head"].as_str().expect("a head").to_owned();
    // No row is that old.
    archive(&database, "2020-01-01", &first).good();
    assert!(!first.exists());
    archive(&database, ALL, &first).good();
    assert_eq!(fs::read_to_string(&first).expect("the file"), before);
    assert_eq!(fs::metadata(&first).expect("the file").permissions().mode() & 0o777, 0o600);
    assert_eq!(stored_ids(&database), [7], "the row about the export");
    let listed = cli(&database, &["list", "--json"]).json();
    assert_eq!((&listed[0]["action"], text(&listed[0]["target"])), (&json!("audit.archived"), noted.clone()));
    assert!(verify(&database, &[]).good().starts_with("7 rows, head 7:"));
    assert!(verify(&database, &[&first]).good().starts_with("7 rows, head 7:"));
    assert!(cli(&database, &["verify", "--after", &noted]).good().starts_with("7 rows"));

    suspend(&database, "suspend");
    archive(&database, ALL, &second).good();
    suspend(&database, "resume");
    assert_eq!(ids(&fs::read_to_string(&second).expect("the file")), [7, 8]);
    assert_eq!(stored_ids(&database), [9, 10]);
    assert!(verify(&database, &[&first, &second]).good().starts_with("10 rows, head 10:"));
    let shown = second.display().to_string();
    assert!(cli(&database, &["verify", "--after", &noted, &shown]).good().starts_with("10 rows"));
    let from_first = cli(&database, &["verify", "--after", &noted, &first.display().to_string(), &shown]);
    assert!(from_first.good().starts_with("10 rows"));

    // A server beside it continues to append.
    let child = Child::start(&database, &[]);
    let third = file(&database, "3.jsonl");
    archive(&database, ALL, &third).good();
    child.client.tenant("carol");
    drop(child);
    assert_eq!(stored_ids(&database), [11, 12, 13]);
    verify(&database, &[&first, &second, &third]).good();
}

#[test]
fn audit_archive__by_the_time_of_the_rows() {
    let database = Database::new();
    run(&mut gatebird(&database, &["user", "add", "bob"], &[]), PASSWORD).good();
    database.execute("DELETE FROM audit; UPDATE audit_head SET last = 0, hash = substr(hash, 1, 0)");
    // The server writes the time of each row; here the command line writes the rows.
    let path = file(&database, "old.jsonl");
    suspend(&database, "suspend");
    archive(&database, "2020-01-01", &path).good();
    assert!(!path.exists(), "every row is of today");
    assert_eq!(archive(&database, "tomorrow", &path).code, Some(64));
    archive(&database, ALL, &path).good();
    assert_eq!(stored_ids(&database), [2]);
}

/// After an interruption at any point, the same command can be repeated, and no row is lost.
#[test]
fn audit_archive__interrupted() {
    for second in [false, true] {
        let database = database_with_six_rows();
        let (earlier, path) = (file(&database, "1.jsonl"), file(&database, "2.jsonl"));
        let mut files = vec![];
        if second {
            archive(&database, ALL, &earlier).good();
            suspend(&database, "suspend");
            files.push(earlier.as_path());
        }
        let before = cli(&database, &["export"]).good();
        // While the file was written.
        fs::write(path.with_added_extension("unfinished"), "{\"id\":1,").expect("a file");
        // After the file was written, before the database was changed.
        fs::write(&path, &before).expect("a file");
        archive(&database, ALL, &path).good();
        assert_eq!(fs::read_to_string(&path).expect("the file"), before);
        files.push(&path);
        verify(&database, &files).good();
        let one = stored_ids(&database);
        assert_eq!(one.len(), 1);

        // Before the rows were deleted.
        let row = |line: &str| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            format!(
                "INSERT INTO audit SELECT {}, at, actor, address, tenant, action, target, detail, hash FROM audit WHERE id = {}",
                row["id"], one[0]
            )
        };
        database.execute(&before.lines().map(row).collect::<Vec<_>>().join(";"));
        let outcome = verify(&database, &files);
        assert!(outcome.code == Some(65) && outcome.stderr.contains("archive again"), "{outcome:?}");
        archive(&database, ALL, &path).good();
        assert_eq!(stored_ids(&database), one);
        verify(&database, &files).good();
    }
}

#[test]
fn audit_archive__replaces_no_file() {
    let database = database_with_six_rows();
    let path = file(&database, "taken");
    let before = cli(&database, &["export"]).good();
    let edited = before.replacen("domain.registered", "domain.changed", 1);
    let lines: Vec<&str> = before.lines().collect();
    for content in ["", "something else", &edited, &lines[1..].join("\n")] {
        fs::write(&path, content).expect("a file");
        let outcome = archive(&database, ALL, &path);
        assert!(outcome.code == Some(73) && outcome.stderr.contains("exists"), "{outcome:?}");
        assert_eq!(fs::read_to_string(&path).expect("the file"), content);
        assert_eq!(stored_ids(&database), [1, 2, 3, 4, 5, 6]);
    }
    // A broken log is not archived, so that the place of the damage stays known.
    database.execute("UPDATE audit SET actor = 'usr_2' WHERE id = 3");
    let outcome = archive(&database, ALL, &file(&database, "new"));
    assert!(outcome.code == Some(65) && outcome.stderr.contains("row 3"), "{outcome:?}");
    assert_eq!(stored_ids(&database).len(), 6);
}

#[test]
fn audit_archive__changed_or_missing_file() {
    let database = database_with_six_rows();
    let (first, second) = (file(&database, "1.jsonl"), file(&database, "2.jsonl"));
    archive(&database, ALL, &first).good();
    suspend(&database, "suspend");
    archive(&database, ALL, &second).good();
    let good = fs::read_to_string(&first).expect("the file");
    let lines: Vec<&str> = good.lines().collect();
    for (content, says) in [
        (good.replacen("\"at\":1", "\"at\":2", 1), "row 1"),
        (good.replacen("domain.registered", "domain.changed", 1), "row 2"),
        (lines[..5].join("\n"), "begins with row 7"),
        ([&lines[..2], &lines[3..]].concat().join("\n"), "row 3"),
        (format!("{good}nonsense\n"), "not a row"),
        (String::new(), "has no row"),
    ] {
        fs::write(&first, &content).expect("a file");
        let outcome = verify(&database, &[&first, &second]);
        assert!(outcome.code == Some(65) && outcome.stderr.contains(says), "{says}: {outcome:?}");
    }
    fs::write(&first, &good).expect("a file");
    for files in [&[first.as_path()][..], &[&second], &[&second, &first], &[&first, &second, &second]] {
        assert_eq!(verify(&database, files).code, Some(65), "{files:?}");
    }
    verify(&database, &[&first, &second]).good();
    // Rows that were deleted and declared as archived are missed even without the files.
    for sql in [
        "DELETE FROM audit WHERE id <= 9; UPDATE audit_archive SET last = 9, hash = (SELECT hash FROM audit_head)",
        "UPDATE audit_archive SET last = 0, hash = substr(hash, 1, 0)",
    ] {
        database.execute(sql);
        assert_eq!(verify(&database, &[]).code, Some(65), "{sql}");
    }
}

#[test]
fn operations_page__archiving_the_audit_log() {
    let database = database_with_six_rows();
    crate::clocks::run_section("Archiving the audit log", &database, &[]);
    assert_eq!(stored_ids(&database), [8]);
}
