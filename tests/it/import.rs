//! Imports: the export of a NodeBird API, and thousands of domains.

use std::fs;
use std::sync::Arc;

use diesel::prelude::*;
use gatebird::db::schema::{audit, domains, secrets, users};

use crate::binary::{Child, Outcome, PROMISED, gatebird, run, text, within};
use crate::harness::{Database, Gate, PASSWORD, Value, json};
use crate::programs;

mod bulk;
mod mariadb;
mod owners;

use mariadb::MariaDb;

fn cli(database: &Database, args: &[&str], stdin: &str) -> Outcome {
    run(&mut gatebird(database, args, &[("ALLOW_LOCAL_HOSTS", "false")]), stdin)
}

/// Writes a file into the database's folder, in which the binary runs.
fn write(database: &Database, name: &str, content: impl AsRef<[u8]>) {
    fs::write(database.dir.path().join(name), content).expect("a file");
}

/// The lines of a `--json` import that succeeded, and the sums after them.
#[track_caller]
fn report(outcome: Outcome) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> =
        outcome.good().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let sums = lines.pop().expect("sums at the end");
    (lines, sums)
}

#[track_caller]
fn imported(database: &Database, export: &str) -> (Vec<Value>, Value) {
    write(database, "nodebird.jsonl", export);
    report(cli(database, &["import", "nodebird", "nodebird.jsonl", "--json"], ""))
}

#[track_caller]
fn ends(outcome: &Outcome, code: i32, says: &str) {
    assert_eq!(outcome.code, Some(code), "{outcome:?}");
    assert!(outcome.stderr.contains(says) && outcome.stdout.is_empty(), "{says}: {outcome:?}");
}

/// A version 4 UUID that contains that number.
fn uuid(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-0123456789ab")
}

const OLD_PASSWORD: &str = "1234";

/// [`OLD_PASSWORD`] as the original stores it.
const OLD_HASH: &str = "$2b$04$abcdefghijklmnopqrstuuLmbu5vDTuG9XSinpEFXpa/UakZY.oz6";

/// The output of `deploy/nodebird-export.sql` for the tables of `import/schema.sql` with the rows of `import/rows.sql`.
const EXPORT: &str = include_str!("import/export.jsonl");

/// The same after `import/later.sql`.
const LATER_EXPORT: &str = include_str!("import/later.jsonl");

/// The report on [`EXPORT`]: outcome, table, number, and words of the reason.
const REPORTED: &[(&str, &str, u64, &str)] = &[
    ("skipped", "user", 3, "deleted there"),
    ("changed", "user", 2, "now kakao-1234567; "),
    ("changed", "user", 2, "no usable password (kakao)"),
    ("changed", "user", 2, "now kakaonick"),
    ("changed", "user", 4, "now nodebird-4"),
    ("skipped", "user", 5, "taken"),
    ("changed", "user", 6, "gatebird user password plain@example.com"),
    ("changed", "domain", 2, "blog.example.com"),
    ("changed", "domain", 3, "stays premium"),
    ("skipped", "domain", 5, "its user was deleted there"),
    ("skipped", "domain", 6, "is a local host"),
    ("skipped", "domain", 7, "it was deleted there"),
    ("skipped", "domain", 8, "no user"),
    ("skipped", "domain", 9, "its user was skipped"),
    ("skipped", "domain", 10, "same client secret"),
    ("skipped", "domain", 11, "not a UUID"),
    ("skipped", "domain", 13, "must be only a host name"),
];

#[test]
fn import_nodebird__recorded_export() {
    check_import(EXPORT, LATER_EXPORT);
}

#[test]
fn import_nodebird__export_of_a_real_mariadb() {
    if !programs::installed(mariadb::PROGRAMS) {
        return;
    }
    let mariadb = MariaDb::start(include_str!("import/schema.sql"));
    let export_after = |statements| {
        mariadb.run(statements);
        mariadb.export()
    };
    let export = export_after(include_str!("import/rows.sql"));
    let later = export_after(include_str!("import/later.sql"));
    check_import(&export, &later);
    assert_eq!([export.as_str(), &later], [EXPORT, LATER_EXPORT], "the recordings must be what MariaDB prints");
}

