//! Headers that name another algorithm, another key or another way to read the token.

use std::net::TcpListener;

use aws_lc_rs::hmac;
use gatebird::db::schema;

use super::signer::{message, with_signature};
use super::{GOOD, INVALID, Target, append, kid, prepend, split, texts};
use crate::harness::{JWT_SECRET, Value, json, mint_with, parts};

#[test]
fn alg_header__must_be_the_keys_own() {
    Target::each(|target| {
        let names = [
            "none",
            "None",
            "NONE",
            "nOnE",
            "noNe",
            "none ",
            "",
            "HS256",
            "Hs256",
            "HS384",
            "HS512",
            "HS1",
            "RS256",
            "RS384",
            "RS512",
            "PS256",
            "ES256",
            "ES384",
            "ES256K",
            "EdDSA",
            "Ed25519",
            "dir",
            "A128KW",
            "RSA-OAEP",
            "ECDH-ES",
            "PBES2-HS256+A128KW",
            "HMAC",
            "SHA256",
            "ΗS256",
        ];
        let own = target.algorithm.name();
        let near = [own.to_lowercase(), format!("{own} "), format!(" {own}"), format!("{own}\0"), own[..4].to_owned()];
        let others = names.into_iter().filter(|name| *name != own);
        for name in others.chain(near.iter().map(String::as_str)) {
            let signed = target.with_header(|header| header["alg"] = name.into());
            target.gets(name, &signed, INVALID);
            let [header, payload, _] = split(&signed);
            target.gets(name, &format!("{header}.{payload}."), INVALID);
        }
        for (name, alg) in [
            ("null", Value::Null),
            ("a number", json!(256)),
            ("true", json!(true)),
            ("an array", json!([own])),
            ("an object", json!({ "alg": own })),
        ] {
            target.gets(name, &target.with_header(|header| header["alg"] = alg), INVALID);
        }
        target.gets("the good token", &target.token, GOOD);
    });
}

