//! Domains over HTTP: registration, the secret that is shown once, and deletion.

mod dormancy;
mod suspension;

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::Text;
use gatebird::db::{Conn, domain};
use gatebird::id::DomainId;
use gatebird::secret::ClientSecret;

use crate::accounts::{change, exchange, row_counts};
use crate::harness::{Database, Domain, Gate, Reply, User, Value, json};
use crate::tenancy::comparable;

/// Suspends or resumes a domain.
pub fn set_suspended(gate: &Gate, id: &str, suspended: bool) {
    let id = DomainId::parse(id).expect("a domain's id");
    change(gate, move |conn| Ok(domain::set_suspended(conn, id, suspended)?));
}

fn register(gate: &Gate, owner: &User, body: &Value) -> Reply {
    gate.post("/v1/domains").token(&owner.token).json(body).send()
}

fn path(domain: &Domain) -> String {
    format!("/v1/domains/{}", domain.id)
}

#[test]
fn domain__registered_shown_changed_and_deleted() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let now = gate.clock.now();
    let answer = register(&gate, &alice, &json!({"host": "Shop.Example.com:8443", "type": "premium"})).expect(201);
    let mut view = answer["payload"].clone();
    let secret = view.as_object_mut().expect("an object").remove("clientSecret").expect("a member of the registration");
    view.as_object_mut().expect("an object").remove("verification").expect("a member of the registration");
    let id = view["id"].as_str().expect("a string").to_owned();
    let created = view["createdAt"].as_i64().expect("a number");
    assert!((now..now + 30).contains(&created), "{created}");
    let expected = |plan| json!({"id": id, "host": "shop.example.com:8443", "type": plan, "suspended": false, "createdAt": created, "hostVerified": false, "superseded": false, "dormant": false});
    assert_eq!(view, expected("premium"));
    let domain = Domain { id: id.clone(), secret: secret.as_str().expect("a string").into() };

    assert_eq!(gate.get(&path(&domain)).token(&alice.token).send().expect(200)["payload"], expected("premium"));
    for plan in ["free", "free", "premium"] {
        let changed = gate.patch(&path(&domain)).token(&alice.token).json(&json!({"type": plan})).send().expect(200);
        assert_eq!(changed["payload"], expected(plan));
        assert_eq!(gate.get(&path(&domain)).token(&alice.token).send().expect(200)["payload"], expected(plan));
    }
    let second = gate.register(&alice, "second.example.com");
    let list = gate.get("/v1/domains").token(&alice.token).send().expect(200);
    let mut ids: Vec<_> = list["payload"].as_array().expect("an array").iter().map(|domain| &domain["id"]).collect();
    ids.sort_by_key(|id| **id != json!(domain.id));
    assert_eq!(ids, [&json!(domain.id), &json!(second.id)]);

    gate.delete(&path(&domain)).token(&alice.token).send().expect(200);
    for request in [gate.get(&path(&domain)), gate.delete(&path(&domain))] {
        request.token(&alice.token).send().refused(404, "not_found");
    }
    let list = gate.get("/v1/domains").token(&alice.token).send().expect(200);
    assert_eq!(list["payload"].as_array().map(Vec::len), Some(1));
    // The owner can register the host of a deleted domain again, as another domain.
    let again = gate.register(&alice, "shop.example.com:8443");
    assert_ne!(again.id, domain.id);
}

#[test]
fn client_secret__shown_once_and_stored_as_a_digest() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let reply = register(&gate, &alice, &json!({"host": "shop.example.com", "type": "free"}));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let answer = reply.expect(201);
    let text = |member: &str| answer["payload"][member].as_str().expect("a string").to_owned();
    let domain = Domain { id: text("id"), secret: text("clientSecret") };
    assert!(domain.secret.starts_with("gbs_") && domain.secret.len() == 42, "{}", domain.secret);
    let token = gate.access_token(&domain);

    let random_part = &domain.secret[4..36];
    for request in [
        gate.get("/v1/domains"),
        gate.get(&path(&domain)),
        gate.patch(&path(&domain)).json(&json!({"type": "premium"})),
        gate.get("/v1/me"),
        gate.get("/v1/test"),
    ] {
        let reply = request.token(&alice.token).send();
        reply.expect(200);
        assert!(!reply.text().contains(random_part) && !reply.text().contains("ecret"), "{}", reply.text());
    }
    let claims = gate.get("/v1/test").token(&token).send();
    assert!(!claims.text().contains(random_part), "{}", claims.text());

    let stored = everything_stored(&gate);
    let is_stored = |needle: &str| stored.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(is_stored(&domain.id), "the search finds the existing domain");
    assert!(!is_stored(random_part));
    for part in random_part.as_bytes().chunks(8) {
        assert!(!is_stored(str::from_utf8(part).expect("ASCII")));
    }
}

