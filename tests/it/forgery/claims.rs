//! Wrong claims, signed with the server's own key.

use super::{GOOD, INVALID, REVOKED, Target, append, prepend, texts};
use crate::harness::{JWT_SECRET, Value, json, mint_with, resigned};

/// Values that no claim of the server has.
fn mistyped() -> Vec<Value> {
    vec![Value::Null, json!(true), json!(1.5), json!([]), json!({}), json!([[]]), json!({"$ne": null})]
}

#[test]
fn claims__missing_or_mistyped() {
    let target = Target::new();
    let required =
        ["iss", "sub", "client_id", "aud", "exp", "iat", "jti", "scope", "id", "nick", "username", "host", "gen"];
    for claim in required {
        target.claims_get(&format!("{claim} missing"), INVALID, |claims| {
            claims.as_object_mut().expect("an object").remove(claim);
        });
        for value in mistyped() {
            target.claims_get(&format!("{claim}: {value}"), INVALID, |claims| claims[claim] = value.clone());
        }
    }
    for claim in ["exp", "iat", "nbf", "id", "gen"] {
        target.claims_get(&format!("{claim} as a string"), INVALID, |claims| {
            let number = claims[claim].as_i64().unwrap_or(0);
            claims[claim] = number.to_string().into();
        });
    }
    for claim in ["iss", "sub", "client_id", "jti", "scope", "nick", "username", "host"] {
        target.claims_get(&format!("{claim} as a number"), INVALID, |claims| claims[claim] = 7.into());
        target.claims_get(&format!("{claim} in an array"), INVALID, |claims| claims[claim] = json!([claims[claim]]));
    }
    target.gets("the good token", &target.token, GOOD);
}

#[test]
fn iss_claim__must_match_exactly() {
    let target = Target::new();
    for issuer in [
        "",
        " ",
        "https://gate.test/",
        "https://gate.test ",
        " https://gate.test",
        "HTTPS://GATE.TEST",
        "https://Gate.test",
        "http://gate.test",
        "gate.test",
        "//gate.test",
        "https://gate.test:443",
        "https://gate.test.evil.test",
        "https://evil.test",
        "https://evil.test#https://gate.test",
        "https://gate.test\0",
        "https://gаte.test",
        "https://gate.tes",
        "https://gate.test?",
        "https://gate.test\n",
        "null",
    ] {
        target.claims_get(&format!("iss {issuer:?}"), INVALID, |claims| claims["iss"] = issuer.into());
        target.claims_get(&format!("aud {issuer:?}"), INVALID, |claims| claims["aud"] = json!([issuer]));
    }
    for issuer in [json!(0), json!(["https://gate.test"]), json!({"iss": "https://gate.test"})] {
        target.claims_get(&format!("iss {issuer}"), INVALID, |claims| claims["iss"] = issuer.clone());
    }
}

#[test]
fn aud_claim__must_be_a_list_with_the_issuer() {
    let target = Target::new();
    let us = "https://gate.test";
    for audience in [
        json!([]),
        json!(0),
        json!(us),
        json!([1]),
        json!([[us]]),
        json!([us, 1]),
        json!([null, us]),
        json!({"aud": us}),
        json!({ us: true }),
        json!(["https://api.test", "https://other.test"]),
        json!([format!("https://api.test {us}")]),
    ] {
        target.claims_get(&audience.to_string(), INVALID, |claims| claims["aud"] = audience.clone());
    }
    // A token may be meant for others, too (RFC 7519 §4.1.3).
    target.claims_get("with another", GOOD, |claims| claims["aud"] = json!(["https://api.test", us]));
}

#[test]
fn client_token__claims_of_another_client() {
    let target = Target::new();
    let (mallory, foreign, _) = target.gate.tenant("mallory");
    let own = target.gate.register(&target.user, "second.example.com");
    let both = |claims: &mut Value, id: &str| {
        claims["sub"] = id.into();
        claims["client_id"] = id.into();
    };
    for id in [
        "",
        "alice",
        "usr_1",
        "dom_",
        "dom_%",
        "dom_______________________",
        "'; DROP TABLE domains;--",
        "dom_' OR '1'='1' --------- ",
        &format!("{}\0", target.domain.id),
        &format!(" {}", target.domain.id),
        &target.domain.id.to_uppercase(),
        &target.domain.id[..25],
        &"s".repeat(4000),
    ] {
        target.claims_get(&format!("sub {id:?}"), INVALID, |claims| both(claims, id));
    }
    target.claims_get("a domain that never was", REVOKED, |claims| both(claims, &format!("dom_{}", "0".repeat(22))));
    target.claims_get("another tenant's domain", INVALID, |claims| both(claims, &foreign.id));
    target.claims_get("client_id is not sub", INVALID, |claims| claims["client_id"] = own.id.as_str().into());
    target.claims_get("sub is not client_id", INVALID, |claims| claims["sub"] = own.id.as_str().into());
    for id in [mallory.id, 0, -1, i64::MAX, i64::MIN, target.user.id + 1] {
        target.claims_get(&format!("id {id}"), INVALID, |claims| claims["id"] = id.into());
    }
    target.claims_get("id beyond 64 bits", INVALID, |claims| claims["id"] = u64::MAX.into());
    target.gets("the good token", &target.token, GOOD);
}

