//! Numbers at the edges of every integer type, in every place that takes a number, and in places that take none.

use super::harmless;
use crate::harness::{Gate, Reply, json};
use crate::matrix::{Cast, good_body};
use crate::openapi::Document;

/// Numbers, and texts that some language reads as one.
const EDGES: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "100",
    "101",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "-18446744073709551616",
    "340282366920938463463374607431768211456",
    "99999999999999999999999999999999999999999999999999999999999999999999999999999999",
    "1.0",
    "0.1",
    "-0.0",
    "1e0",
    "1e999",
    "-1e999",
    "1E400",
    "1e-999",
    "NaN",
    "Infinity",
    "-Infinity",
    "0x1",
    "0b1",
    "1_0",
    "1,0",
    "01",
    "05",
    "+1",
    "+5",
    " 5",
    "5 ",
    "5.0",
    "1e1",
    "١",
    "٥",
    "１",
    "Ⅷ",
    "½",
    "",
];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Checks that the value is accepted exactly when it is in the range and in its plain notation.
#[track_caller]
fn in_range(what: &str, edge: &str, reply: &Reply, range: std::ops::RangeInclusive<i64>, field: &str) {
    harmless(what, reply);
    let number = edge.parse::<i64>().ok().filter(|number| range.contains(number));
    let plain = number.is_some_and(|number| number.to_string() == edge);
    match reply.status {
        200 | 201 => assert!(plain, "{what}: {}", reply.text()),
        _ => {
            assert!(!plain, "{what}: {}", reply.text());
            let body = reply.expect(400);
            match body["reason"].as_str() {
                Some("invalid_field") => assert_eq!(body["field"], json!(field), "{what}"),
                reason => assert_eq!(reason, Some("malformed"), "{what}"),
            }
        }
    }
}

#[test]
fn numeric_parameter__out_of_range_is_refused_by_name() {
    let gate = Gate::start();
    let cast = Cast::new(&gate, 0);
    let domain = format!("/v1/domains/{}", cast.domain.id);
    let user = &cast.user.token;
    for edge in EDGES {
        let value = encoded(edge);
        for list in ["/v1/posts/my", "/v1/posts/hashtag/mine", "/v1/audit"] {
            let reply = gate.get(&format!("{list}?limit={value}")).token(user).send();
            in_range(&format!("{list} limit {edge}"), edge, &reply, 1..=100, "limit");
            let reply = gate.get(&format!("{list}?cursor={value}")).token(user).send();
            harmless(edge, &reply);
            assert_eq!(reply.refused(400, "invalid_field")["field"], "cursor", "{list} cursor {edge}");
        }
        let reply = gate.get(&format!("{domain}/usage?days={value}")).token(user).send();
        in_range(&format!("days {edge}"), edge, &reply, 1..=400, "days");
        // JSON allows white space around a number.
        let edge = edge.trim();
        let body = format!("{{\"graceSeconds\":{edge}}}");
        let reply = gate.post(&format!("{domain}/secrets")).token(user).body("application/json", body).send();
        in_range(&format!("graceSeconds {edge}"), edge, &reply, 0..=2_592_000, "graceSeconds");
        let body = json!({"graceSeconds": edge});
        let reply = gate.post(&format!("{domain}/secrets")).token(user).json(&body).send();
        assert_eq!(reply.refused(400, "invalid_field")["field"], "graceSeconds", "{edge:?} as text");
    }
}

#[test]
fn numeric_id__unknown_is_not_found() {
    let gate = Gate::start();
    let cast = Cast::new(&gate, 0);
    let domain = format!("/v1/domains/{}", cast.domain.id);
    let user = &cast.user.token;
    let own = [&cast.post, &cast.secret];
    for edge in EDGES.iter().filter(|edge| !edge.is_empty() && !own.iter().any(|id| id == *edge)) {
        let value = encoded(edge);
        let post = format!("/v1/posts/{value}");
        for request in [
            gate.get(&post),
            gate.delete(&post),
            gate.put(&post).json(&json!({"content": "x"})),
            gate.delete(&format!("{domain}/secrets/{value}")),
            gate.get(&format!("/v1/domains/{value}")),
            gate.get(&format!("/v1/domains/dom_{value}")),
            gate.delete(&format!("/v1/domains/{value}")),
            gate.get(&format!("/v1/domains/{value}/usage")),
            gate.post(&format!("/v1/domains/{value}/verification")),
        ] {
            let reply = request.token(user).send();
            harmless(edge, &reply);
            reply.refused(404, "not_found");
        }
    }
    for (list, id) in [("/v1/posts".to_owned(), &cast.post), (format!("{domain}/secrets"), &cast.secret)] {
        for spelled in [format!("+{id}"), format!("0{id}"), format!(" {id}"), format!("{id} "), format!("{id}.0")] {
            let reply = gate.delete(&format!("{list}/{}", encoded(&spelled))).token(user).send();
            reply.refused(404, "not_found");
        }
    }
    gate.get(&format!("/v1/posts/{}", cast.post)).token(user).send().expect(200);
    gate.post("/token").json(&json!({"clientSecret": cast.domain.secret})).send().expect(200);
}

/// In each member of each JSON body.
#[test]
fn text_member__number_is_refused() {
    let gate = Gate::start();
    let document = Document::of(&gate);
    let cast = Cast::new(&gate, 0);
    let mut tried = 0;
    for (operation, _) in document.operations() {
        let good = cast.fill(good_body(&operation), 1);
        let Ok(serde_json::Value::Object(members)) = serde_json::from_str(&good) else { continue };
        let (method, path) = operation.split_once(' ').expect("two words");
        let path = cast.fill(path, 1);
        for member in members.keys().filter(|member| *member != "graceSeconds") {
            let mut body = members.clone();
            body[member] = "@".into();
            let body = serde_json::Value::from(body).to_string();
            for edge in EDGES {
                let body = body.replace("\"@\"", edge);
                let request = gate.request(method, &path).token(&cast.user.token);
                let reply = request.body("application/json", body.clone()).send();
                harmless(&format!("{operation} {body}"), &reply);
                let refusal = reply.expect(400);
                if refusal["reason"] == "invalid_field" {
                    assert_eq!(refusal["field"], json!(member), "{operation} {body}");
                } else {
                    assert_eq!(refusal["reason"], "malformed", "{operation} {body}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
    gate.get("/v1/me").token(&cast.user.token).send().expect(200);
    gate.get("/v1/test").token(&cast.client).send().expect(200);
}
