//! `exp`, `iat` and `nbf` to the second; and 419 only for a token that is valid in every other respect.

use gatebird::db::domain;
use gatebird::id::DomainId;

use super::{EXPIRED, GOOD, INVALID, REVOKED, Target, append, texts};
use crate::harness::{Gate, JWT_SECRET, Value, json, mint_with, parts};

/// Runs `ask` while the server's clock shows exactly that second.
pub fn at<T>(gate: &Gate, second: i64, mut ask: impl FnMut() -> T) -> T {
    loop {
        gate.clock.advance(second - gate.clock.now());
        let answer = ask();
        // Real time continues during the test: try again if the second ended meanwhile.
        if gate.clock.now() == second {
            return answer;
        }
    }
}

#[test]
fn exp_claim__expires_to_the_second() {
    let target = Target::new();
    let exp = parts(&target.token).1["exp"].as_i64().expect("a number");
    let status = |second| at(&target.gate, second, || target.gate.get("/v1/test").token(&target.token).send().status);
    assert_eq!(status(exp - 60), 200);
    assert_eq!(status(exp - 1), 200);
    assert_eq!(status(exp), 419);
    assert_eq!(status(exp + 1), 419);
    assert_eq!(status(exp + 60), 419);
    assert_eq!(status(exp + 86_400 * 365), 419);
    assert_eq!(status(exp - 1), 200, "only the clock matters");

    let (_, claims) = parts(&target.user.token);
    let exp = claims["exp"].as_i64().expect("a number");
    let status =
        |second| at(&target.gate, second, || target.gate.get("/v1/me").token(&target.user.token).send().status);
    assert_eq!((status(exp - 1), status(exp)), (200, 419));
}

#[test]
fn exp_claim__no_leeway() {
    let target = Target::new();
    let now = target.gate.clock.now();
    for offset in -120..=5 {
        let token = target.with_claims(|claims| {
            claims["exp"] = (now + offset).into();
            claims["iat"] = (now + offset - 60).into();
        });
        let status = at(&target.gate, now, || target.gate.get("/v1/test").token(&token).send().status);
        assert_eq!(status, if offset > 0 { 200 } else { 419 }, "exp is now {offset:+}");
    }
}

#[test]
fn iat_and_nbf_claims__five_seconds_of_leeway() {
    let target = Target::new();
    let now = target.gate.clock.now();
    for (name, member, offset, status) in [
        ("iat now", "iat", 0, 200),
        ("iat +5", "iat", 5, 200),
        ("iat +6", "iat", 6, 401),
        ("iat +3600", "iat", 3600, 401),
        ("nbf -3600", "nbf", -3600, 200),
        ("nbf now", "nbf", 0, 200),
        ("nbf +5", "nbf", 5, 200),
        ("nbf +6", "nbf", 6, 401),
        ("nbf +3600", "nbf", 3600, 401),
    ] {
        let token = target.with_claims(|claims| {
            claims["iat"] = now.into();
            claims[member] = (now + offset).into();
            claims["exp"] = (claims["iat"].as_i64().expect("a number") + 60).into();
        });
        let reply = at(&target.gate, now, || target.gate.get("/v1/test").token(&token).send());
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
    }
}

