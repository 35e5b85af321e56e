//! The end of an API version: announced from one date on, gone from another. Paths without a version continue.

use std::collections::BTreeSet;

use crate::harness::{Domain, Gate, Reply, Request, json};
use crate::matrix::Cast;
use crate::openapi::Document;

const DEPRECATED: (&str, i64) = ("2970-01-01", 31_556_995_200);
const SUNSET: (&str, i64) = ("2970-07-01", 31_572_633_600);
const DEPRECATION_HEADER: &str = "@31556995200";
const SUNSET_HEADER: &str = "Sun, 01 Jul 2970 00:00:00 GMT";

/// `Deprecation`, `Sunset`, and the relations of `Link` in an answer.
fn version_headers(reply: &Reply) -> (Option<&str>, Option<&str>, Vec<String>) {
    let headers = reply.headers.iter().filter(|(name, _)| ["deprecation", "sunset"].contains(&name.as_str()));
    assert!(headers.count() <= 2, "{reply:?}");
    let links = reply.headers.iter().filter(|(name, _)| name == "link").map(|(_, value)| {
        let relation = value.strip_prefix("<https://docs.example.com/v1?a=b#end>; rel=\"");
        let relation = relation.and_then(|rest| rest.strip_suffix("\"; type=\"text/html\""));
        relation.unwrap_or_else(|| panic!("another link: {value}")).to_owned()
    });
    (reply.header("deprecation"), reply.header("sunset"), links.collect())
}

fn gate(settings: &[(&str, &str)]) -> Gate {
    let docs = ("API_V1_DOCS", "https://docs.example.com/v1?a=b#end");
    Gate::with(&settings.iter().copied().chain([docs]).collect::<Vec<_>>())
}

/// Moves the server's clock to that time.
fn set_clock(gate: &Gate, to: i64) {
    gate.clock.advance(to - gate.clock.now());
}

/// Requests under `/v1/` with their status, whether or not the path exists.
fn versioned(gate: &Gate, name: &str) -> Vec<(Request, u16)> {
    let (_, domain, token) = gate.tenant(name);
    let preflight = gate.request("OPTIONS", "/v1/test").header("Access-Control-Request-Method", "GET");
    vec![
        (gate.get("/v1/test").token(&token), 200),
        (gate.get("/v1/test").token("x"), 401),
        (gate.get("/v1/test"), 401),
        (gate.post("/v1/token").json(&json!({"clientSecret": domain.secret})), 200),
        (gate.post("/v1/token").json(&json!({"clientSecret": "x"})), 401),
        (gate.post("/v1/token").body("text/plain", "x"), 415),
        (gate.post("/v1/token").body("application/json", "x".repeat(17_000)), 413),
        (gate.post("/v1/posts").token(&token).json(&json!({"content": "x"})), 201),
        (gate.get("/v1/posts/1000000").token(&token), 404),
        (gate.get("/v1/nowhere"), 404),
        (gate.get("/v1/"), 404),
        (gate.delete("/v1/test"), 405),
        (gate.request("OPTIONS", "/v1/test"), 405),
        (gate.request("HEAD", "/v1/test"), 401),
        (gate.get("/%76%31/test").token(&token), 200),
        (preflight.header("Origin", format!("https://{name}.example.com")), 204),
    ]
}

/// Requests without a version.
fn unversioned(gate: &Gate, domain: &Domain) -> Vec<(Request, u16)> {
    let token = gate.access_token(domain);
    let form = format!("client_id={}&client_secret={}&token=x", domain.id, domain.secret);
    vec![
        (gate.post("/token").json(&json!({"clientSecret": domain.secret})), 200),
        (gate.post("/token").json(&json!({"clientSecret": "x"})), 401),
        (gate.post("/introspect").form(&form), 200),
        (gate.post("/revoke").form(&form), 200),
        (gate.get("/verify").token(&token), 200),
        (gate.get("/.well-known/jwks.json"), 200),
        (gate.get("/healthz"), 200),
        (gate.get("/openapi.json"), 200),
        (gate.get("/nowhere"), 404),
        (gate.get("/v1"), 404),
        (gate.get("/v10/test"), 404),
        (gate.get("/V1/test"), 404),
        (gate.get("//v1/test"), 404),
        (gate.get("/x/v1/test"), 404),
    ]
}

#[test]
fn api_version__no_dates_set() {
    let gate = gate(&[]);
    let (_, domain, _) = gate.tenant("alice");
    set_clock(&gate, SUNSET.1 + 1);
    for (request, status) in versioned(&gate, "bob").into_iter().chain(unversioned(&gate, &domain)) {
        let reply = request.send();
        assert_eq!((reply.status, version_headers(&reply)), (status, (None, None, vec![])), "{reply:?}");
    }
}

