//! `/v1/domains/{id}/verification`: the challenge, the attempt and its answer, and the effect on tokens.

use gatebird::db::schema::audit;
use serde_json::json;

use diesel::prelude::*;

use super::dns::{Dns, Record};
use super::host::{Host, ok};
use super::{found, path, server_with_dns, shown, value, verify};
use crate::harness::{Domain, Gate, Reply, User, Value, parts, resigned};

const DAY: i64 = 86_400;

/// Actor, owner, action and target of the audit rows about verification, in order.
pub fn verification_rows(gate: &Gate) -> Vec<(String, Option<i64>, String, String)> {
    let rows = audit::table
        .filter(audit::action.eq_any(["domain.verified", "domain.unverified", "domain.superseded"]))
        .order(audit::id)
        .select((audit::actor, audit::tenant, audit::action, audit::target));
    gate.app.db.read_now(move |conn| Ok(rows.load(conn)?)).expect("the database answers")
}

/// Requests a token in the JSON form.
pub fn ask_token(gate: &Gate, domain: &Domain) -> Reply {
    gate.post("/token").json(&json!({"clientSecret": domain.secret})).send()
}

/// Publishes the owner's challenge in DNS, and nothing else.
pub fn publish(gate: &Gate, dns: &Dns, owner: &User, domain: &Domain, name: &str) {
    let value = value(gate, owner, domain);
    dns.set(&[(&format!("_gatebird.{name}"), Record::text(&value))]);
}

#[test]
fn challenge__shown_at_registration_and_at_its_url() {
    let gate = Gate::start();
    let (alice, bob) = (gate.sign_up("alice"), gate.sign_up("bob"));
    let now = gate.clock.now();
    let body = json!({"host": "Shop.Example.com:8443", "type": "free"});
    let registered = gate.post("/v1/domains").token(&alice.token).json(&body).send().expect(201)["payload"].clone();
    assert_eq!((&registered["hostVerified"], &registered["superseded"]), (&json!(false), &json!(false)));
    let verification = &registered["verification"];
    let value = verification["dns"]["value"].as_str().expect("a value");
    let token = value.strip_prefix("gatebird-challenge=").expect("the prefix");
    assert!(token.len() == 32 && token.bytes().all(|byte| b"0123456789abcdef".contains(&byte)), "{token}");
    let expires = verification["expiresAt"].as_i64().expect("seconds");
    assert!((now + 7 * DAY..now + 7 * DAY + 30).contains(&expires));
    let expected = json!({
        "hostVerified": false,
        "expiresAt": expires,
        "dns": {"name": "_gatebird.shop.example.com", "type": "TXT", "value": value},
        "file": {
            "urls": [
                "https://shop.example.com:8443/.well-known/gatebird-challenge",
                "http://shop.example.com:8443/.well-known/gatebird-challenge",
            ],
            "content": value,
        },
    });
    assert_eq!(*verification, expected);
    let id = registered["id"].as_str().expect("an id");
    let domain = Domain { id: id.into(), secret: registered["clientSecret"].as_str().expect("a secret").into() };
    assert_eq!(shown(&gate, &alice, &domain), expected);
    // Not in the view of the domain, nor to another user.
    let view = gate.get(&format!("/v1/domains/{id}")).token(&alice.token).send();
    assert!(!view.text().contains(token) && view.expect(200)["payload"]["hostVerified"] == json!(false));
    for request in [gate.get(&path(&domain)), gate.post(&path(&domain))] {
        request.token(&bob.token).send().refused(404, "not_found");
    }
}

#[test]
fn challenge__one_for_each_user_and_host() {
    let gate = Gate::start();
    let (alice, bob) = (gate.sign_up("alice"), gate.sign_up("bob"));
    let hosts = ["shop.example.com", "shop.example.com:8443", "other.example.com"];
    let mut values: Vec<String> = Vec::new();
    for owner in [&alice, &bob] {
        for host in hosts {
            let domain = gate.register(owner, host);
            values.push(value(&gate, owner, &domain));
            // The same after another registration.
            gate.delete(&format!("/v1/domains/{}", domain.id)).token(&owner.token).send().expect(200);
            let again = gate.register(owner, host);
            assert_eq!(value(&gate, owner, &again), *values.last().expect("one"));
        }
    }
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 6, "{values:?}");
}