#[test]
fn time_claims__malformed_or_inconsistent() {
    let target = Target::new();
    let (header, claims) = texts(&target.token);
    let object: Value = serde_json::from_str(&claims).expect("JSON");
    // As text, because JSON libraries cannot hold all of these.
    let numbers = [
        "null",
        "true",
        "\"\"",
        "\"9999999999\"",
        "1e400",
        "-1e400",
        "1e10",
        "9999999999.0",
        "9999999999.5",
        "-1",
        "-0",
        "-99999999999",
        "99999999999999999999",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "[9999999999]",
        "{}",
        "NaN",
        "Infinity",
        "0x7fffffff",
        "09999999999",
        "١٢٣",
    ];
    for claim in ["exp", "iat", "nbf"] {
        for number in numbers {
            let mut rest = object.clone();
            rest.as_object_mut().expect("an object").remove(claim);
            let changed = append(&rest.to_string(), &format!("\"{claim}\":{number}"));
            target.gets(&changed, &mint_with(&header, &changed, JWT_SECRET.as_bytes()), INVALID);
        }
    }
    // No overflow between the two, and no time before the epoch.
    for (exp, iat) in [
        (i64::MAX, i64::MIN),
        (i64::MIN, i64::MAX),
        (i64::MIN + 60, i64::MIN),
        (i64::MAX, i64::MAX - 60),
        (-315_619_140, -315_619_200),
        (30, -30),
    ] {
        target.claims_get(&format!("exp {exp}, iat {iat}"), INVALID, |claims| {
            claims["exp"] = exp.into();
            claims["iat"] = iat.into();
        });
    }
    let exp = object["exp"].as_i64().expect("a number");
    target.claims_get("iat in 1960", INVALID, |claims| claims["iat"] = json!(-315_619_200));
    target.claims_get("iat in 1970", INVALID, |claims| claims["iat"] = json!(0));
    target.claims_get("as long as granted", GOOD, |claims| claims["iat"] = json!(exp - 60));
    target.claims_get("a second longer", INVALID, |claims| claims["iat"] = json!(exp - 61));
    target.claims_get("no life at all", INVALID, |claims| claims["iat"] = json!(exp));
    target.claims_get("dead before its birth", INVALID, |claims| claims["exp"] = json!(exp - 61));
    target.claims_get("an access token as long as a user token", INVALID, |claims| claims["exp"] = json!(exp + 3540));
}

/// "Expired" would reveal that the rest of a token is right.
#[test]
fn token_expiry__reported_only_for_otherwise_valid_tokens() {
    let target = Target::new();
    let other = target.gate.sign_up("mallory");
    let past = |claims: &mut Value| {
        for claim in ["exp", "iat"] {
            claims[claim] = (claims[claim].as_i64().expect("a number") - 3600).into();
        }
    };
    let expired = target.with_claims(past);
    target.gets("expired", &expired, EXPIRED);
    let (header, claims) = texts(&expired);
    let key = JWT_SECRET.as_bytes();
    target.gets("bad signature", &mint_with(&header, &claims, b"another key"), INVALID);
    target.gets("signature cut", &expired[..expired.len() - 1], INVALID);
    target.gets("wrong typ", &mint_with(&header.replace("at+jwt", "JWT"), &claims, key), INVALID);
    target.gets("wrong alg", &mint_with(&header.replace("HS256", "HS512"), &claims, key), INVALID);
    target.gets("crit", &mint_with(&append(&header, "\"crit\":[\"exp\"]"), &claims, key), INVALID);
    target.gets("repeated member", &mint_with(&header, &append(&claims, "\"id\":1"), key), INVALID);
    for (claim, value) in [
        ("iss", json!("https://evil.test")),
        ("aud", json!(["https://evil.test"])),
        ("jti", json!("")),
        ("nbf", json!(target.gate.clock.now() + 3600)),
        ("id", json!(other.id)),
        ("client_id", json!("dom_other")),
    ] {
        let wrong = |claims: &mut Value| {
            past(claims);
            claims[claim] = value.clone();
        };
        target.claims_get(&format!("wrong {claim}"), INVALID, wrong);
    }
    let too_long = |claims: &mut Value| {
        past(claims);
        claims["iat"] = (claims["iat"].as_i64().expect("a number") - 1).into();
    };
    target.claims_get("too long a life", INVALID, too_long);
    let earlier = |claims: &mut Value| {
        past(claims);
        claims["gen"] = json!(-1);
    };
    target.claims_get("of an earlier generation", REVOKED, earlier);

    let id = DomainId::parse(&target.domain.id).expect("an id");
    let app = &target.gate.app;
    let suspended =
        app.db.change_now(|conn| Ok(domain::set_suspended(conn, id, true)?), |conn| app.directory.catch_up(conn));
    suspended.expect("the database answers");
    target.gets("of a suspended domain", &expired, REVOKED);
}

#[test]
fn token_expiry__status_by_setting() {
    let gate = Gate::with(&[("EXPIRED_TOKEN_STATUS", "401")]);
    let (_, _, token) = gate.tenant("alice");
    gate.clock.advance(61);
    let reply = gate.get("/v1/test").token(&token).send();
    reply.refused(401, "expired");
    assert!(reply.header("www-authenticate").is_some_and(|challenge| challenge.contains("invalid_token")));
}