/// All bytes of the SQLite files; on PostgreSQL all rows as text, with binary columns in hexadecimal.
fn everything_stored(gate: &Gate) -> Vec<u8> {
    if gate.database.is_postgres() {
        return gate.app.db.read_now(|conn| Ok(rows_as_text(conn)?)).expect("the database answers").into_bytes();
    }
    let folder = gate.database.dir.path().join("data");
    let files: Vec<_> = folder.read_dir().expect("the data folder").map(|file| file.expect("a file").path()).collect();
    assert!(files.iter().any(|file| file.ends_with("gatebird.db")), "{files:?}");
    files.iter().flat_map(|file| std::fs::read(file).expect("readable")).collect()
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    line: String,
}

fn rows_as_text(conn: &mut Conn) -> QueryResult<String> {
    let mut text = String::new();
    for table in ["users", "domains", "secrets", "tombstones", "posts", "post_hashtags"] {
        let rows: Vec<Row> = diesel::sql_query(format!("SELECT t::text AS line FROM {table} t")).load(conn)?;
        rows.iter().for_each(|row| text.push_str(&row.line));
    }
    Ok(text)
}

/// A sample. The unit tests of the parser have more.
#[test]
fn host__normalised_or_refused() {
    let gate = Gate::with(&[("ALLOW_LOCAL_HOSTS", "false")]);
    let alice = gate.sign_up("alice");
    for (host, stored) in [
        ("example.com", "example.com"),
        ("EXAMPLE.org", "example.org"),
        ("example.net:443", "example.net"),
        ("example.com:80", "example.com:80"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("한국.kr", "xn--3e0b707e.kr"),
        ("shop.co.uk", "shop.co.uk"),
        ("127.0.0.1.nip.io", "127.0.0.1.nip.io"),
    ] {
        let answer = register(&gate, &alice, &json!({"host": host, "type": "free"})).expect(201);
        assert_eq!(answer["payload"]["host"], json!(stored));
    }
    let label = format!("{}.com", "a".repeat(64));
    let name = format!("{}abcd.com", "abcde.".repeat(41));
    let endless = "a.".repeat(7000);
    let before = row_counts(&gate);
    for host in [
        "",
        " ",
        "example.com:0",
        "example.com:65536",
        "example.com:-1",
        "example.com:8080abc",
        "example.com:080",
        "example.com:80:80",
        "example.com.",
        "example..com",
        ".example.com",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "2852039166",
        "[::1]:80",
        "fd00::1",
        "fe80::1%25eth0",
        "metadata.google.internal",
        "exa\u{200b}mple.com",
        "exa\u{ad}mple.com",
        "exa\u{202e}mple.com",
        "exa\u{a0}mple.com",
        "ｅxample.com",
        "example。com",
        "example.com\r\nX: y",
        "exa\0mple.com",
        "exa\tmple.com",
        " example.com",
        "https://example.com",
        "example.com/path",
        "user@example.com",
        "*.example.com",
        "com",
        "co.uk",
        "github.io",
        "s3.amazonaws.com",
        "intranet",
        "example.123",
        "exam_ple.com",
        "-example.com",
        "localhost",
        "localhost:3000",
        "app.localhost",
        "<script>.com",
        "example.com'--",
        &label,
        &name,
        &endless,
    ] {
        let refusal = register(&gate, &alice, &json!({"host": host, "type": "free"})).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("host"), "{host:?}");
    }
    assert_eq!(row_counts(&gate), before);
}