#[test]
fn host_verification__refusal_lists_each_check() {
    let host = Host::answering("HTTP/1.1 404 Not Outcome\r\n\r\n");
    let name = "shop.example.test";
    let dns = Dns::with(&[(name, Record::address("127.0.0.1"))]);
    let gate = server_with_dns(&dns, &[]);
    let alice = gate.sign_up("alice");
    let at = format!("{name}:{}", host.port());
    let domain = gate.register(&alice, &at);
    let before = shown(&gate, &alice, &domain);
    let url = |scheme: &str| format!("{scheme}://{at}/.well-known/gatebird-challenge");
    for (language, sentences) in [
        (
            "en",
            [
                "There is no TXT record of this name",
                "The host has no TLS or no trusted certificate",
                "The status of the response was not 200",
            ],
        ),
        (
            "ko",
            [
                "이 이름의 TXT 레코드가 없습니다",
                "TLS를 사용할 수 없거나 신뢰할 수 있는 인증서가 아닙니다",
                "응답 상태가 200이 아닙니다",
            ],
        ),
    ] {
        let request = gate.post(&path(&domain)).token(&alice.token).header("Accept-Language", language);
        let refusal = request.send().refused(409, "unverified");
        assert_eq!(refusal["error"], json!("conflict"));
        let mut expected = before.clone();
        expected["tried"] = json!([
            {"method": "dns", "at": "_gatebird.shop.example.test", "found": "noRecord", "message": sentences[0]},
            {"method": "file", "at": url("https"), "found": "tls", "message": sentences[1]},
            {"method": "file", "at": url("http"), "found": "status", "message": sentences[2]},
        ]);
        assert_eq!(refusal["payload"], expected);
    }
    assert_eq!(verification_rows(&gate), []);
}

#[test]
fn host_verification__by_dns_or_file_shows_in_tokens() {
    let name = "shop.example.test";
    for method in ["dns", "file"] {
        let host = Host::answering("");
        let dns = Dns::with(&[(name, Record::address("127.0.0.1"))]);
        let gate = server_with_dns(&dns, &[]);
        let alice = gate.sign_up("alice");
        let domain = gate.register(&alice, &format!("{name}:{}", host.port()));
        let claims = |token: &str| gate.get("/v1/test").token(token).send().expect(200);
        let before = gate.access_token(&domain);
        assert_eq!(claims(&before)["host_verified"], json!(false));
        match method {
            "dns" => publish(&gate, &dns, &alice, &domain, name),
            _ => host.answer(ok(&value(&gate, &alice, &domain))),
        }
        let now = gate.clock.now();
        let answer = verify(&gate, &alice, &domain).expect(200)["payload"].clone();
        let verified_at = answer["verifiedAt"].as_i64().expect("seconds");
        assert!((now..now + 30).contains(&verified_at));
        assert_eq!((&answer["hostVerified"], &answer["expiresAt"]), (&json!(true), &Value::Null));
        let last = answer["tried"].as_array().and_then(|tried| tried.last()).expect("a check").clone();
        assert_eq!((&last["method"], &last["found"]), (&json!(method), &json!("match")));

        assert_eq!(shown(&gate, &alice, &domain)["hostVerified"], json!(true));
        let view = gate.get(&format!("/v1/domains/{}", domain.id)).token(&alice.token).send().expect(200);
        assert_eq!(
            (&view["payload"]["hostVerified"], &view["payload"]["verifiedAt"]),
            (&json!(true), &json!(verified_at))
        );
        let token = gate.access_token(&domain);
        assert_eq!(claims(&token)["host_verified"], json!(true));
        assert_eq!(parts(&token).1["host_verified"], json!(true));
        // The earlier token keeps its claim and stays valid; a user token has no such claim.
        assert_eq!(claims(&before)["host_verified"], json!(false));
        assert_eq!(claims(&alice.token)["host_verified"], Value::Null);

        // A repetition changes nothing.
        verify(&gate, &alice, &domain).expect(200);
        let row = (format!("usr_{}", alice.id), Some(alice.id), "domain.verified".to_owned(), domain.id.clone());
        assert_eq!(verification_rows(&gate), [row]);
    }
}

#[test]
fn challenge__of_another_user_or_host() {
    let (name, dns) = ("shop.example.test", Dns::with(&[]));
    let gate = server_with_dns(&dns, &[]);
    let (alice, mallory) = (gate.sign_up("alice"), gate.sign_up("mallory"));
    let domain = gate.register(&alice, name);
    let theirs = gate.register(&mallory, name);
    let sibling = gate.register(&alice, "www.shop.example.test");
    let other = |owner, domain| Record::text(&value(&gate, owner, domain));
    dns.set(&[
        ("_gatebird.shop.example.test", other(&mallory, &theirs)),
        ("_gatebird.shop.example.test", other(&alice, &sibling)),
    ]);
    let reply = verify(&gate, &alice, &domain).refused(409, "unverified");
    assert_eq!(found(&reply)[0], "otherValue");
    let reply = verify(&gate, &alice, &sibling).refused(409, "unverified");
    assert_eq!(found(&reply)[0], "noRecord");
    // The published challenge is mallory's, so it verifies her registration and not alice's.
    verify(&gate, &mallory, &theirs).expect(200);
    assert_eq!(shown(&gate, &alice, &domain)["hostVerified"], json!(false));
}