/// Users and clients continue after an import, and a later import adds only what is new.
fn check_import(export: &str, later: &str) {
    let database = Arc::new(Database::new());
    cli(&database, &["user", "add", "TAKEN@example.com"], PASSWORD).good();

    assert!(!export.contains(&uuid(7)), "a deleted domain's secret is in {export}");
    let (lines, sums) = imported(&database, export);
    for (outcome, table, number, says) in REPORTED {
        let reported = |line: &&Value| line["outcome"] == json!(outcome) && line[table] == json!(number);
        let reasons: Vec<String> = lines.iter().filter(reported).map(|line| text(&line["reason"])).collect();
        assert!(reasons.len() == 1 && reasons[0].contains(says), "{table} {number}: {says}: {reasons:?}");
    }
    assert_eq!(lines.len(), 15, "{lines:?}");
    let none = json!({"users": 0, "domains": 0, "secrets": 0});
    let first = json!({"users": 4, "domains": 4, "secrets": 1});
    assert_eq!(sums, json!({"imported": first, "already": none, "skipped": 10}));
    assert!(!lines.iter().any(|line| line.to_string().contains("-0000-4000-8000-")), "a secret is shown: {lines:?}");

    // The clients of the original, which know only their secret.
    let gate = Gate::on(Arc::clone(&database), &[]);
    for (secret, host, nick) in [
        (uuid(1), "shop.example.com", "a\"b\\c'😀 제로초"),
        (uuid(2), "blog.example.com", "a\"b\\c'😀 제로초"),
        (uuid(3), "shop.example.com", "a\"b\\c'😀 제로초"),
        (uuid(4).to_uppercase(), "kakao.example.com:8443", "kakaonick"),
        (uuid(10), "hangul.example.com", "nodebird-4"),
    ] {
        for path in ["/token", "/v1/token"] {
            let answer = gate.post(path).json(&json!({"clientSecret": secret})).send().expect(200);
            let token = text(&answer["token"]);
            let claims = gate.get("/v1/test").header("Authorization", &token).send().expect(200);
            assert_eq!((&claims["host"], &claims["nick"]), (&json!(host), &json!(nick)), "{claims}");
            assert!(!claims.to_string().contains('@'), "an e-mail address is in {claims}");
        }
    }
    for secret in [uuid(5), uuid(6), uuid(7), uuid(8), uuid(9), uuid(11), uuid(4), uuid(99)] {
        gate.post("/token").json(&json!({"clientSecret": secret})).send().refused(401, "unknown_client");
    }
    let without_dashes = json!({"clientSecret": uuid(1).replace('-', "")});
    gate.post("/token").json(&without_dashes).send().refused(401, "malformed_secret");

    // Users sign in with their earlier password; its hash is then replaced.
    let hash_of = |name: &str| -> String {
        let query = users::table.filter(users::username.eq(name.to_owned())).select(users::password_hash);
        gate.app.db.read_now(|conn| Ok(query.first(conn)?)).expect("a user")
    };
    let sign_in = |name: &str, password: &str| {
        gate.post("/v1/signin").json(&json!({"username": name, "password": password})).send()
    };
    let before = hash_of("Alice@example.com");
    sign_in("alice@example.com", "12345").refused(401, "credentials");
    assert!(before.starts_with("$2b$") && hash_of("Alice@example.com") == before);
    for _ in 0..2 {
        sign_in("alice@example.com", OLD_PASSWORD).expect(200);
        assert!(hash_of("Alice@example.com").starts_with("gb1$2b$04$"));
    }
    sign_in("nodebird-4", OLD_PASSWORD).expect(200);
    sign_in("taken@example.com", OLD_PASSWORD).refused(401, "credentials");
    sign_in("taken@example.com", PASSWORD).expect(200);
    for password in ["", OLD_PASSWORD, "not a hash"] {
        sign_in("kakao-1234567", password).refused(401, "credentials");
        sign_in("plain@example.com", password).refused(401, "credentials");
    }
    cli(&database, &["user", "password", "kakao-1234567"], PASSWORD).good();
    sign_in("kakao-1234567", PASSWORD).expect(200);

    // OAuth 2.0 libraries use the same secret, and plan and time of the domain are kept.
    let user = text(&sign_in("alice@example.com", OLD_PASSWORD).expect(200)["token"]);
    let list = gate.get("/v1/domains").token(&user).send().expect(200);
    let shop =
        &list["payload"].as_array().expect("an array").iter().find(|row| row["host"] == json!("shop.example.com"));
    let shop = shop.expect("it exists");
    assert_eq!((&shop["type"], &shop["createdAt"]), (&json!("premium"), &json!(1_551_484_800)));
    let id = text(&shop["id"]);
    gate.post("/token").basic(&id, &uuid(1)).form("grant_type=client_credentials").send().expect(200);
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={}", uuid(3));
    gate.post("/token").form(form).send().expect(200);
    gate.post("/token")
        .basic(&id, &uuid(2))
        .form("grant_type=client_credentials")
        .send()
        .refused(401, "unknown_client");

    // Each imported row has an audit row.
    let count = |action: &str| -> i64 {
        let query = audit::table.filter(audit::action.eq(action.to_owned()).and(audit::actor.eq("operator"))).count();
        gate.app.db.read_now(|conn| Ok(query.get_result(conn)?)).expect("a number")
    };
    assert_eq!(["user.imported", "domain.imported", "secret.imported"].map(count), [4, 4, 1]);
    drop(gate);

    // A second import adds nothing, and a later one only what is new.
    let again = json!({"users": 4, "domains": 5, "secrets": 0});
    let (_, sums) = imported(&database, export);
    assert_eq!(sums, json!({"imported": none, "already": again, "skipped": 10}));
    let (_, sums) = imported(&database, later);
    let more = json!({"users": 1, "domains": 2, "secrets": 0});
    assert_eq!(sums, json!({"imported": more, "already": again, "skipped": 10}));
    let gate = Gate::on(database, &[]);
    for number in [1, 20, 21] {
        gate.post("/token").json(&json!({"clientSecret": uuid(number)})).send().expect(200);
    }
}