#[test]
fn host__localhost_needs_a_local_server_or_a_setting() {
    for (settings, is_allowed) in [
        (vec![("ALLOW_LOCAL_HOSTS", "true"), ("PUBLIC_URL", "https://gate.example.com")], true),
        (vec![("ALLOW_LOCAL_HOSTS", "false"), ("PUBLIC_URL", "http://localhost:8002")], false),
        (vec![("PUBLIC_URL", "http://localhost:8002")], true),
        (vec![("PUBLIC_URL", "https://gate.example.com")], false),
    ] {
        let gate = Gate::with(&settings);
        let alice = gate.sign_up("alice");
        for host in ["localhost", "LOCALHOST:3000"] {
            let reply = register(&gate, &alice, &json!({"host": host, "type": "free"}));
            assert_eq!(reply.status, if is_allowed { 201 } else { 400 }, "{settings:?} {}", reply.text());
        }
        for host in ["127.0.0.1", "[::1]:3000", "intranet"] {
            register(&gate, &alice, &json!({"host": host, "type": "free"})).refused(400, "invalid_field");
        }
    }
}

#[test]
fn domain__invalid_member_is_named() {
    let gate = Gate::start();
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, "shop.example.com");
    let mut cases = vec![
        (json!({"type": "free"}), "host"),
        (json!({"host": "a.example.com"}), "type"),
        (json!({"host": "a.example.com", "type": "free", "userId": 1}), "userId"),
        (json!({"host": "a.example.com", "type": "free", "clientSecret": "gbs_x"}), "clientSecret"),
        (json!({"host": "a.example.com", "plan": "free"}), "plan"),
    ];
    for wrong in [json!(null), json!(0), json!(true), json!(["a.example.com"]), json!({"$ne": null})] {
        cases.push((json!({"host": wrong, "type": "free"}), "host"));
    }
    let plans = ["enterprise", "", "Free", "FREE", " free", "free\0", "premium "];
    let wrong = [json!(null), json!(0), json!(true), json!(["free"]), json!({"free": null}), json!({})];
    for plan in plans.iter().map(|plan| json!(plan)).chain(wrong) {
        cases.push((json!({"host": "a.example.com", "type": plan}), "type"));
        let body = json!({ "type": plan });
        let refusal = gate.patch(&path(&domain)).token(&alice.token).json(&body).send().refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!("type"), "{body}");
    }
    for (body, field) in &cases {
        let refusal = register(&gate, &alice, body).refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!(field), "{body}");
    }
    for (body, field) in [(json!({}), "type"), (json!({"type": "premium", "host": "b.example.com"}), "host")] {
        let refusal = gate.patch(&path(&domain)).token(&alice.token).json(&body).send().refused(400, "invalid_field");
        assert_eq!(refusal["field"], json!(field), "{body}");
    }
    let view = gate.get(&path(&domain)).token(&alice.token).send().expect(200);
    assert_eq!((&view["payload"]["type"], &view["payload"]["host"]), (&json!("free"), &json!("shop.example.com")));
    assert_eq!(row_counts(&gate)[1], 1);
}

#[test]
fn host__unique_per_user() {
    let gate = Gate::start();
    let (alice, bob) = (gate.sign_up("alice"), gate.sign_up("bob"));
    let first = gate.register(&alice, "bücher.example");
    for same in [
        "bücher.example",
        "BÜCHER.example",
        "xn--bcher-kva.example",
        "bu\u{308}cher.example",
        "bücher.example:443",
        "XN--bcher-kva.example:443",
    ] {
        let refusal = register(&gate, &alice, &json!({"host": same, "type": "premium"})).refused(409, "taken");
        assert_eq!(refusal["field"], json!("host"), "{same}");
    }
    for other in ["bücher.example:8443", "www.bücher.example"] {
        gate.register(&alice, other);
    }
    let bobs = gate.register(&bob, "bücher.example");
    assert_ne!((&bobs.id, &bobs.secret), (&first.id, &first.secret));
    exchange(&gate, &first).expect(200);
    exchange(&gate, &bobs).expect(200);
    // The deletion of one domain does not affect the other.
    gate.delete(&path(&bobs)).token(&bob.token).send().expect(200);
    exchange(&gate, &first).expect(200);
}