#[test]
fn challenge__valid_for_seven_days() {
    let (name, dns) = ("shop.example.test", Dns::with(&[]));
    let gate = server_with_dns(&dns, &[("USER_TOKEN_TTL", "30d")]);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, name);
    let first = value(&gate, &alice, &domain);
    publish(&gate, &dns, &alice, &domain, name);
    gate.clock.advance(7 * DAY - 30);
    assert_eq!(value(&gate, &alice, &domain), first);
    gate.clock.advance(31);
    assert_eq!(shown(&gate, &alice, &domain), json!({"hostVerified": false}), "the challenge has expired");
    gate.app.maintain().expect("expired challenges are deleted");
    let reply = verify(&gate, &alice, &domain).refused(409, "unverified");
    assert_eq!(found(&reply)[0], "otherValue", "the old token");
    assert_ne!(reply["payload"]["dns"]["value"], json!(first));
    assert_eq!(json!(value(&gate, &alice, &domain)), reply["payload"]["dns"]["value"]);
    publish(&gate, &dns, &alice, &domain, name);
    verify(&gate, &alice, &domain).expect(200);
}

#[test]
fn host_verification__required_for_tokens() {
    let (name, dns) = ("shop.example.test", Dns::with(&[]));
    let gate = server_with_dns(&dns, &[("PROOF", "required"), ("LIMIT_FREE", "1/h")]);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, name);
    let form = "grant_type=client_credentials";
    for path in ["/token", "/v1/token"] {
        let json = json!({"clientSecret": domain.secret});
        let refusal = gate.post(path).json(&json).send().refused(400, "unverified");
        assert_eq!(refusal["error"], json!("unauthorized_client"));
        let oauth = gate.post(path).basic(&domain.id, &domain.secret).form(form).send();
        assert_eq!(oauth.refused(400, "unverified")["error"], json!("unauthorized_client"));
    }
    // A caller without the secret does not learn of it.
    let other = gate.register(&alice, "other.example.test");
    gate.post("/token").basic(&domain.id, &other.secret).form(form).send().refused(401, "unknown_client");
    publish(&gate, &dns, &alice, &domain, name);
    verify(&gate, &alice, &domain).expect(200);
    ask_token(&gate, &domain).expect(200);
    ask_token(&gate, &domain).refused(429, "plan");
}

#[test]
fn host_verification__not_required_for_introspection_and_revocation() {
    let dns = Dns::with(&[]);
    let gate = server_with_dns(&dns, &[("TOKEN_TTL", "1h")]);
    let alice = gate.sign_up("alice");
    let domain = gate.register(&alice, "shop.example.test");
    let token = gate.access_token(&domain);
    let gate = gate.restart(&[("PROOF", "required")]);
    ask_token(&gate, &domain).refused(400, "unverified");
    let form = format!("token={token}");
    let call = |path| gate.post(path).basic(&domain.id, &domain.secret).form(form.clone()).send();
    assert_eq!(call("/introspect").expect(200)["active"], json!(true));
    assert_eq!(call("/revoke").status, 200);
    assert_eq!(call("/introspect").expect(200)["active"], json!(false));
}

#[test]
fn host_verification__five_attempts_a_minute() {
    let gate = server_with_dns(&Dns::with(&[]), &[]);
    let (alice, bob) = (gate.sign_up("alice"), gate.sign_up("bob"));
    let mut domain = gate.register(&alice, "shop.example.test");
    for number in 0..5 {
        verify(&gate, &alice, &domain).refused(409, "unverified");
        if number == 2 {
            // Registering the domain again gives no new attempts.
            gate.delete(&format!("/v1/domains/{}", domain.id)).token(&alice.token).send().expect(200);
            domain = gate.register(&alice, "shop.example.test");
        }
    }
    let reply = verify(&gate, &alice, &domain);
    reply.refused(429, "failures");
    let wait: i64 = reply.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("seconds");
    assert!((1..=12).contains(&wait), "{wait}");
    verify(&gate, &bob, &gate.register(&bob, "shop.example.test")).refused(409, "unverified");
    verify(&gate, &alice, &gate.register(&alice, "other.example.test")).refused(409, "unverified");
    gate.clock.advance(wait);
    verify(&gate, &alice, &domain).refused(409, "unverified");
}

#[test]
fn host_verified_claim__absent_or_malformed() {
    let gate = Gate::start();
    let (alice, _, token) = gate.tenant("alice");
    let with = |token: &str, value: Option<Value>| {
        let token = resigned(token, |_, claims| {
            claims.as_object_mut().expect("an object").remove("host_verified");
            if let Some(value) = value {
                claims["host_verified"] = value;
            }
        });
        gate.get("/v1/test").token(token).send()
    };
    with(&token, None).expect(200);
    with(&token, Some(json!(true))).expect(200);
    for value in [json!(null), json!("true"), json!(1), json!([true])] {
        with(&token, Some(value)).refused(401, "invalid");
    }
    with(&alice.token, None).expect(200);
    with(&alice.token, Some(json!(true))).refused(401, "invalid");
}