/// A line of an export for the user of that number.
fn user(id: u32, email: &str) -> String {
    json!({"table": "users", "id": id, "email": email, "nick": "n", "password": OLD_HASH, "provider": "local", "snsId": null, "createdAt": 1_500_000_000 + i64::from(id), "deletedAt": null}).to_string()
}

/// A line of an export for a domain of that user, with the secret of its number.
fn domain(id: u32, host: &str, user: u32) -> String {
    json!({"table": "domains", "id": id, "host": host, "type": "free", "clientSecret": uuid(id), "userId": user, "createdAt": 1_500_000_000, "deletedAt": null}).to_string()
}

fn end(users: u32, domains: u32) -> String {
    json!({"table": "end", "users": users, "domains": domains}).to_string()
}

#[test]
fn import_nodebird__unreadable_file_changes_nothing() {
    let database = Database::new();
    let (alice, shop) = (user(1, "alice@example.com"), domain(1, "shop.example.com", 1));
    let whole = [alice.as_str(), &shop, &end(1, 1)].join("\n");
    let cases: &[(String, &str)] = &[
        (format!("{alice}\n{shop}\n"), "end of the export is missing"),
        (format!("{alice}\n{}\n", end(1, 1)), "rows are missing"),
        (format!("{alice}\n{alice}\n{}\n", end(2, 0)), "there twice"),
        (format!("{alice}\n{}\n{}\n", &shop[..shop.len() - 9], end(1, 1)), "line 2"),
        (format!("{alice}\n\n{{\"table\": \"posts\"}}\n"), "line 3"),
        (whole.replace("\"id\":1", "\"id\":\"1\""), "line 1"),
        (whole.replace("\"userId\"", "\"UserId\""), "line 2"),
        (whole.replace("\"id\":1", "\"id\":-1"), "line 1"),
        (format!("id\n{whole}"), "line 1"),
        (whole.replace("shop", "sh\u{0}p"), "line 2"),
        (String::new(), "end of the export is missing"),
    ];
    for (content, says) in cases {
        write(&database, "export", content);
        let outcome = cli(&database, &["import", "nodebird", "export"], "");
        ends(&outcome, 65, says);
        assert!(!outcome.stderr.contains("4000-8000") && !outcome.stderr.contains("$2b$"), "a secret: {outcome:?}");
    }
    write(&database, "export", [&whole.as_bytes()[..20], b"\xff", &whole.as_bytes()[20..]].concat());
    ends(&cli(&database, &["import", "nodebird", "export"], ""), 65, "line 1");
    ends(&cli(&database, &["import", "nodebird", "nothing"], ""), 64, "nothing");
    ends(&cli(&database, &["import", "nodebird", "export", "--source", "a b"], ""), 64, "--source");
    assert_eq!(cli(&database, &["user", "list", "--json"], "").json(), json!([]));
    // The order of lines does not matter, nor do line ends of Windows.
    let (_, sums) = imported(&database, &[&end(1, 1), shop.as_str(), &alice, ""].join("\r\n"));
    assert_eq!(sums["imported"], json!({"users": 1, "domains": 1, "secrets": 0}));
}