/// Signed with the server's key, but with a longer hash.
#[test]
fn hs256__longer_hashes_are_refused() {
    let target = Target::new();
    for (name, algorithm) in [("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)] {
        for alg in [name, "HS256"] {
            let (mut header, claims) = parts(&target.token);
            header["alg"] = alg.into();
            let message = message(&header.to_string(), &claims.to_string());
            let signature = hmac::sign(&hmac::Key::new(algorithm, JWT_SECRET.as_bytes()), message.as_bytes());
            target.gets(name, &with_signature(&message, signature.as_ref()), INVALID);
        }
    }
}

#[test]
fn token_header__malformed() {
    let target = Target::new();
    target.refuses(&[
        ("alg missing", |t| t.with_header(|header| drop(header.as_object_mut().expect("object").remove("alg")))),
        ("kid missing", |t| t.with_header(|header| drop(header.as_object_mut().expect("object").remove("kid")))),
        ("typ missing", |t| t.with_header(|header| drop(header.as_object_mut().expect("object").remove("typ")))),
        ("header is an empty object", |t| t.mint("{}", &texts(&t.token).1)),
        ("header is empty", |t| t.mint("", &texts(&t.token).1)),
        ("header is null", |t| t.mint("null", &texts(&t.token).1)),
        ("header is an array", |t| {
            let kid = parts(&t.token).0["kid"].clone();
            t.mint(&json!([t.algorithm.name(), kid, "at+jwt"]).to_string(), &texts(&t.token).1)
        }),
        ("header is a string", |t| t.mint("\"HS256\"", &texts(&t.token).1)),
        ("header is no UTF-8", |t| {
            let header = base64::Engine::encode(
                &base64::engine::general_purpose::URL_SAFE_NO_PAD,
                [&b"{\"\xFF\":1,"[..], &texts(&t.token).0.as_bytes()[1..]].concat(),
            );
            t.signed(&format!("{header}.{}", split(&t.token)[1]))
        }),
        ("text behind the header", |t| t.mint(&format!("{}x", texts(&t.token).0), &texts(&t.token).1)),
        ("byte order mark", |t| t.mint(&format!("\u{FEFF}{}", texts(&t.token).0), &texts(&t.token).1)),
        ("comment", |t| t.mint(&format!("/**/{}", texts(&t.token).0), &texts(&t.token).1)),
        ("member in capitals", |t| t.mint(&texts(&t.token).0.replace("\"alg\"", "\"ALG\""), &texts(&t.token).1)),
    ])
}

#[test]
fn token_header__repeated_member() {
    let target = Target::new();
    let (header, claims) = texts(&target.token);
    for member in [
        r#""alg":"none""#,
        r#""alg":"HS256""#,
        r#""\u0061lg":"none""#,
        r#""a\u006cg":"HS256""#,
        r#""typ":"JWT""#,
        r#""typ":"at+jwt""#,
        r#""\u0074yp":"at+jwt""#,
        r#""kid":"other""#,
        r#""k\u0069\u0064":"other""#,
        r#""other":1,"other":1"#,
        r#""other":1,"\u006fther":2"#,
        r#""":1,"":2"#,
    ] {
        for changed in [append(&header, member), prepend(&header, member)] {
            target.gets(&changed, &target.mint(&changed, &claims), INVALID);
        }
    }
    // A single unknown member is allowed (RFC 7515 §4).
    let changed = append(&header, r#""other":1"#);
    target.gets(&changed, &target.mint(&changed, &claims), GOOD);
}

#[test]
fn kid_header__injection_attempts() {
    Target::each(|target| {
        let before = rows(target);
        let own = kid(&target.token);
        let near = [own.to_lowercase(), own.to_uppercase(), format!("{own} "), format!(" {own}"), format!("{own}\0")];
        let long = "k".repeat(5000);
        let kids = [
            "",
            "0",
            "unknown",
            "default",
            "../../../../dev/null",
            "../../../../../../../../dev/null",
            "/dev/null",
            "C:\\NUL",
            "file:///dev/null",
            "/proc/sys/kernel/randomize_va_space",
            "../data/jwt_secret",
            "' UNION SELECT 'AAAA'-- ",
            "x';DROP TABLE users;--",
            "x' OR '1'='1",
            "\" OR 1=1 --",
            "'; SELECT pg_sleep(10)--",
            "|sleep 10",
            "`sleep 10`",
            "$(sleep 10)",
            "; sleep 10",
            "${jndi:ldap://127.0.0.1/a}",
            "<%=7*7%>",
            "{{7*7}}",
            "#{7*7}",
            "%n%n%n%s",
            "\r\nX-Injected: 1",
            "키",
            "\u{202E}",
            &long,
        ];
        for kid in kids.into_iter().chain(near.iter().map(String::as_str)) {
            target.gets(kid, &target.with_header(|header| header["kid"] = kid.into()), INVALID);
            for key in [JWT_SECRET, ""] {
                let (mut header, claims) = parts(&target.token);
                header["alg"] = "HS256".into();
                header["kid"] = kid.into();
                target.gets(kid, &mint_with(&header.to_string(), &claims.to_string(), key.as_bytes()), INVALID);
            }
        }
        for kid in [Value::Null, json!(0), json!(true), json!([own]), json!({"kid": own}), json!(1.5)] {
            target.gets(&kid.to_string(), &target.with_header(|header| header["kid"] = kid.clone()), INVALID);
        }
        assert_eq!(rows(target), before);
        target.gets("the good token", &target.token, GOOD);
    });
}

fn rows(target: &Target) -> (i64, i64) {
    use diesel::prelude::*;
    let counted = target.gate.app.db.read_now(|conn| {
        let users = schema::users::table.count().get_result(conn)?;
        Ok((users, schema::secrets::table.count().get_result(conn)?))
    });
    counted.expect("both tables are there")
}

/// Members that change how a token is read, or by which key: refused even under the server's own signature, and nothing
/// is fetched.
#[test]
fn token_header__members_that_change_the_meaning() {
    Target::each(|target| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("http://{}/keys.json", listener.local_addr().expect("bound"));
        let oct = json!({"kty": "oct", "k": ""});
        let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"});
        for (member, values) in [
            ("jku", vec![json!(url), json!(""), json!([]), Value::Null]),
            ("x5u", vec![json!(url), json!(""), json!(1), Value::Null]),
            ("jwk", vec![oct, rsa, json!({}), json!("k"), Value::Null]),
            ("x5c", vec![json!(["MIIB"]), json!([]), json!("MIIB"), Value::Null]),
            ("zip", vec![json!("DEF"), json!(""), Value::Null]),
            ("b64", vec![json!(false), json!(true), json!("false"), Value::Null]),
            (
                "crit",
                vec![json!(["exp"]), json!(["foo"]), json!(["b64"]), json!([]), json!("foo"), json!([1]), Value::Null],
            ),
        ] {
            for value in values {
                let name = format!("{member}: {value}");
                let ours = target.with_header(|header| {
                    header[member] = value.clone();
                    header["foo"] = json!("present");
                });
                target.gets(&name, &ours, INVALID);
                let (header, claims) = texts(&ours);
                target.gets(&name, &mint_with(&header, &claims, b""), INVALID);
            }
        }
        let spelt = append(&texts(&target.token).0, r#""cr\u0069t":["exp"]"#);
        target.gets("crit with an escape", &target.mint(&spelt, &texts(&target.token).1), INVALID);
        let unencoded = target.with_header(|header| {
            header["b64"] = json!(false);
            header["crit"] = json!(["b64"]);
        });
        target.gets("RFC 7797", &unencoded, INVALID);
        assert!(listener.accept().is_err(), "the server connected to the URL in a header");
        target.gets("the good token", &target.token, GOOD);
    });
}

#[test]
fn typ_header__of_another_kind_of_token() {
    let target = Target::new();
    let types = [
        "",
        "jwt",
        "Jwt",
        "JWT ",
        "AT+JWT",
        "At+Jwt",
        "at+JWT",
        "at+jwt ",
        "application/at+jwt",
        "application/jwt",
        "JOSE",
        "JWS",
        "JWE",
        "refresh+jwt",
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "id+jwt",
        "session",
        "reset+jwt",
        "password-reset+jwt",
        "email-verify+jwt",
        "token-introspection+jwt",
        "client-authentication+jwt",
    ];
    for (owner, token) in [("client", &target.token), ("user", &target.user.token)] {
        for typ in types {
            let name = format!("{owner}'s {typ:?}");
            target.gets(&name, &target.key.resigned(token, |header, _| header["typ"] = typ.into()), INVALID);
        }
        for typ in [Value::Null, json!(1), json!(["at+jwt", "JWT"]), json!({})] {
            let name = format!("{owner}'s {typ}");
            target.gets(&name, &target.key.resigned(token, |header, _| header["typ"] = typ.clone()), INVALID);
        }
    }
    let swapped = target.key.resigned(&target.token, |header, _| header["typ"] = "JWT".into());
    target.gets("a client's claims as a user token", &swapped, INVALID);
    let swapped = target.key.resigned(&target.user.token, |header, _| header["typ"] = "at+jwt".into());
    target.gets("a user's claims as an access token", &swapped, INVALID);
    target.gets("the good access token", &target.token, GOOD);
    target.gets("the good user token", &target.user.token, GOOD);
}
