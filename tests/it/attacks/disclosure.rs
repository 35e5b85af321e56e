//! What answers and metrics reveal: no text of the request, no undocumented route, no detail of a database fault, and
//! no series for each path or host.

use super::{assert_no_server_error, assert_refusal_format};
use crate::harness::{Database, Gate, Reply, Request};
use crate::http::keep_alive::KeepAlive;
use crate::matrix::{Cast, expired_copy};
use crate::oauth::out_of_reach;
use crate::openapi::Document;
use crate::operations::{series, with_metrics};

/// Whether the text occurs in an answer.
fn shows(reply: &Reply, canary: &str) -> bool {
    let headers: String = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    (headers + &reply.text()).to_lowercase().contains(&canary.to_lowercase())
}

#[test]
fn disclosure__refusals_do_not_echo_the_request() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let cast = Cast::new(&gate, 0);
    let expired = expired_copy(&cast.client);
    let tail = expired.rsplit('.').next().expect("a signature").to_owned();
    let canary = "CanaryPq7Zr9";
    let basic = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{canary}:{canary}"));
    for (operation, _) in document.operations() {
        let (method, path) = operation.split_once(' ').expect("two words");
        let path = path.replace("{id}", canary).replace("{secretId}", canary).replace("{title}", canary);
        let path = format!("{path}?token={canary}&limit={canary}&access_token={canary}");
        for authorization in [
            format!("Bearer {canary}"),
            format!("Bearer {canary}.{canary}.{canary}"),
            canary.to_owned(),
            format!("Basic {basic}"),
            format!("Digest username={canary}"),
            format!("Bearer {expired}"),
        ] {
            for method in [method, "TRACE", "OPTIONS", "BOGUS"] {
                for body in ["", "\"CanaryPq7Zr9\"", "{\"clientSecret\":\"CanaryPq7Zr9\",\"host\":\"CanaryPq7Zr9\"}"] {
                    let request = gate.request(method, &path).header("Authorization", &authorization);
                    let request =
                        request.header("Cookie", canary).header("Referer", canary).header("User-Agent", canary);
                    let request = if body.is_empty() { request } else { request.body("application/json", body) };
                    let reply = request.send();
                    let what = format!("{method} {path} {authorization}");
                    assert_no_server_error(&what, &reply);
                    for secret in [canary, &tail, &basic] {
                        assert!(!shows(&reply, secret), "{what}: {reply:?}");
                    }
                }
            }
        }
    }
    gate.get("/v1/test").token(&cast.client).send().expect(200);
}

/// Paths that frameworks, proxies and careless operators leave open.
const DOORS: &[&str] = &[
    "/debug",
    "/debug/pprof/",
    "/debug/pprof/heap",
    "/debug/vars",
    "/debug/requests",
    "/actuator",
    "/actuator/env",
    "/actuator/heapdump",
    "/actuator/threaddump",
    "/server-status",
    "/server-info",
    "/status",
    "/info",
    "/version",
    "/health",
    "/env",
    "/config",
    "/trace",
    "/dump",
    "/heapdump",
    "/console",
    "/shutdown",
    "/reload",
    "/admin",
    "/admin/",
    "/v1/admin",
    "/internal",
    "/setup",
    "/install",
    "/metrics",
    "/metrics/",
    "/v1/metrics",
    "/prometheus",
    "/graphql",
    "/swagger",
    "/swagger.json",
    "/openapi.yaml",
    "/v1/openapi.json",
    "/phpinfo.php",
    "/.env",
    "/.git/config",
    "/.git/HEAD",
    "/data/gatebird.db",
    "/gatebird.db",
    "/gatebird.db-wal",
    "/jwt_secret",
    "/data/jwt_secret",
    "/backup",
    "/Cargo.toml",
    "/proc/self/environ",
    "/v1/audit/verify",
    "/v1/audit/export",
    "/v1/keys",
    "/keys",
    "/v1/users",
    "/v1/secrets",
];

