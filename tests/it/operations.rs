//! What an operator sees: health, readiness, metrics and the access log.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::binary::{Child, Client, PROMISED, free_port, gatebird, run, within};
use crate::harness::{Database, PASSWORD, Value, json};

mod drain;
pub mod secrecy;
mod volume;

/// A binary with `/metrics`, and a client for them.
pub fn with_metrics(database: &Database, settings: &[(&str, &str)]) -> (Child, Client) {
    let address = format!("127.0.0.1:{}", free_port());
    let settings = [&[("METRICS_ADDR", &*address)], settings].concat();
    (Child::start(database, &settings), Client::new(&format!("http://{address}")))
}

/// The value of the sample with that name and all those labels.
#[track_caller]
fn sample(text: &str, name: &str, labels: &[&str]) -> f64 {
    let found = |line: &&str| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && labels.iter().all(|label| line.contains(label))
    };
    let mut lines = text.lines().filter(found);
    let line = lines.next().unwrap_or_else(|| panic!("no {name} {labels:?} in {text}"));
    assert!(lines.next().is_none(), "several {name} {labels:?} in {text}");
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

#[test]
fn health_and_readiness__running_server() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let client = &child.client;
    assert_eq!(client.get("/healthz", "").expect(200)["code"], json!(200));
    client.tenant("alice");
    let ready = client.get("/readyz", "").expect(200);
    assert_eq!(ready["code"], json!(200));
    let checks = ready["payload"].as_object().expect("an object");
    let names: Vec<&str> = checks.keys().map(String::as_str).collect();
    assert_eq!(names, ["database", "directoryAgeSeconds", "domains", "draining"]);
    assert_eq!((&checks["draining"], &checks["database"]), (&json!(false), &json!("up")));
    assert!(checks["directoryAgeSeconds"].as_u64().is_some_and(|age| age < 5), "{ready}");
    assert_eq!(checks["domains"], json!(1));
    // An invalid token is ignored here.
    client.get("/readyz", "garbage").expect(200);
}

#[test]
fn metrics__on_their_own_port_only() {
    let database = Database::new();
    let (child, metrics) = with_metrics(&database, &[]);
    assert!(child.stdout().contains(&format!("{}/metrics", metrics.url)), "{}", child.stdout());
    child.client.get("/metrics", "").refused(404, "not_found");
    child.client.get("/v1/metrics", "").refused(404, "not_found");
    let reply = metrics.get("/metrics", "");
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{reply:?}");
    for path in ["/", "/healthz", "/v1/test", "/token", "/openapi.json"] {
        assert_eq!(metrics.get(path, "").status, 404, "{path}: the API is not served on this port");
    }
}

#[test]
fn metrics__count_requests_and_refusals() {
    let database = Database::new();
    let (child, metrics) = with_metrics(&database, &[]);
    let client = &child.client;
    let (user, domain, token) = client.tenant("alice");
    for _ in 0..3 {
        client.exchange(&domain.secret).expect(200);
        client.get("/v1/test", &token).expect(200);
    }
    client.get("/v1/test", "").refused(401, "missing");
    client.get("/v1/test", "garbage").refused(401, "invalid");
    client.get("/v1/me", &token).refused(403, "kind");
    client.get(&format!("/v1/domains/{}", domain.id), &user.token).expect(200);
    client.sign_in("alice", "wrong password").refused(401, "credentials");

    let text = metrics.get("/metrics", "").text();
    let value = |name: &str, labels: &[&str]| sample(&text, name, labels);
    let requests = |method: &str, route: &str, status: u16| {
        let labels = [format!("method=\"{method}\""), format!("route=\"{route}\""), format!("status=\"{status}\"")];
        value("gatebird_requests_total", &labels.each_ref().map(String::as_str))
    };
    assert_eq!(requests("POST", "/v1/signup", 201), 1.0);
    assert_eq!(requests("POST", "/token", 200), 4.0);
    assert_eq!(requests("GET", "/v1/test", 200), 3.0);
    assert_eq!(requests("GET", "/v1/test", 401), 2.0);
    assert_eq!(requests("GET", "/v1/domains/{id}", 200), 1.0, "by pattern, not by path");
    assert_eq!(value("gatebird_latency_seconds_count", &["route=\"/v1/test\""]), 5.0);
    assert_eq!(value("gatebird_tokens_issued_total", &[]), 4.0);
    for reason in ["missing", "invalid", "kind", "credentials"] {
        assert_eq!(value("gatebird_refusals_total", &[&format!("reason=\"{reason}\"")]), 1.0, "{reason}");
    }
    assert_eq!(value("gatebird_domains", &[]), 1.0);
    assert!((0.0..5.0).contains(&value("gatebird_directory_age_seconds", &[])));
    assert!(value("gatebird_database_connections_open", &[]) >= 1.0);
    value("gatebird_database_connections_used", &[]);
    assert_eq!(value("gatebird_dropped_log_lines", &[]), 0.0);
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
}