#[test]
fn import_nodebird__another_system_needs_a_source_of_its_own() {
    let database = Database::new();
    imported(&database, &[user(1, "alice@example.com"), end(1, 0)].join("\n"));
    let other = user(1, "mallory@example.com").replace("1500000001", "1600000000");
    let other = [other, user(2, "bob@example.com"), domain(1, "shop.example.com", 1), end(2, 1)].join("\n");
    write(&database, "other", other);
    ends(&cli(&database, &["import", "nodebird", "other"], ""), 65, "--source");
    let names = || {
        let users = cli(&database, &["user", "list", "--json"], "").json();
        let mut names: Vec<_> =
            users.as_array().expect("an array").iter().map(|user| text(&user["username"])).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["alice@example.com"], "no row was changed");
    cli(&database, &["import", "nodebird", "other", "--source", "other"], "").good();
    assert_eq!(names(), ["alice@example.com", "bob@example.com", "mallory@example.com"]);
    let listed = cli(&database, &["domain", "list", "--json"], "").json();
    assert_eq!(listed[0]["user"], json!("mallory@example.com"));
}

#[test]
fn import_nodebird__username_like_an_id_is_replaced() {
    let database = Database::new();
    let (lines, sums) = imported(&database, &[user(1, "Usr_2"), user(2, "bob@example.com"), end(2, 0)].join("\n"));
    assert_eq!(sums["imported"]["users"], json!(2));
    assert_eq!((lines.len(), &lines[0]["user"]), (1, &json!(1)));
    let reason = text(&lines[0]["reason"]);
    assert!(reason.contains("\"Usr_2\" is not a valid username, which is now nodebird-1"), "{reason}");
}

#[test]
fn import_nodebird__rows_deleted_here_do_not_come_back() {
    let database = Arc::new(Database::new());
    let export = [
        user(1, "alice@example.com"),
        user(2, "bob@example.com"),
        domain(1, "shop.example.com", 1),
        domain(2, "bob.example.com", 2),
        end(2, 2),
    ]
    .join("\n");
    imported(&database, &export);
    let gate = Gate::on(Arc::clone(&database), &[]);
    let sign_in = |name: &str| {
        let body = json!({"username": name, "password": OLD_PASSWORD});
        text(&gate.post("/v1/signin").json(&body).send().expect(200)["token"])
    };
    let alice = sign_in("alice@example.com");
    let list = gate.get("/v1/domains").token(&alice).send().expect(200);
    let id = text(&list["payload"][0]["id"]);
    gate.delete(&format!("/v1/domains/{id}")).token(&alice).send().expect(200);
    let bob = sign_in("bob@example.com");
    gate.delete("/v1/me").token(&bob).json(&json!({"password": OLD_PASSWORD})).send().expect(200);
    gate.app.remove_leftovers().expect("the database answers");
    // The name is not given again. The next export has a new domain of the deleted user.
    let body = json!({"username": "bob@example.com", "password": PASSWORD});
    gate.post("/v1/signup").json(&body).send().refused(409, "taken");
    let other = gate.sign_up("robert@example.com");
    let longer = export.replace(&end(2, 2), &[domain(3, "new.example.com", 2), end(2, 3)].join("\n"));
    let (lines, sums) = imported(&database, &longer);
    assert_eq!(sums["imported"], json!({"users": 0, "domains": 0, "secrets": 0}));
    assert_eq!(sums["skipped"], json!(1));
    assert!(text(&lines[0]["reason"]).contains("deleted here"), "{lines:?}");
    assert_eq!(gate.get("/v1/domains").token(&other.token).send().expect(200)["payload"], json!([]));
    let count: i64 = gate.app.db.read_now(|conn| Ok(domains::table.count().get_result(conn)?)).expect("a number");
    let left: i64 = gate.app.db.read_now(|conn| Ok(secrets::table.count().get_result(conn)?)).expect("a number");
    assert_eq!((count, left), (0, 0));
}

#[test]
fn import_nodebird__second_user_of_a_name_is_skipped() {
    let database = Database::new();
    let export = [
        user(1, "alice@example.com"),
        user(2, "ALICE@example.com"),
        domain(1, "one.example.com", 1),
        domain(2, "two.example.com", 2),
        end(2, 2),
    ];
    let (lines, sums) = imported(&database, &export.join("\n"));
    assert_eq!(sums["imported"], json!({"users": 1, "domains": 1, "secrets": 0}));
    assert_eq!((&lines[0]["user"], &lines[1]["domain"]), (&json!(2), &json!(2)), "{lines:?}");
    let listed = cli(&database, &["domain", "list", "--json"], "").json();
    assert_eq!((&listed[0]["host"], listed.as_array().map(Vec::len)), (&json!("one.example.com"), Some(1)));
}