#[test]
fn domain__of_another_tenant_is_not_found() {
    let gate = Gate::start();
    let (alice, mallory) = (gate.sign_up("alice"), gate.sign_up("mallory"));
    let domain = gate.register(&alice, "shop.example.com");
    let before = gate.get(&path(&domain)).token(&alice.token).send().expect(200);
    let unknown = "dom_0123456789ABCDEFGHIJkl";
    let body = json!({"type": "premium"});
    let malformed =
        ["x", "dom_", "1", "dom_0123456789ABCDEFGHIJk%2A", "dom_0123456789ABCDEFGHIJklm", "%00", "%FF", "..%2F", "*"];
    for method in ["GET", "PATCH", "DELETE"] {
        let send = |id: &str| {
            let request = gate.request(method, &format!("/v1/domains/{id}")).token(&mallory.token);
            if method == "PATCH" { request.json(&body).send() } else { request.send() }
        };
        let refusal = send(unknown);
        refusal.refused(404, "not_found");
        let foreign = send(&domain.id);
        assert_eq!(comparable(&foreign), comparable(&refusal), "{method}");
        for id in malformed {
            let reply = send(id);
            reply.refused(404, "not_found");
        }
        send(&domain.id.to_uppercase()).refused(404, "not_found");
    }
    assert_eq!(gate.get(&path(&domain)).token(&alice.token).send().expect(200), before);
    exchange(&gate, &domain).expect(200);
}

#[test]
fn domain__deleted_or_suspended_is_refused_at_once() {
    let gate = Gate::start();
    let (alice, domain, token) = gate.tenant("alice");
    let other = gate.register(&alice, "other.example.com");
    let others = gate.access_token(&other);
    let unknown = Domain { id: String::new(), secret: ClientSecret::random().reveal().to_owned() };
    let unknown = comparable(&exchange(&gate, &unknown));

    set_suspended(&gate, &domain.id, true);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    exchange(&gate, &domain).refused(401, "suspended");
    let view = gate.get(&path(&domain)).token(&alice.token).send().expect(200);
    assert_eq!(view["payload"]["suspended"], json!(true), "the owner sees why");

    set_suspended(&gate, &domain.id, false);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    let fresh = gate.access_token(&domain);
    gate.get("/v1/test").token(&fresh).send().expect(200);

    gate.delete(&path(&domain)).token(&alice.token).send().expect(200);
    for token in [&token, &fresh] {
        gate.get("/v1/test").token(token).send().refused(401, "revoked");
    }
    assert_eq!(comparable(&exchange(&gate, &domain)), unknown);
    gate.get("/v1/test").token(&others).send().expect(200);
    gate.get("/v1/test").token(&alice.token).send().expect(200);
    assert_eq!(row_counts(&gate)[1..3], [1, 1], "the secret went with its domain");
}

#[test]
fn domain_suspension__survives_a_restart() {
    let database = Arc::new(Database::new());
    let gate = Gate::on(Arc::clone(&database), &[]);
    let (_, domain, token) = gate.tenant("alice");
    set_suspended(&gate, &domain.id, true);
    drop(gate);
    wait_for_file(&database);
    let gate = Gate::on(database, &[]);
    gate.get("/v1/test").token(&token).send().refused(401, "revoked");
    exchange(&gate, &domain).refused(401, "suspended");
}

/// The next server can lock the SQLite file as soon as the last thread of this one has released it.
fn wait_for_file(database: &Database) {
    let lock = database.dir.path().join("data/gatebird.db.lock");
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_held = || File::open(&lock).is_ok_and(|file| file.try_lock().is_err());
    while is_held() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn domain_list__in_order_of_registration() {
    let gate = Gate::start();
    let user = gate.sign_up("alice");
    let hosts: Vec<String> = (0..12).map(|number| format!("host{}.example.com", number * 7 % 12)).collect();
    let ids: Vec<String> = hosts.iter().map(|host| gate.register(&user, host).id).collect();
    let path = format!("/v1/domains/{}", ids[3]);
    gate.patch(&path).token(&user.token).json(&json!({"type": "premium"})).send().expect(200);
    let listed = gate.get("/v1/domains").token(&user.token).send().expect(200);
    let listed = listed["payload"].as_array().expect("a list").iter().map(|domain| domain["host"].clone());
    assert_eq!(listed.collect::<Vec<_>>(), hosts);
}
