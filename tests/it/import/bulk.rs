//! Imports of domains from a CSV file.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::mpsc::{self, TryRecvError};
use std::time::Duration;

use ::gatebird::db::schema::{audit, domains, secrets};
use diesel::prelude::*;

use super::{cli, ends, report, uuid, write};
use crate::binary::{Child, gatebird, text};
use crate::harness::{Database, Gate, PASSWORD, json};

/// The rows of a file of secrets.
fn secrets_in(database: &Database, name: &str) -> Vec<csv::StringRecord> {
    let mut reader = csv::Reader::from_path(database.dir.path().join(name)).expect("a file of secrets");
    assert_eq!(reader.headers().expect("a header"), vec!["username", "host", "id", "clientSecret"]);
    reader.records().collect::<Result<_, _>>().expect("records")
}

#[test]
fn import_domains__each_row_is_imported_or_reported() {
    let database = Arc::new(Database::new());
    cli(&database, &["user", "add", "alice"], PASSWORD).good();
    let given = uuid(1);
    let rows = format!(
        "\u{feff}host,username,clientSecret,type\n\
        shop.example.com,alice,{given},premium\n\
        \"Blog.Example.com\", ALICE ,,free\n\
        com,alice,,free\n\
        new.example.com,alice,,gold\n\
        new.example.com,a b,,free\n\
        new.example.com,nobody,,free\n\
        new.example.com,alice,secret,free\n\
        other.example.com,alice,{given},free\n\
        shop.example.com,alice,{},free\n\
        BLOG.example.com,alice,,free\n\
        new.example.com,usr_1,,free\n",
        uuid(2)
    );
    write(&database, "domains.csv", &rows);
    let load = ["import", "domains", "domains.csv", "--secrets", "secrets.csv", "--json"];
    let (lines, sums) = report(cli(&database, &load, ""));
    assert_eq!(sums, json!({"imported": {"users": 0, "domains": 2}, "already": 1, "skipped": 8}));
    let skipped: Vec<_> = lines.iter().map(|line| (line["line"].as_u64(), text(&line["reason"]))).collect();
    for (number, says) in [
        (4, "public suffix"),
        (5, "gold"),
        (6, "a b"),
        (7, "the username nobody does not exist"),
        (8, "clientSecret"),
        (9, "another domain has this clientSecret"),
        (10, "another secret"),
        (12, "usr_ and digits"),
    ] {
        let recorded = |(line, reason): &&(Option<u64>, String)| *line == Some(number) && reason.contains(says);
        assert!(skipped.iter().any(|line| recorded(&line)), "{number} {says}: {skipped:?}");
    }
    let made = secrets_in(&database, "secrets.csv");
    assert_eq!((made.len(), &made[0][0], &made[0][1]), (1, "ALICE", "blog.example.com"));
    let mode = fs::metadata(database.dir.path().join("secrets.csv")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // A second import changes nothing and writes no file, because it creates no secret.
    ends(&cli(&database, &load, ""), 73, "secrets.csv");
    let again = ["import", "domains", "domains.csv", "--secrets", "again.csv", "--json"];
    let (_, sums) = report(cli(&database, &again, ""));
    assert_eq!(sums, json!({"imported": {"users": 0, "domains": 0}, "already": 3, "skipped": 8}));
    assert!(!database.dir.path().join("again.csv").exists());

    let gate = Gate::on(database, &[]);
    for (secret, host) in [(given.as_str(), "shop.example.com"), (&made[0][3], "blog.example.com")] {
        let answer = gate.post("/token").json(&json!({"clientSecret": secret})).send().expect(200);
        let claims = gate.get("/v1/test").token(text(&answer["token"])).send().expect(200);
        assert_eq!((&claims["host"], &claims["username"]), (&json!(host), &json!("alice")));
    }
}

#[test]
fn import_domains__unreadable_file_changes_nothing() {
    let database = Database::new();
    cli(&database, &["user", "add", "alice"], PASSWORD).good();
    // The wrong line comes after the first batch.
    let many: String = (0..1_500).map(|number| format!("alice,h{number}.example.com,free\n")).collect();
    let cases: &[(Vec<u8>, &str)] = &[
        (Vec::new(), "first line"),
        (b"username,host\nalice,shop.example.com\n".to_vec(), "first line"),
        (b"username,host,type,secret\nalice,shop.example.com,free,\n".to_vec(), "columns other"),
        (b"username,host,type,type\nalice,shop.example.com,free,free\n".to_vec(), "columns other"),
        (format!("username,host,type\n{many}alice,shop.example.com\n").into_bytes(), "line 1502"),
        ([b"username,host,type\nalice,", &b"\xff\xfe"[..], b",free\n"].concat(), "line 2"),
    ];
    for (content, says) in cases {
        write(&database, "domains.csv", content);
        ends(&cli(&database, &["import", "domains", "domains.csv", "--secrets", "secrets.csv"], ""), 65, says);
        assert!(!database.dir.path().join("secrets.csv").exists(), "{says}");
    }
    write(&database, "domains.csv", format!("username,host,type\n{many}"));
    ends(&cli(&database, &["import", "domains", "domains.csv"], ""), 64, "line 2 has no clientSecret");
    let unwritable = ["import", "domains", "domains.csv", "--secrets", "nothing/secrets.csv"];
    ends(&cli(&database, &unwritable, ""), 73, "nothing/secrets.csv");
    assert_eq!(cli(&database, &["domain", "list", "--json"], "").json(), json!([]));
}

#[test]
fn import_domains__several_batches_of_several_users() {
    let database = Arc::new(Database::new());
    let gate = Gate::on(Arc::clone(&database), &[]);
    // Three batches, each with rows of all 50 owners.
    let rows: String = (0..2_500).map(|number| format!("user-{},h{number}.example.com,free\n", number % 50)).collect();
    write(&database, "domains.csv", format!("username,host,type\n{rows}"));
    let load = ["import", "domains", "domains.csv", "--make-users", "--secrets", "secrets.csv", "--json"];
    let (lines, sums) = report(cli(&database, &load, ""));
    assert_eq!(sums, json!({"imported": {"users": 50, "domains": 2500}, "already": 0, "skipped": 0}));
    assert!(lines.is_empty(), "{lines:?}");

    let db = &gate.app.db;
    let owners: Vec<i64> = db.read_now(|conn| Ok(domains::table.select(domains::user_id).load(conn)?)).expect("rows");
    assert_eq!((owners.len(), owners.iter().collect::<HashSet<_>>().len()), (2_500, 50));
    let of_domains: Vec<i64> =
        db.read_now(|conn| Ok(domains::table.select(domains::revision).load(conn)?)).expect("rows");
    let of_secrets: Vec<i64> =
        db.read_now(|conn| Ok(secrets::table.select(secrets::revision).load(conn)?)).expect("rows");
    let distinct: HashSet<_> = of_domains.iter().chain(&of_secrets).collect();
    assert_eq!(distinct.len(), 5_000, "no two rows share a revision");
    // Each domain has an audit row with its owner.
    let recorded: Vec<(String, Option<i64>, String, Option<String>)> = {
        let columns = (audit::action, audit::tenant, audit::target, audit::detail);
        db.read_now(|conn| Ok(audit::table.select(columns).load(conn)?)).expect("rows")
    };
    let of = |wanted: &str| recorded.iter().filter(|(action, ..)| action == wanted).collect::<Vec<_>>();
    let users = of("user.imported");
    assert!(users.iter().all(|(_, tenant, target, _)| tenant.map(|id| format!("usr_{id}")) == Some(target.clone())));
    let stored: Vec<(String, i64, String)> = db
        .read_now(|conn| Ok(domains::table.select((domains::id, domains::user_id, domains::host)).load(conn)?))
        .expect("rows");
    let expected: HashSet<_> = stored
        .into_iter()
        .map(|(id, owner, host)| (id, Some(owner), Some(format!("{{\"host\":\"{host}\",\"type\":\"free\"}}"))))
        .collect();
    let recorded: HashSet<_> = of("domain.imported")
        .into_iter()
        .map(|(_, tenant, target, detail)| (target.clone(), *tenant, detail.clone()))
        .collect();
    assert_eq!((users.len(), recorded.len()), (50, 2_500));
    assert_eq!(recorded, expected);
    let head = cli(&database, &["audit", "verify", "--json"], "").json();
    assert_eq!(head["rows"], json!(2_550), "the audit log has no other row");

    // The server, which ran all the time, knows the new domains.
    let made = secrets_in(&database, "secrets.csv");
    assert_eq!(made.len(), 2_500);
    let token = |row: &csv::StringRecord| {
        gate.post("/token").basic(&row[2], &row[3]).form("grant_type=client_credentials").send().status
    };
    crate::binary::within(crate::binary::PROMISED, "the new secrets work", || {
        made.iter().step_by(499).all(|row| token(row) == 200)
    });
    assert_eq!(gate.app.directory.domain_count(), 2_500);
    for password in ["", PASSWORD, "user-1"] {
        let body = json!({"username": "user-1", "password": password});
        gate.post("/v1/signin").json(&body).send().refused(401, "credentials");
    }
}

/// The server reads the new domains in steps, and answers meanwhile.
#[test]
fn import_domains__running_server_answers_during_a_large_import() {
    const MANY: usize = 30_000;
    let database = Arc::new(Database::new());
    // The token outlives the import on a slow machine.
    let gate = Gate::on(Arc::clone(&database), &[("TOKEN_TTL", "1h")]);
    let (_, domain, token) = gate.tenant("alice");
    let rows: String = (0..MANY).map(|number| format!("alice,h{number}.example.com,free\n")).collect();
    write(&database, "domains.csv", format!("username,host,type\n{rows}"));
    std::thread::scope(|scope| {
        // A failed test drops the sender, too, and so ends the thread.
        let (running, ended) = mpsc::channel::<()>();
        let (gate, domain, token) = (&gate, &domain, &token);
        let asking = scope.spawn(move || {
            while ended.try_recv() == Err(TryRecvError::Empty) {
                gate.get("/v1/test").token(token).send().expect(200);
                gate.access_token(domain);
            }
        });
        let load = ["import", "domains", "domains.csv", "--secrets", "secrets.csv", "--json"];
        // No time is promised for this. A busy machine takes longer.
        let limit = Duration::from_secs(120);
        let (_, sums) = report(Child::spawn(&mut gatebird(&database, &load, &[]), "").wait(limit));
        assert_eq!(sums["imported"]["domains"], MANY);
        crate::binary::within(limit, "all domains are known", || gate.app.directory.domain_count() == MANY + 1);
        let made = secrets_in(&database, "secrets.csv");
        let token = |row: &csv::StringRecord| {
            gate.post("/token").basic(&row[2], &row[3]).form("grant_type=client_credentials").send().status
        };
        crate::binary::within(limit, "the last secret works", || token(&made[MANY - 1]) == 200);
        assert!(made.iter().step_by(2_999).all(|row| token(row) == 200));
        drop(running);
        asking.join().expect("every request was answered");
    });
}
