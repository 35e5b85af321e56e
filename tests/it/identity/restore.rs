//! A backup in place of the database.

use std::fs;

use super::*;

/// The id of a user who signed up after the backup must not be given to another user after it was restored.
#[test]
fn restored_backup__reuses_no_user_id() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (alice, domain, token) = child.client.tenant("alice");
    let copy = back_up(&database);
    let (mallory, mallorys, mallorys_token) = child.client.tenant("mallory");
    let last = post(&child.client, &mallorys_token, "of mallory");
    stop(child);
    fs::copy(copy, path(&database)).expect("restored");
    let child = Child::start(&database, &[]);
    let client = &child.client;
    let (bob, bobs, bobs_token) = client.tenant("bob");
    assert!(post(client, &bobs_token, "of bob") > last, "a post id is reused");
    assert_ne!(bob.id, mallory.id);
    refused(client, &[&alice.token, &token, &mallory.token, &mallorys_token]);
    let rotate = format!("/v1/domains/{}/secrets", bobs.id);
    client.post(&rotate, &mallory.token, json!({"graceSeconds": 0})).refused(401, "invalid");
    client.exchange(&mallorys.secret).refused(401, "unknown_client");
    assert_still_works(client, &domain);
    assert!(child.stderr().contains("restored"), "the start reports the restore: {}", child.stderr());
    // Only once: sessions survive the next restart.
    let token = text(&client.exchange(&domain.secret).expect(200)["token"]);
    child.kill();
    let child = Child::start(&database, &[]);
    child.client.get("/v1/test", &token).expect(200);
    child.client.get("/v1/me", &bob.token).expect(200);
}

/// A generation that was reached twice.
#[test]
fn restored_backup__revives_no_earlier_token() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (mut alice, ..) = child.client.tenant("alice");
    let copy = back_up(&database);
    for (old, new) in [(PASSWORD, "first new password 1"), ("first new password 1", "second new password 2")] {
        alice.token = change_password(&child.client, &alice, old, new);
    }
    let stolen = alice.token;
    stop(child);
    fs::copy(copy, path(&database)).expect("restored");
    let child = Child::start(&database, &[]);
    refused(&child.client, &[&stolen]);
    let alice = User { token: text(&child.client.sign_in("alice", PASSWORD).expect(200)["token"]), id: alice.id };
    change_password(&child.client, &alice, PASSWORD, "first new password 1");
    refused(&child.client, &[&stolen]);
}

/// The same backup restored twice.
#[test]
fn restored_backup__continues_at_other_numbers_each_time() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (_, domain, _) = child.client.tenant("alice");
    let copy = back_up(&database);
    stop(child);
    let numbers: Vec<i64> = (0..2)
        .map(|_| {
            fs::copy(&copy, path(&database)).expect("restored");
            let child = Child::start(&database, &[]);
            let token = text(&child.client.exchange(&domain.secret).expect(200)["token"]);
            let number = post(&child.client, &token, "a post");
            child.kill();
            // As in a manual restoration.
            for end in ["-wal", "-shm"] {
                drop(fs::remove_file(path(&database).with_file_name(format!("gatebird.db{end}"))));
            }
            number
        })
        .collect();
    assert!(numbers[0].abs_diff(numbers[1]) > 1000, "{numbers:?}");
}

fn restore(database: &Database, file: &std::path::Path) -> crate::binary::Outcome {
    run(&mut gatebird(database, &["restore", &file.to_string_lossy()], &[]), "")
}

fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn restore_command__puts_the_backup_in_place() {
    for end in ["stopped", "killed"] {
        let database = Database::sqlite();
        let child = Child::start(&database, &[]);
        let (alice, domain, token) = child.client.tenant("alice");
        let copy = back_up(&database);
        let (mallory, _, mallorys_token) = child.client.tenant("mallory");
        let outcome = restore(&database, &copy);
        assert!(outcome.code == Some(73) && outcome.stderr.contains("in use"), "{outcome:?}");
        if end == "stopped" {
            stop(child)
        } else {
            child.kill()
        }
        let output = restore(&database, &copy).good();
        assert!(output.contains("lost: 1.") && output.contains("start the server"), "{output}");
        assert_eq!(mode(&path(&database)), 0o600);
        let left: Vec<String> = fs::read_dir(database.dir.path().join("data"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains("restoring") || name.ends_with("-wal"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        let child = Child::start(&database, &[]);
        let client = &child.client;
        refused(client, &[&alice.token, &token, &mallory.token, &mallorys_token]);
        client.sign_in("mallory", PASSWORD).refused(401, "credentials");
        let body = json!({"username": "Mallory", "password": PASSWORD});
        client.post("/v1/signup", "", body).refused(409, "taken");
        assert_still_works(client, &domain);
        let renewed = run(&mut gatebird(&database, &["audit", "list", "--json"], &[]), "").json();
        let renewed = renewed.as_array().expect("rows").iter().filter(|row| row["action"] == "epoch.renewed").count();
        assert_eq!(renewed, 1, "the second start reports no restore");
        run(&mut gatebird(&database, &["audit", "verify"], &[]), "").good();
    }
}

#[test]
fn restore_command__refuses_what_is_no_backup() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (_, _, token) = child.client.tenant("alice");
    let copy = back_up(&database);
    stop(child);
    let good = fs::read(&copy).expect("a copy");
    let before = fs::read(path(&database)).expect("a file");
    let mut damaged = good.clone();
    let middle = good.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 8192].fill(0x5a);
    let foreign = database.dir.path().join("foreign.db");
    let mut conn = SqliteConnection::establish(&foreign.to_string_lossy()).expect("a database");
    conn.batch_execute("CREATE TABLE users (id INTEGER)").expect("a table");
    drop(conn);
    let newer = database.dir.path().join("newer.db");
    fs::copy(&copy, &newer).expect("a copy");
    let mut conn = SqliteConnection::establish(&newer.to_string_lossy()).expect("a database");
    conn.batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')").expect("a row");
    drop(conn);
    let file = database.dir.path().join("backup.db");
    for (bytes, code) in
        [(damaged, 65), (good[..good.len() / 2].to_vec(), 65), (b"nothing".to_vec(), 65), (Vec::new(), 65)]
    {
        fs::write(&file, bytes).expect("a writable file");
        assert_eq!(restore(&database, &file).code, Some(code), "{:?}", restore(&database, &file));
    }
    for (file, code) in [(foreign, 65), (newer, 65), (path(&database), 64), (file.with_file_name("nowhere.db"), 64)] {
        let outcome = restore(&database, &file);
        assert_eq!(outcome.code, Some(code), "{outcome:?}");
    }
    for args in [&["restore"][..], &["restore", "x", "--after"]] {
        assert_eq!(run(&mut gatebird(&database, args, &[]), "").code, Some(64));
    }
    assert_eq!(fs::read(path(&database)).expect("a file"), before, "no row was changed");
    Child::start(&database, &[]).client.get("/v1/test", &token).expect(200);
}

/// The command line does not write to a database whose tokens may be of another epoch.
#[test]
fn command_line__restored_file_is_refused_until_confirmed() {
    let database = Database::sqlite();
    let child = Child::start(&database, &[]);
    let (_, domain, token) = child.client.tenant("alice");
    let copy = back_up(&database);
    child.client.tenant("mallory");
    stop(child);
    fs::copy(copy, path(&database)).expect("restored");
    let outcome = run(&mut gatebird(&database, &["user", "add", "bob"], &[]), PASSWORD);
    assert!(outcome.code == Some(65) && outcome.stderr.contains("gatebird restore --after"), "{outcome:?}");
    run(&mut gatebird(&database, &["restore", "--after"], &[]), "").good();
    run(&mut gatebird(&database, &["user", "add", "bob"], &[]), PASSWORD).good();
    let child = Child::start(&database, &[]);
    refused(&child.client, &[&token]);
    assert_still_works(&child.client, &domain);
    assert!(!child.stderr().contains("restored"), "one report is enough: {}", child.stderr());
}