#[test]
fn disclosure__undocumented_paths_are_not_found() {
    let gate = Gate::with(&[("RUST_LOG", "trace")]);
    let cast = Cast::new(&gate, 0);
    for path in DOORS {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "BOGUS"] {
            for token in [None, Some(&cast.user.token), Some(&cast.client)] {
                let request = gate.request(method, path).header("X-Debug", "1").header("X-Forwarded-For", "127.0.0.1");
                let reply = token.into_iter().fold(request, Request::token).send();
                reply.refused(404, "not_found");
                for header in ["server", "x-powered-by", "via", "x-debug-token", "x-runtime", "x-backend", "etag"] {
                    assert!(reply.header(header).is_none(), "{method} {path}: {reply:?}");
                }
                assert!(!reply.text().contains(env!("CARGO_PKG_VERSION")), "{method} {path}: {}", reply.text());
            }
        }
    }
}

/// Half of the tables are missing, as after a failed repair. Only the operator's log says what the fault is.
#[test]
fn disclosure__database_fault_shows_no_detail() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let cast = Cast::new(&gate, 0);
    out_of_reach(&gate);
    let mut faults = 0;
    // Readiness has a body of its own.
    for (number, (operation, _)) in document.operations().filter(|(name, _)| name != "GET /readyz").enumerate() {
        for token in [None, Some(&cast.user.token), Some(&cast.client)] {
            let request = cast.request(&gate, &operation, number + 1000);
            let reply = token.into_iter().fold(request, Request::token).send();
            assert_refusal_format(&operation, &reply);
            match reply.status {
                500 => assert_eq!(reply.refused(500, "internal")["error"], "server_error", "{operation}"),
                503 => assert_eq!(reply.refused(503, "busy")["error"], "temporarily_unavailable", "{operation}"),
                status => assert!(status < 500, "{operation}: {}", reply.text()),
            }
            faults += usize::from(reply.status >= 500);
        }
    }
    assert!(faults >= 15, "{faults}: the fault was not injected");
    gate.get("/v1/test").token(&cast.client).send().expect(200);
}

#[test]
fn metrics__series_stay_bounded_under_100_000_paths() {
    let database = Database::new();
    let (child, metrics) = with_metrics(&database, &[]);
    let mut connection = KeepAlive::to(&child.client.url);
    let head = |number: &u32| {
        // A different path each time, without a pattern that a router knows.
        let random = number.wrapping_mul(2_654_435_761);
        let path = match number % 5 {
            0 => format!("/{random:x}"),
            1 => format!("/v1/{random:x}/{number}"),
            2 => format!("/v1/posts/{random}"),
            3 => format!("/v1/domains/dom_{random:x}/usage?{random}"),
            _ => format!("/v1/posts/hashtag/{random:x}"),
        };
        let method = if number.is_multiple_of(7) { format!("M{random:X}") } else { "GET".to_owned() };
        format!("{method} {path} HTTP/1.1\r\nHost: h{random:x}.example.com\r\nX-Forwarded-Host: {random}.org\r\n")
    };
    let numbers: Vec<u32> = (1..=100_000).collect();
    for part in numbers.chunks(200) {
        let heads: Vec<String> = part.iter().map(head).collect();
        for (head, reply) in heads.iter().zip(connection.ask_all(&heads)) {
            assert!([401, 404, 405].contains(&reply.status), "{head}: {} {}", reply.status, reply.text());
        }
    }
    let text = metrics.get("/metrics", "").text();
    let series = series(&text);
    assert!(series.len() <= 2000, "{}", series.len());
    let asked: Vec<&str> =
        series.iter().flat_map(|series| series.split('"')).filter(|part| part.contains("example.com")).collect();
    assert_eq!(asked, Vec::<&str>::new());
    assert!(text.contains("route=\"unmatched\""), "{text}");
    child.client.tenant("alice");
}
