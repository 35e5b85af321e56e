//! PostgreSQL with few rights, in another encoding, read-only or behind a pooler; and a SQLite file of another user.
//! The tests on PostgreSQL need its programs and `pgbouncer`, and run where `TEST_DATABASE_URL` is set.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};

use super::assert_failed;
use crate::binary::{Child, free_port, gatebird, run, within};
use crate::harness::{Database, PASSWORD};
use crate::nodes::cluster::{self, Cluster, unprivileged_user};
use crate::programs;

/// The URL of a database in that cluster, for that user.
fn url(cluster: &Cluster, database: &str, user: &str) -> String {
    let url = cluster.url().replace("gatebird@", &format!("{user}@"));
    url.strip_suffix("postgres").expect("a database").to_owned() + database
}

fn execute(url: &str, sql: &str) {
    let mut conn = PgConnection::establish(url).expect("PostgreSQL answers");
    conn.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[test]
fn postgres_role__row_rights_suffice_after_migration() {
    if !cluster::is_available() {
        return;
    }
    let (cluster, folder) = (Cluster::start(), Database::sqlite());
    let owner = cluster.url();
    let owners = [("DATABASE_URL", &*owner)];
    execute(&owner, "CREATE ROLE gate LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let gate = url(&cluster, "postgres", "gate");
    let settings = [("DATABASE_URL", &*gate)];
    let refused =
        |args: &[&str], words: &[&str]| assert_failed(&run(&mut gatebird(&folder, args, &settings), ""), 77, words);
    // The database is empty, and the role cannot create tables.
    refused(&[], &["gate", "CREATE"]);
    refused(&["migrate"], &["gate", "CREATE"]);
    run(&mut gatebird(&folder, &["migrate"], &owners), "").good();
    refused(&[], &["gate", "SELECT"]);
    execute(&owner, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO gate");
    refused(&[], &["gate", "INSERT"]);
    execute(&owner, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO gate");
    refused(&[], &["gate", "USAGE"]);
    execute(&owner, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO gate");
    execute(&owner, "REVOKE DELETE ON posts FROM gate");
    refused(&[], &["gate", "DELETE", "posts"]);
    execute(&owner, "GRANT DELETE ON posts TO gate");

    let child = Child::start(&folder, &settings);
    let (user, domain, token) = child.client.tenant("alice");
    child.client.post("/v1/posts", &token, crate::harness::json!({"content": "a #post"})).expect(201);
    child
        .client
        .call("DELETE", &format!("/v1/domains/{}", domain.id), &user.token, &crate::harness::Value::Null)
        .expect(200);
    run(&mut gatebird(&folder, &["user", "list"], &settings), "").good();
    run(&mut gatebird(&folder, &["audit", "verify"], &settings), "").good();
    assert_eq!(run(&mut gatebird(&folder, &["migrate"], &settings), "").good().trim(), "nothing to do");
    drop(child);

    execute(&owner, "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC");
    refused(&[], &["gate", "CONNECT"]);
}

#[test]
fn read_only_database__refused_by_serve_and_read_by_commands() {
    if !cluster::is_available() {
        return;
    }
    let (cluster, folder) = (Cluster::start(), Database::sqlite());
    let owner = cluster.url();
    let settings = [("DATABASE_URL", &*owner)];
    run(&mut gatebird(&folder, &["user", "add", "alice"], &settings), PASSWORD).good();
    let standby = cluster.standby();
    let standby_url = standby.url();
    let settings = [("DATABASE_URL", &*standby_url)];
    assert_failed(&run(&mut gatebird(&folder, &[], &settings), ""), 77, &["standby", "primary"]);
    assert_failed(&run(&mut gatebird(&folder, &["migrate"], &settings), ""), 77, &["standby"]);
    assert_failed(&run(&mut gatebird(&folder, &["user", "suspend", "alice"], &settings), ""), 77, &["standby"]);
    for args in [&["user", "list"][..], &["audit", "list"], &["audit", "verify"], &["domain", "list"]] {
        run(&mut gatebird(&folder, args, &settings), "").good();
    }
    execute(&owner, "ALTER DATABASE postgres SET default_transaction_read_only = on");
    let settings = [("DATABASE_URL", &*owner)];
    assert_failed(&run(&mut gatebird(&folder, &[], &settings), ""), 77, &["read-only"]);
}

#[test]
fn postgres_encoding__other_than_utf8_is_refused() {
    if !cluster::is_available() {
        return;
    }
    let (cluster, folder) = (Cluster::start(), Database::sqlite());
    for encoding in ["SQL_ASCII", "LATIN1", "EUC_KR"] {
        let name = encoding.to_lowercase();
        let create = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        execute(&cluster.url(), &create);
        let other = url(&cluster, &name, "gatebird");
        for args in [&[][..], &["migrate"], &["user", "add", "alice"]] {
            let outcome = run(&mut gatebird(&folder, args, &[("DATABASE_URL", &other)]), PASSWORD);
            assert_failed(&outcome, 78, &[encoding, "UTF8"]);
        }
    }
}

/// A pgbouncer in that mode in front of the cluster, killed on drop.
struct Pooler {
    process: std::process::Child,
    _dir: tempfile::TempDir,
}

impl Pooler {
    fn start(cluster: &Cluster, mode: &str) -> (Pooler, String) {
        let (dir, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a writable file");
        let primary = cluster.url();
        let server_port = primary.rsplit(':').next().and_then(|rest| rest.split('/').next()).expect("a port");
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={server_port} dbname=postgres user=gatebird\n[pgbouncer]\n\
             listen_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\npool_mode={mode}\nunix_socket_dir=\n"
        );
        let file = dir.path().join("pgbouncer.ini");
        fs::write(&file, settings).expect("a file");
        let mut command = Command::new(programs::find("pgbouncer").expect("the test checks that"));
        command.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((user, group)) = unprivileged_user() {
            command.uid(user).gid(group);
        }
        let pooler = Pooler { process: command.spawn().expect("pgbouncer runs"), _dir: dir };
        let url = format!("postgres://gatebird@127.0.0.1:{port}/postgres");
        within(Duration::from_secs(10), "pgbouncer answers", || PgConnection::establish(&url).is_ok());
        (pooler, url)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn postgres_pooler__transaction_pooling_is_refused() {
    if !cluster::is_available() || !programs::installed(&["pgbouncer"]) {
        return;
    }
    let (cluster, folder) = (Cluster::start(), Database::sqlite());
    for mode in ["transaction", "statement"] {
        let (_pooler, url) = Pooler::start(&cluster, mode);
        for args in [&[][..], &["migrate"], &["user", "add", "alice"]] {
            let outcome = run(&mut gatebird(&folder, args, &[("DATABASE_URL", &url)]), PASSWORD);
            assert_failed(&outcome, 78, &["pgbouncer", "session"]);
        }
    }
    let (_pooler, url) = Pooler::start(&cluster, "session");
    Child::start(&folder, &[("DATABASE_URL", &url)]).client.tenant("alice");
    // A pool whose connections were used before.
    Child::start(&folder, &[("DATABASE_URL", &url)]).client.sign_in("alice", PASSWORD).expect(200);
}

#[test]
fn sqlite_file__without_permission_is_not_reported_as_damage() {
    let database = Database::sqlite();
    run(&mut gatebird(&database, &["user", "add", "alice"], &[]), PASSWORD).good();
    let dir = database.dir.path();
    let binary = dir.join("gatebird");
    fs::copy(gatebird(&database, &[], &[]).get_program(), &binary).expect("a copy");
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("a writable file");
    let folder = dir.join("data");
    let file = folder.join("gatebird.db");
    let other_user = unprivileged_user();
    let mut own: Vec<_> = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    own.push(folder.clone());
    if let Some((user, group)) = other_user {
        own.iter().for_each(|path| chown(path, Some(user), Some(group)).expect("root can change owners"));
    }
    let start = |args: &[&str]| {
        let server = gatebird(&database, args, &[]);
        let mut command = Command::new(&binary);
        command.args(args).current_dir(dir).env_clear();
        command.envs(server.get_envs().filter_map(|(key, value)| Some((key, value?))));
        if let Some((user, group)) = other_user {
            command.uid(user).gid(group);
        }
        command
    };
    // Without the right to the folder, rows can still be changed, but a server creates files in it.
    let cases: [(_, _, &[&[&str]]); 3] =
        [(&file, 0o400, &[&[], &["migrate"]]), (&file, 0o000, &[&[], &["migrate"]]), (&folder, 0o500, &[&[]])];
    for (path, mode, commands) in cases {
        let before = fs::metadata(path).expect("it exists").permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a writable file");
        for args in commands {
            let outcome = run(&mut start(args), "");
            assert!(matches!(outcome.code, Some(73 | 77)), "{mode:o} {args:?} {outcome:?}");
            assert!(outcome.stderr.contains("database") || outcome.stderr.contains("gatebird.db"), "{outcome:?}");
            assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
        }
        fs::set_permissions(path, before).expect("a writable file");
        // SQLite creates its log with the permissions of the file.
        for entry in fs::read_dir(&folder).expect("a folder") {
            fs::set_permissions(entry.expect("a file").path(), fs::Permissions::from_mode(0o600))
                .expect("a writable file");
        }
    }
    Child::spawn(&mut start(&[]), "").wait_until_serving().client.sign_in("alice", PASSWORD).expect(200);
}
