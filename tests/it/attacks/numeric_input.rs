//! Numbers at the edges of every integer type, in every place that takes a number, and in places that take none.

use super::assert_no_server_error;
use crate::accounts::row_counts;
use crate::harness::{Gate, Reply, Request, Value, json};
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
    "400",
    "401",
    "2592000",
    "2592001",
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
    "99999999999999999999",
    "1.0",
    "1.5",
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

/// Texts that no language reads as a number.
const NOT_NUMBERS: &[&str] = &["x", "null", "\0"];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Checks that the value is accepted exactly when it is in the range and in its plain notation. A refusal names the
/// field, unless the value is malformed.
#[track_caller]
fn assert_bounded(edge: &str, reply: &Reply, range: std::ops::RangeInclusive<i64>, field: &str, malformed: bool) {
    let what = format!("{field} {edge:?}");
    assert_no_server_error(&what, reply);
    let number = edge.parse::<i64>().ok().filter(|number| range.contains(number));
    if number.is_some_and(|number| number.to_string() == edge) {
        assert!(matches!(reply.status, 200 | 201), "{what}: {}", reply.text());
    } else if malformed {
        reply.refused(400, "malformed");
    } else {
        assert_eq!(reply.refused(400, "invalid_field")["field"], json!(field), "{what}");
    }
}

#[test]
fn numeric_parameter__out_of_range_is_refused_by_name() {
    let gate = Gate::start();
    let cast = Cast::new(&gate, 0);
    let domain = format!("/v1/domains/{}", cast.domain.id);
    let user = &cast.user.token;
    for edge in EDGES.iter().chain(NOT_NUMBERS) {
        let value = encoded(edge);
        for list in ["/v1/posts/my", "/v1/posts/hashtag/mine", "/v1/audit"] {
            let reply = gate.get(&format!("{list}?limit={value}")).token(user).send();
            assert_bounded(edge, &reply, 1..=100, "limit", false);
            let reply = gate.get(&format!("{list}?cursor={value}")).token(user).send();
            assert_no_server_error(edge, &reply);
            assert_eq!(reply.refused(400, "invalid_field")["field"], "cursor", "{list} cursor {edge}");
        }
        let reply = gate.get(&format!("{domain}/usage?days={value}")).token(user).send();
        assert_bounded(edge, &reply, 1..=400, "days", false);
        // JSON allows white space around a number.
        let edge = edge.trim();
        let body = format!("{{\"graceSeconds\":{edge}}}");
        let malformed = serde_json::from_str::<Value>(edge).is_err();
        let reply = gate.post(&format!("{domain}/secrets")).token(user).body("application/json", body).send();
        assert_bounded(edge, &reply, 0..=2_592_000, "graceSeconds", malformed);
        let body = json!({"graceSeconds": edge});
        let reply = gate.post(&format!("{domain}/secrets")).token(user).json(&body).send();
        assert_eq!(reply.refused(400, "invalid_field")["field"], "graceSeconds", "{edge:?} as text");
    }
}

#[test]
fn id__unknown_or_misspelled_is_not_found() {
    let gate = Gate::start();
    let cast = Cast::new(&gate, 0);
    let user = &cast.user.token;
    let posts = row_counts(&gate)[3];
    let unknown = |edge: &&&str| !edge.is_empty() && **edge != cast.post && **edge != cast.secret;
    let edges = EDGES.iter().chain(NOT_NUMBERS).filter(unknown).map(|edge| encoded(edge));
    let segments = ["%FF", "..%2F1", "1%00", "1%20", "1'--", "999999", "4294967297", "18446744073709551617"];
    for segment in edges.chain(segments.map(str::to_owned)) {
        let mut requests = misspelled(&gate, &cast, &segment, &segment);
        requests.extend([
            gate.get(&format!("/v1/domains/{segment}")),
            gate.get(&format!("/v1/domains/dom_{segment}")),
            gate.delete(&format!("/v1/domains/{segment}")),
            gate.get(&format!("/v1/domains/{segment}/usage")),
            gate.post(&format!("/v1/domains/{segment}/verification")),
        ]);
        for request in requests {
            let reply = request.token(user).send();
            assert_no_server_error(&segment, &reply);
            reply.refused(404, "not_found");
        }
    }
    for spelled in ["+{id}", "0{id}", " {id}", "{id} ", "{id}.0", "{id}\0"] {
        let [post, secret] = [&cast.post, &cast.secret].map(|id| encoded(&spelled.replace("{id}", id)));
        for request in misspelled(&gate, &cast, &post, &secret) {
            request.token(user).send().refused(404, "not_found");
        }
    }
    assert_eq!(row_counts(&gate)[3], posts);
    gate.get(&format!("/v1/posts/{}", cast.post)).token(user).send().expect(200);
    gate.post("/token").json(&json!({"clientSecret": cast.domain.secret})).send().expect(200);
}

/// Requests for a post and for a secret by these segments of their paths.
fn misspelled(gate: &Gate, cast: &Cast, post: &str, secret: &str) -> Vec<Request> {
    let post = format!("/v1/posts/{post}");
    let secret = format!("/v1/domains/{}/secrets/{secret}", cast.domain.id);
    vec![gate.get(&post), gate.delete(&post), gate.put(&post).json(&json!({"content": "x"})), gate.delete(&secret)]
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
        let Ok(Value::Object(members)) = serde_json::from_str(&good) else { continue };
        let (method, path) = operation.split_once(' ').expect("two words");
        let path = cast.fill(path, 1);
        for member in members.keys().filter(|member| *member != "graceSeconds") {
            let mut body = members.clone();
            body[member] = "@".into();
            let body = Value::from(body).to_string();
            for edge in EDGES {
                let body = body.replace("\"@\"", edge);
                let request = gate.request(method, &path).token(&cast.user.token);
                let reply = request.body("application/json", body.clone()).send();
                assert_no_server_error(&format!("{operation} {body}"), &reply);
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