#[test]
fn api_version__deprecation_is_announced() {
    let dates = [("API_V1_DEPRECATED", DEPRECATED.0), ("API_V1_SUNSET", SUNSET.0)];
    let (both, first, second) = (&dates[..], &dates[..1], &dates[1..]);
    let day_before = DEPRECATED.1 - 60;
    let last_day = SUNSET.1 - 60;
    let (deprecation, sunset) = (Some(DEPRECATION_HEADER), Some(SUNSET_HEADER));
    for (settings, now, deprecation, sunset, links) in [
        (both, day_before, None, None, &[][..]),
        (both, DEPRECATED.1, deprecation, sunset, &["deprecation", "sunset"]),
        (both, last_day, deprecation, sunset, &["deprecation", "sunset"]),
        (first, day_before, None, None, &[]),
        (first, DEPRECATED.1, deprecation, None, &["deprecation"]),
        (first, SUNSET.1 + 1, deprecation, None, &["deprecation"]),
        (second, day_before, None, sunset, &["sunset"]),
        (second, last_day, None, sunset, &["sunset"]),
    ] {
        let gate = gate(settings);
        let (_, domain, _) = gate.tenant("alice");
        set_clock(&gate, now);
        for (request, status) in versioned(&gate, "bob") {
            let reply = request.send();
            let links: Vec<String> = links.iter().map(|relation| relation.to_string()).collect();
            assert_eq!(reply.status, status, "{reply:?}");
            assert_eq!(version_headers(&reply), (deprecation, sunset, links), "{settings:?} at {now}: {reply:?}");
        }
        for (request, status) in unversioned(&gate, &domain) {
            let reply = request.send();
            assert_eq!((reply.status, version_headers(&reply)), (status, (None, None, vec![])), "{reply:?}");
        }
    }
}

/// There is no link to a page that is not configured.
#[test]
fn api_version__no_link_without_a_page() {
    let gate = Gate::with(&[("API_V1_DEPRECATED", DEPRECATED.0), ("API_V1_SUNSET", SUNSET.0)]);
    set_clock(&gate, SUNSET.1 - 60);
    let reply = gate.get("/v1/test").send();
    assert_eq!(version_headers(&reply), (Some(DEPRECATION_HEADER), Some(SUNSET_HEADER), vec![]));
    set_clock(&gate, SUNSET.1);
    let gone = gate.get("/v1/test").send();
    let body = gone.refused(410, "sunset");
    assert_eq!(
        (version_headers(&gone).2, &body["message"]),
        (vec![], &json!("This version of the API has ended: use a later one"))
    );
}

#[test]
fn api_version__gone_after_its_sunset() {
    for settings in [
        &[("API_V1_DEPRECATED", DEPRECATED.0), ("API_V1_SUNSET", SUNSET.0)][..],
        &[("API_V1_SUNSET", SUNSET.0)],
        &[("API_V1_DEPRECATED", SUNSET.0), ("API_V1_SUNSET", SUNSET.0)],
    ] {
        let gate = gate(settings);
        set_clock(&gate, SUNSET.1 - 60);
        let cast = Cast::new(&gate, 0);
        let document = Document::of(&gate);
        gate.get("/v1/test").token(&cast.client).send().expect(200);
        set_clock(&gate, SUNSET.1);
        let domains = gate.app.directory.domain_count();
        let rows = crate::accounts::row_counts(&gate);
        let mut paths = BTreeSet::new();
        for (number, (name, _)) in document.operations().enumerate() {
            let (_, path) = name.split_once(' ').expect("a method and a path");
            if !path.starts_with("/v1/") {
                continue;
            }
            paths.insert(cast.fill(path, 0));
            for token in [Some(&cast.user.token), Some(&cast.client), None] {
                let request = cast.request(&gate, &name, number);
                let reply = token.into_iter().fold(request, Request::token).send();
                let body = reply.refused(410, "sunset");
                assert_eq!(body["error"], "gone", "{name}");
                assert_eq!(version_headers(&reply).1, Some(SUNSET_HEADER), "{name}");
                assert!(document.objections(&name, &reply).is_empty(), "{:?}", document.objections(&name, &reply));
            }
        }
        assert!(paths.len() > 8, "{paths:?}");
        for path in &paths {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BOGUS"] {
                gate.request(method, path).token(&cast.user.token).send().refused(410, "sunset");
            }
            assert_eq!(gate.request("HEAD", path).send().status, 410);
            // No other spelling of the path avoids it.
            gate.get(&path.replace("/v1/", "/%76%31/")).token(&cast.user.token).send().refused(410, "sunset");
            gate.get(&format!("{path}?x=1")).token(&cast.user.token).send().refused(410, "sunset");
        }
        gate.get("/v1/nowhere").token(&cast.user.token).send().refused(404, "not_found");
        assert_eq!((gate.app.directory.domain_count(), crate::accounts::row_counts(&gate)), (domains, rows));
        for (request, status) in unversioned(&gate, &cast.domain) {
            let reply = request.send();
            assert_eq!((reply.status, version_headers(&reply)), (status, (None, None, vec![])), "{reply:?}");
        }
    }
}

/// The page of a registered host can read the refusal, in its language.
#[test]
fn api_version__refusal_after_the_sunset_is_readable() {
    let gate = gate(&[("API_V1_SUNSET", SUNSET.0)]);
    let (_, _, token) = gate.tenant("alice");
    set_clock(&gate, SUNSET.1);
    let origin = "https://alice.example.com";
    let preflight = gate.request("OPTIONS", "/v1/test").header("Access-Control-Request-Method", "GET");
    assert_eq!(preflight.header("Origin", origin).send().status, 204);
    let reply = gate.get("/v1/test").token(&token).header("Origin", origin).header("Accept-Language", "ko").send();
    assert_eq!(reply.refused(410, "sunset")["message"], "이 버전의 API는 종료되었습니다. 다음 버전을 사용하세요");
    assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
    let exposed = reply.header("access-control-expose-headers").expect("Access-Control-Expose-Headers");
    assert!(["Deprecation", "Sunset", "Link"].iter().all(|name| exposed.contains(name)), "{exposed}");
}