#[test]
fn import__domains_of_other_users_stay_theirs() {
    let database = Arc::new(Database::new());
    let gate = Gate::on(Arc::clone(&database), &[]);
    let first = [user(1, "alice@example.com"), end(1, 0)].join("\n");
    imported(&database, &first);
    let bob = gate.sign_up("bob");
    gate.register(&bob, "shop.example.com");
    let verified = diesel::update(domains::table).set(domains::verified_at.eq(Some(1_i64)));
    gate.app.db.change_now(|conn| Ok(verified.execute(conn)?), |_| Ok(())).expect("a proof");
    let body = json!({"username": "alice@example.com", "password": OLD_PASSWORD});
    let alice = text(&gate.post("/v1/signin").json(&body).send().expect(200)["token"]);
    within(PROMISED, "she is known", || gate.get("/v1/me").token(&alice).send().status == 200);
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let body = json!({"host": "keys.example.com", "type": "free", "jwks": {"keys": [key]}});
    gate.post("/v1/domains").token(&alice).json(&body).send().expect(201);

    let longer = [domain(1, "shop.example.com", 1), domain(2, "keys.example.com", 1), end(1, 2)].join("\n");
    let (lines, sums) = imported(&database, &first.replace(&end(1, 0), &longer));
    assert_eq!((&sums["imported"]["domains"], &sums["skipped"]), (&json!(0), &json!(2)), "{lines:?}");
    let reasons = lines.iter().map(|line| text(&line["reason"])).collect::<Vec<_>>();
    assert!(reasons[0].contains("another user verified") && reasons[1].contains("with keys"), "{reasons:?}");
    let rows = "username,host,type\nalice@example.com,shop.example.com,free\nbob,shop.example.com,free\n";
    write(&database, "domains.csv", rows);
    let (lines, sums) = report(cli(&database, &["import", "domains", "domains.csv", "--secrets", "s", "--json"], ""));
    assert_eq!(sums, json!({"imported": {"users": 0, "domains": 0}, "already": 1, "skipped": 1}));
    assert!(text(&lines[0]["reason"]).contains("another user verified"), "{lines:?}");
}

#[test]
fn import_nodebird__thousands_of_rows() {
    let database = Database::new();
    let (users, domains) = (1_100, 2_100);
    let one = user(1, "name");
    let mut lines: Vec<String> = (1..=users)
        .map(|id| {
            let email = format!("user-{id}@example.com");
            let numbered = one.replace("\"id\":1,", &format!("\"id\":{id},"));
            numbered.replace("\"name\"", &format!("{email:?}"))
        })
        .collect();
    lines.extend((1..=domains).map(|id| domain(id, &format!("h{id}.example.com"), 1 + id % users)));
    lines.push(end(users, domains));
    let sums = json!({"users": users, "domains": domains, "secrets": 0});
    let none = json!({"users": 0, "domains": 0, "secrets": 0});
    let export = lines.join("\n");
    assert_eq!(imported(&database, &export).1, json!({"imported": sums, "already": none, "skipped": 0}));
    assert_eq!(imported(&database, &export).1, json!({"imported": none, "already": sums, "skipped": 0}));
    let listed = cli(&database, &["domain", "list", "--json"], "").json();
    let listed = listed.as_array().expect("an array");
    assert_eq!(listed.len(), 2_100);
    for row in listed {
        let number: u32 = text(&row["host"])[1..].split('.').next().and_then(|id| id.parse().ok()).expect("a number");
        assert_eq!(row["user"], json!(format!("user-{}@example.com", 1 + number % users)), "{row}");
    }
}

#[test]
fn import_nodebird__running_server_serves_the_new_domains() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    imported(&database, &[user(1, "alice@example.com"), domain(1, "shop.example.com", 1), end(1, 1)].join("\n"));
    within(PROMISED, "the secret works", || child.client.exchange(&uuid(1)).status == 200);
    child.client.sign_in("alice@example.com", OLD_PASSWORD).expect(200);
}

#[test]
fn user_password__set_by_an_operator() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let (user, domain, token) = child.client.tenant("alice");
    ends(&cli(&database, &["user", "password", "nobody"], PASSWORD), 64, "nobody");
    ends(&cli(&database, &["user", "password", "alice"], "password"), 64, "password");
    child.client.get("/v1/me", &user.token).expect(200);
    let other = "another horse battery staple";
    let set = cli(&database, &["user", "password", "ALICE", "--json"], other).json();
    assert_eq!(set, json!({"username": "alice"}));
    within(PROMISED, "the token is revoked", || child.client.get("/v1/me", &user.token).status == 401);
    child.client.get("/v1/test", &token).refused(401, "revoked");
    child.client.exchange(&domain.secret).expect(200);
    child.client.sign_in("alice", PASSWORD).refused(401, "credentials");
    child.client.sign_in("alice", other).expect(200);
}
