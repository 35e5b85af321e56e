//! Of two concurrent changes, the later one learns of the earlier: `ETag` and `If-Match`.

use crate::harness::{Gate, Reply, json};
use crate::matrix::Cast;
use crate::openapi::Document;

/// Methods, paths and bodies of conditional changes.
const CHANGES: &[(&str, &str, &str)] = &[
    ("PATCH", "/v1/domains/", r#"{"type":"premium"}"#),
    ("DELETE", "/v1/domains/", ""),
    ("PUT", "/v1/posts/", r#"{"content":"changed"}"#),
    ("DELETE", "/v1/posts/", ""),
];

fn tag(reply: &Reply) -> String {
    reply.header("etag").expect("a tag").to_owned()
}

#[test]
fn if_match__one_of_many_concurrent_changes_wins() {
    let gate = Gate::start();
    for (number, (method, path, body)) in CHANGES.iter().enumerate() {
        let (alice, domain, _) = gate.tenant(&format!("alice{number}"));
        let post = gate.post("/v1/posts").token(&alice.token).json(&json!({"content": "x"})).send().expect(201);
        let id = if path.contains("posts") { post["payload"]["id"].to_string() } else { domain.id };
        let path = format!("{path}{id}");
        let seen = tag(&gate.get(&path).token(&alice.token).send());
        let change = |tag: &str| {
            let request = gate.request(method, &path).token(&alice.token).header("If-Match", tag);
            if body.is_empty() { request.send() } else { request.body("application/json", *body).send() }
        };
        change("\"other\"").refused(412, "changed");
        change("").refused(412, "changed");
        let mut statuses: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10).map(|_| scope.spawn(|| change(&seen).status)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        statuses.sort_unstable();
        let lost = if *method == "DELETE" { 404 } else { 412 };
        assert_eq!(statuses, [vec![200], vec![lost; 9]].concat(), "{method} {path}");
        if *method != "DELETE" {
            let now = tag(&gate.get(&path).token(&alice.token).send());
            assert_ne!(now, seen, "{path}");
            // Entity tags are compared by the strong comparison (RFC 9110 §13.1.1).
            change(&format!("W/{now}")).refused(412, "changed");
            change(now.trim_matches('"')).refused(412, "changed");
            change(&format!("no tag, W/\"x\", {seen}, {now}")).expect(200);
            change("*").expect(200);
        }
    }
}

#[test]
fn if_match__optional() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let path = format!("/v1/domains/{}", domain.id);
    let changed = gate.patch(&path).token(&alice.token).json(&json!({"type": "premium"})).send();
    changed.expect(200);
    assert_eq!(
        tag(&changed),
        tag(&gate.get(&path).token(&alice.token).send()),
        "an answer to a change has the new tag"
    );
}

/// `If-Match` does not reveal another tenant's resource.
#[test]
fn if_match__resource_of_another_tenant_is_not_found() {
    let gate = Gate::start();
    let (alice, domain, _) = gate.tenant("alice");
    let mallory = gate.sign_up("mallory");
    let path = format!("/v1/domains/{}", domain.id);
    let seen = tag(&gate.get(&path).token(&alice.token).send());
    for tag in [seen.as_str(), "*", "\"x\""] {
        let request = gate.patch(&path).token(&mallory.token).header("If-Match", tag);
        request.json(&json!({"type": "premium"})).send().refused(404, "not_found");
        gate.delete(&path).token(&mallory.token).header("If-Match", tag).send().refused(404, "not_found");
    }
}

/// Each operation is called with a tag that matches nothing.
#[test]
fn if_match__documented_where_it_is_taken() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let mut taken = 0;
    for (number, (name, operation)) in document.operations().enumerate() {
        let cast = Cast::new(&gate, number);
        let request = cast.request(&gate, &name, number).token(&cast.user.token);
        let reply = request.header("If-Match", "\"other\"").send();
        let is_taken = reply.status == 412;
        taken += usize::from(is_taken);
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        let is_parameter = parameters.any(|parameter| parameter["name"] == "If-Match" && parameter["in"] == "header");
        let has_status = operation["responses"]["412"].is_object();
        assert_eq!([is_parameter, has_status], [is_taken; 2], "{name}: {} {}", reply.status, reply.text());
    }
    assert_eq!(taken, CHANGES.len());
}