#[test]
fn user_token__claims_of_another_user() {
    let target = Target::new();
    let mallory = target.gate.sign_up("mallory");
    let gets = |name: &str, verdict, change: fn(&mut Value, i64)| {
        let token = resigned(&target.user.token, |_, claims| change(claims, mallory.id));
        target.gets(name, &token, verdict);
    };
    gets("another's id", INVALID, |claims, other| claims["id"] = other.into());
    gets("another's sub", INVALID, |claims, other| claims["sub"] = format!("usr_{other}").into());
    gets("a domain's sub", INVALID, |claims, _| claims["sub"] = format!("dom_{}", "0".repeat(22)).into());
    gets("with a client_id", INVALID, |claims, _| claims["client_id"] = claims["sub"].clone());
    gets("with a client_id of null", INVALID, |claims, _| claims["client_id"] = Value::Null);
    gets("with a host", INVALID, |claims, _| claims["host"] = "shop.example.com".into());
    gets("with a host of null", INVALID, |claims, _| claims["host"] = Value::Null);
    for (name, change) in [
        ("sub without a prefix", (|id| id.to_string()) as fn(i64) -> String),
        ("sub with a zero", |id| format!("usr_0{id}")),
        ("sub with a sign", |id| format!("usr_+{id}")),
        ("sub with a blank", |id| format!("usr_ {id}")),
        ("sub in capitals", |id| format!("USR_{id}")),
        ("sub with a fraction", |id| format!("usr_{id}.0")),
    ] {
        let token = resigned(&target.user.token, |_, claims| claims["sub"] = change(target.user.id).into());
        target.gets(name, &token, INVALID);
    }
    let unknown_user = resigned(&target.user.token, |_, claims| {
        claims["id"] = 999_999.into();
        claims["sub"] = "usr_999999".into();
    });
    target.gets("a user that never was", &unknown_user, REVOKED);
    target.gets("the good token", &target.user.token, GOOD);
}

#[test]
fn jti_claim__length_is_bounded() {
    let target = Target::new();
    target.claims_get("empty", INVALID, |claims| claims["jti"] = "".into());
    target.claims_get("129 characters", INVALID, |claims| claims["jti"] = "a".repeat(129).into());
}

#[test]
fn claims__repeated_member() {
    let target = Target::new();
    let (header, claims) = texts(&target.token);
    let now = target.gate.clock.now();
    for member in [
        format!(r#""exp":{}"#, now + 30),
        format!(r#""exp":{}"#, now - 30),
        format!(r#""\u0065xp":{}"#, now + 30),
        format!(r#""e\u0078\u0070":{}"#, now - 30),
        r#""iss":"https://gate.test""#.into(),
        r#""scope":"admin""#.into(),
        r#""id":1"#.into(),
        r#""\u0069d":1"#.into(),
        r#""gen":99"#.into(),
        r#""nbf":1,"nbf":1"#.into(),
        r#""other":1,"other":2"#.into(),
        r#""other":1,"oth\u0065r":2"#.into(),
        r#""\u0000":1,"\u0000":2"#.into(),
    ] {
        for changed in [append(&claims, &member), prepend(&claims, &member)] {
            target.gets(&changed, &mint_with(&header, &changed, JWT_SECRET.as_bytes()), INVALID);
        }
    }
    let changed = append(&claims, r#""other":1"#);
    target.gets(&changed, &mint_with(&header, &changed, JWT_SECRET.as_bytes()), GOOD);
}

#[test]
fn claims__not_one_json_object() {
    let target = Target::new();
    let (header, claims) = texts(&target.token);
    let deep = |depth: usize| append(&claims, &format!("\"x\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    for (name, changed) in [
        ("empty", String::new()),
        ("null", "null".into()),
        ("an array", format!("[{claims}]")),
        ("a string", Value::from(claims.as_str()).to_string()),
        ("text behind", format!("{claims} x")),
        ("two objects", format!("{claims}{claims}")),
        ("cut off", claims[..claims.len() - 1].into()),
        ("trailing comma", claims.replace('}', ",}")),
        ("single quotes", claims.replace('"', "'")),
        ("NaN", append(&claims, "\"x\":NaN")),
        ("lone surrogate", append(&claims, r#""nbf":"\ud800""#)),
        ("control character", append(&claims, "\"x\u{1}\":\"\u{1}\"")),
        ("5,000 arrays deep, over 8 KiB", deep(5000)),
    ] {
        target.gets(name, &mint_with(&header, &changed, JWT_SECRET.as_bytes()), INVALID);
    }
    // The deepest nesting that fits into 8 KiB. Under a stranger's key it is refused; under the server's key it is an
    // unknown member.
    let reply = target.gate.get("/v1/test").token(mint_with(&header, &deep(2000), JWT_SECRET.as_bytes())).send();
    assert!(matches!(reply.status, 200 | 401), "{}", reply.status);
    target.gets("deep and foreign", &mint_with(&header, &deep(2000), b"another key"), INVALID);
    target.gets("the good token", &target.token, GOOD);
}
