//! No secret is disclosed: requests full of canaries, and then a search in everything that was written.

use std::fs;
use std::path::Path;

use super::with_metrics;
use crate::binary::{Child, PROMISED, gatebird, run, text, within};
use crate::harness::{Database, JWT_SECRET, json, needs_postgres};

/// Every file below that folder.
pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![(path.display().to_string(), fs::read(&path).expect("readable"))],
        })
        .collect()
}

#[track_caller]
pub fn assert_absent(canaries: &[(&str, String)], place: &str, bytes: &[u8]) {
    for (what, canary) in canaries {
        let found = bytes.windows(canary.len()).position(|window| window.eq_ignore_ascii_case(canary.as_bytes()));
        if let Some(at) = found {
            let around = String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 60).min(bytes.len())]);
            panic!("{what} stands in {place}: {around}");
        }
    }
}

#[test]
fn secrecy__no_secret_in_logs_metrics_or_files() {
    let database = Database::new();
    let settings = [("RUST_LOG", "trace"), ("ACCESS_LOG", "all")];
    let (child, metrics) = with_metrics(&database, &settings);
    let client = &child.client;
    let (password, second, wrong) = ("c4nary-Pq7 vortex", "c4nary-Zr9 vortex", "c4nary-Wx2 wrong");
    let headers = |authorization: &str| [("Authorization", authorization.to_owned())];
    let call = |method: &str, path: &str, headers: &[(&str, String)], kind: &str, body: &str| {
        let mut all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.push(("Content-Type", kind));
        client.send(method, path, &all, body).expect("an answer")
    };

    // Correct secrets, once through everything.
    let body = json!({"username": "alice", "password": password});
    let user = text(&client.post("/v1/signup", "", body).expect(201)["token"]);
    let body = json!({"host": "shop.example.com", "type": "free"});
    let domain = client.post("/v1/domains", &user, body).expect(201);
    let (id, secret) = (text(&domain["payload"]["id"]), text(&domain["payload"]["clientSecret"]));
    let token = text(&client.exchange(&secret).expect(200)["token"]);
    client.get("/v1/test", &token).expect(200);
    let body = json!({"oldPassword": password, "newPassword": second});
    client.call("PUT", "/v1/me/password", &user, &body).expect(200);
    let again = text(&client.sign_in("alice", second).expect(200)["token"]);
    run(&mut gatebird(&database, &["user", "add", "bob"], &[]), password).good();
    let rotated = run(&mut gatebird(&database, &["domain", "rotate", &id, "--json"], &[]), "").json();
    let rotated = text(&rotated["clientSecret"]);
    within(PROMISED, "the new secret works", || client.exchange(&rotated).status == 200);

    // Wrong secrets, correct ones in wrong places, and malformed requests.
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{id}:{secret}"));
    let basic_wrong = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{id}:{wrong}"));
    let form = "application/x-www-form-urlencoded";
    let grant = "grant_type=client_credentials";
    let everywhere = [&secret, &rotated, &token, &user, &again];
    client.sign_in("alice", wrong).refused(401, "credentials");
    client.sign_in("nobody", wrong).refused(401, "credentials");
    client.post("/v1/signup", "", json!({"username": "carol", "password": "c4nary1"}));
    client.post("/v1/signup", "", json!({"username": wrong, "password": password}));
    client.post("/v1/signup", "", json!({"username": "alice", "password": password, wrong: wrong}));
    client.post("/v1/posts", &again, json!({"content": 1, "img": wrong}));
    call("POST", "/token", &headers(&format!("Basic {basic}")), form, grant);
    call("POST", "/token", &headers(&format!("Basic {basic_wrong}")), form, grant);
    call("POST", "/token", &[], form, &format!("{grant}&client_id={id}&client_secret={secret}"));
    call("POST", "/token", &[], form, &format!("{grant}&client_id={id}&client_secret=c4nary-Wx2"));
    call("POST", "/token", &[], form, &format!("{grant}&scope=c4nary-Wx2&client_id={id}&client_secret={secret}"));
    call("POST", "/token", &[], "application/json", &format!("{{\"clientSecret\": \"{secret}\""));
    call("POST", "/v1/signin", &[], "application/json", &format!("{{\"username\": \"alice\", \"password\": {wrong}}}"));
    call("POST", "/v1/signin", &[], "text/plain", wrong);
    call("GET", "/v1/signin?username=alice&password=c4nary-Wx2", &[], form, "");
    call("POST", "/nowhere?password=c4nary-Wx2", &[], form, "password=c4nary-Wx2");
    for value in everywhere {
        client.exchange(value);
        client.exchange(&format!("{value}x"));
        client.get("/v1/test", &format!("{value}x"));
        for path in ["/{}", "/v1/posts/{}", "/v1/domains/{}", "/v1/posts/hashtag/{}", "/a-{}-b", "/v1/test/{}/x"] {
            client.get(&path.replace("{}", value), &token);
        }
        for path in
            ["/token?clientSecret={}", "/v1/test?access_token={}", "/nowhere?token={}#{}", "/v1/posts/my?cursor={}"]
        {
            client.get(&path.replace("{}", value), &again);
        }
        for scheme in ["", "Bearer ", "bearer ", "Basic ", "Token ", "Digest "] {
            call("GET", "/v1/test", &headers(&format!("{scheme}{value}")), form, "");
            call("BREW", "/v1/me", &headers(&format!("{scheme}{value}")), form, value);
        }
        call("GET", "/v1/test", &[("Cookie", format!("token={value}")), ("X-Api-Key", value.clone())], form, "");
        call("GET", "/healthz", &[("X-Request-Id", value.clone()), ("Accept-Language", value.clone())], form, "");
        call("PUT", "/v1/me/password", &[], value, value);
        super::send_raw(&child, &format!("{value}\r\n\r\n"));
        super::send_raw(&child, &format!("GET /{value} HTTP/9.9\r\nAuthorization: {value}\r\n\r\n"));
        super::send_raw(&child, &format!("GET / HTTP/1.1\r\nAuthorization {value}\r\nContent-Length: {value}\r\n\r\n"));
    }
    client.call("DELETE", "/v1/me", &again, &json!({"password": wrong})).refused(403, "credentials");

    // The random parts, which a mask would have to hide.
    let tail = |token: &str| token.rsplit('.').next().expect("a signature").to_owned();
    let canaries = [
        ("a password", "c4nary".to_owned()),
        ("a secret", secret[4..].to_owned()),
        ("a rotated secret", rotated[4..].to_owned()),
        ("Basic credentials", basic[basic.len() / 2..].to_owned()),
        ("an access token", tail(&token)),
        ("a user token", tail(&user)),
        ("another user token", tail(&again)),
        ("JWT_SECRET", JWT_SECRET.to_owned()),
    ];
    client.send("GET", "/v1/test", &[("X-Request-Id", "the-last")], "").expect("an answer");
    within(PROMISED, "the log is written", || child.stdout().contains("the-last"));
    assert_absent(&canaries, "the metrics", metrics.get("/metrics", "").text().as_bytes());
    for file in ["cmdline", "comm", "status"] {
        assert_absent(&canaries, file, &fs::read(format!("/proc/{}/{file}", child.pid())).expect("it runs"));
    }
    for (name, bytes) in files(database.dir.path()) {
        assert_absent(&canaries, &name, &bytes);
    }
    assert!(!child.stderr().is_empty(), "the log is empty");
    crate::binary::signal("TERM", child.pid());
    let outcome = child.wait(std::time::Duration::from_secs(10));
    for (name, text) in [("the access log", outcome.stdout), ("the log", outcome.stderr)] {
        assert_absent(&canaries, name, text.as_bytes());
    }
}

#[test]
fn secrecy__database_password_is_not_shown() {
    if needs_postgres().is_none() {
        return;
    }
    // A server that trusts local connections accepts any password.
    let database = Database::new();
    let url = database.url.replacen("root@", "root:c4nary@", 1);
    assert!(url.contains("c4nary"), "{url}");
    let child = Child::start(&database, &[("DATABASE_URL", &url), ("RUST_LOG", "trace"), ("ACCESS_LOG", "all")]);
    child.client.tenant("alice");
    let canaries = [("the database's password", "c4nary".to_owned())];
    assert_absent(&canaries, "the greeting and the access log", child.stdout().as_bytes());
    assert_absent(&canaries, "the log", child.stderr().as_bytes());
}