/// Names and labels without values.
pub fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

#[test]
fn metrics__callers_cannot_create_series() {
    let database = Database::new();
    let (child, metrics) = with_metrics(&database, &[]);
    let client = &child.client;
    let (_, _, token) = client.tenant("alice");
    let probe = |number: u32| {
        client.get(&format!("/random/{number}/{}", "x".repeat(number as usize % 50)), "");
        client.get(&format!("/v1/domains/dom_{number}"), &token);
        client.get(&format!("/v1/posts/hashtag/t{number}"), &token);
        client.get(&format!("/v1/test?q{number}={number}"), &format!("{number}"));
        client.call(&format!("M{number}"), "/v1/test", "", &Value::Null);
        let headers = [("Accept-Language", &*format!("x{number}")), ("X-Request-Id", &*format!("id{number}"))];
        client.send("GET", "/healthz", &headers, "").expect("an answer");
    };
    probe(0);
    let before = series(&metrics.get("/metrics", "").text());
    (1..200).for_each(probe);
    let after = series(&metrics.get("/metrics", "").text());
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The lines of the access log so far.
pub fn access_lines(child: &Child) -> Vec<Value> {
    let text = child.stdout();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn access_log__lines_by_setting() {
    for (setting, expected) in [("all", &["a1", "a2", "a3", "a4"][..]), ("errors", &["a2", "a3", "a4"]), ("off", &[])] {
        let database = Database::new();
        let child = Child::start(&database, &[("ACCESS_LOG", setting)]);
        for (path, id) in [("/healthz", "a1"), ("/v1/test", "a2"), ("/nowhere?q=1", "a3"), ("/token", "a4")] {
            child.client.send("GET", path, &[("X-Request-Id", id)], "").expect("an answer");
        }
        within(PROMISED, "the lines are written", || access_lines(&child).len() >= expected.len());
        // No further line can follow, because the process has ended.
        crate::binary::signal("INT", child.pid());
        let outcome = child.wait(Duration::from_secs(10));
        let lines: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with('{')).collect();
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let ids: Vec<_> = lines.iter().map(|line| line["requestId"].as_str().expect("a string")).collect();
        assert_eq!(ids, expected, "{setting}");
        let Some(line) = lines.iter().find(|line| line["requestId"] == "a2") else { continue };
        assert_eq!(
            (&line["method"], &line["route"], &line["status"]),
            (&json!("GET"), &json!("/v1/test"), &json!(401))
        );
        assert_eq!(line["client"], json!("127.0.0.1"));
        assert!(line["ms"].is_number() && line["time"].is_number(), "{line}");
        let line = &lines[lines.len() - 2];
        assert_eq!((&line["route"], &line["path"]), (&json!("unmatched"), &json!("/nowhere")), "{line}");
    }
}

#[test]
fn access_log__callers_cannot_inject_lines() {
    let database = Database::new();
    let child = Child::start(&database, &[("ACCESS_LOG", "all"), ("RUST_LOG", "debug")]);
    let forged = "x\",\"status\":200,\"requestId\":\"forged";
    let paths = ["/a%0d%0a{\"forged\":1}", "/a%22,%22forged%22:1", "/%e2%80%a8forged", "/%00", "/%ff", "/\\forged\""];
    for (number, path) in paths.iter().enumerate() {
        let headers = [("X-Request-Id", forged), ("X-Forwarded-For", forged), ("User-Agent", forged)];
        let number = number.to_string();
        let headers = [&headers[..], &[("X-Probe", &*number)]].concat();
        // Paths that are not valid HTTP are sent raw below.
        drop(raw(&child, path, &headers));
    }
    // A bare line feed in a header, and folded headers.
    for head in ["X-Request-Id: a\n{\"forged\":1}", "X-Request-Id: a\r\n {\"forged\":1}", "X-Request-Id: a\rb\0c"] {
        send_raw(&child, &format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{head}\r\nConnection: close\r\n\r\n"));
    }
    child.client.send("GET", "/v1/test", &[("X-Request-Id", "the-last")], "").expect("an answer");
    within(PROMISED, "the last line", || access_lines(&child).iter().any(|line| line["requestId"] == "the-last"));
    let greeting = 7;
    for line in child.stdout().lines().filter(|line| !line.is_empty()).skip(greeting).chain(child.stderr().lines()) {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event.get("forged").is_none() && event["requestId"] != json!("forged"), "{line}");
    }
    for line in access_lines(&child) {
        let id = line["requestId"].as_str().expect("a string");
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{line}");
        assert_eq!(line["client"], json!("127.0.0.1"), "no proxy is trusted: {line}");
    }
}

/// Sends a request with a target that no client library would send.
fn raw(child: &Child, target: &str, headers: &[(&str, &str)]) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    send_raw(child, &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n"))
}

/// Sends these bytes and reads until the server closes.
pub fn send_raw(child: &Child, request: &str) -> String {
    use std::io::{Read, Write};
    let address = child.client.url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn access_log__stalled_reader_blocks_no_request() {
    let database = Database::new();
    let address = format!("127.0.0.1:{}", free_port());
    let settings = [("METRICS_ADDR", &*address), ("ACCESS_LOG", "all"), ("RUST_LOG", "trace")];
    let mut child = Child::start_unread(&database, &settings);
    let (_, _, token) = child.client.tenant("alice");
    let flood = |requests: usize| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let client = Client::new(&child.client.url);
                let token = &token;
                scope.spawn(move || {
                    for _ in 0..requests / 4 {
                        assert_eq!(client.get("/v1/test", token).status, 200);
                    }
                });
            }
        });
    };
    flood(10_000);
    let text = Client::new(&format!("http://{address}")).get("/metrics", "").text();
    assert!(sample(&text, "gatebird_dropped_log_lines", &[]) > 1000.0, "dropped lines are counted: {text}");
    child.close_stdout();
    for _ in 0..100 {
        child.client.get("/v1/test", &token).expect(200);
    }
    // The end of the process does not wait for readers either.
    crate::binary::signal("TERM", child.pid());
    within(Duration::from_secs(10), "it ends", || !child.is_running());
    assert_eq!(child.wait(Duration::from_secs(1)).code, Some(0));
}

#[test]
fn command_line__beside_a_running_server() {
    let database = Database::new();
    let child = Child::start(&database, &[]);
    let (user, _, _) = child.client.tenant("alice");
    // Commands open the database beside the server, while it writes.
    std::thread::scope(|scope| {
        for number in 0..4 {
            let database = &database;
            scope.spawn(move || {
                let name = format!("user{number}");
                run(&mut gatebird(database, &["user", "add", &name], &[]), PASSWORD).good();
                run(&mut gatebird(database, &["migrate"], &[]), "").good();
            });
        }
        for number in 0..50 {
            let body = json!({"content": format!("post {number}")});
            child.client.post("/v1/posts", &user.token, body).expect(201);
        }
    });
    let users = run(&mut gatebird(&database, &["user", "list", "--json"], &[]), "").json();
    assert_eq!(users.as_array().map(Vec::len), Some(5));
}
